/**
 * The file operations of the store, in one place: each leaves a path either as it was or complete.
 * Tests put a failing disk in their place.
 *
 * What moves bytes or waits for the disk is asynchronous; what only changes names is not: handing that
 * to another thread takes several times as long as doing it, and a trivial stage is little else.
 */
import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { UserError } from "../errors.ts";

const CHUNK_BYTES = 1 << 20;
/** A file of no more is read and written at once, without another thread. */
const SMALL_BYTES = 1 << 16;

/** What the store asks of a disk. Replaceable, so that its failures can be tested. */
export interface Disk {
  /** Writes all of `data` to a new file and waits until the disk has it. */
  writeNew(path: string, data: Uint8Array): Promise<void>;
  /** Copies a file to a new one, waits until the disk has it, and returns the copy's SHA-256 and size. */
  copyNew(from: string, to: string): Promise<FileDigest>;
  /** The SHA-256 and size of a file. */
  digest(path: string): Promise<FileDigest>;
  /** Waits until the disk has the file. */
  sync(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** A second name for the same bytes; a copy where the file system cannot. */
  link(from: string, to: string): Promise<void>;
}

export interface FileDigest {
  sha256: string;
  size: number;
}

/** The machine's disk. */
export const localDisk: Disk = {
  async writeNew(path, data) {
    using file = Deno.openSync(path, { write: true, createNew: true });
    await writeAll(file, data);
    await file.sync();
  },

  async copyNew(from, to) {
    using source = await Deno.open(from);
    using target = await Deno.open(to, { write: true, createNew: true });
    const digest = await readThrough(source, (chunk) => writeAll(target, chunk));
    await target.sync();
    return digest;
  },

  async digest(path) {
    using file = Deno.openSync(path);
    return await readThrough(file);
  },

  async sync(path) {
    using file = Deno.openSync(path);
    await file.sync();
  },

  // deno-lint-ignore require-await -- what it throws is to reject
  async rename(from, to) {
    Deno.renameSync(from, to);
  },

  async link(from, to) {
    try {
      Deno.linkSync(from, to);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.AlreadyExists) {
        throw error;
      }
      await Deno.copyFile(from, to);
    }
  },
};

async function readThrough(
  file: Deno.FsFile,
  each?: (chunk: Uint8Array) => Promise<void>,
): Promise<FileDigest> {
  const hash = createHash("sha256");
  const { size: expected } = file.statSync();
  if (expected <= SMALL_BYTES && each === undefined) {
    const data = new Uint8Array(expected + 1);
    for (let size = 0; size < data.length;) {
      const count = file.readSync(data.subarray(size));
      if (count === null) {
        return { sha256: hash.update(data.subarray(0, size)).digest("hex"), size };
      }
      size += count;
    }
    throw new Error("a file grew while it was read");
  }
  const buffer = new Uint8Array(Math.max(1, Math.min(CHUNK_BYTES, expected + 1)));
  let size = 0;
  for (;;) {
    const count = await file.read(buffer);
    if (count === null) return { sha256: hash.digest("hex"), size };
    const chunk = buffer.subarray(0, count);
    hash.update(chunk);
    size += count;
    await each?.(chunk);
  }
}

async function writeAll(file: Deno.FsFile, data: Uint8Array): Promise<void> {
  const small = data.length <= SMALL_BYTES;
  for (let done = 0; done < data.length;) {
    const rest = data.subarray(done);
    const count = small ? file.writeSync(rest) : await file.write(rest);
    if (count === 0) throw new Error("the disk took no more bytes");
    done += count;
  }
}

/**
 * Puts `text` at `path` as a whole or not at all, whatever happens meanwhile.
 *
 * @param temporary where it is written first: a name of its own on the same file system
 * @param before what has to be done before it appears, once its bytes are on the disk
 */
export async function writeAtomically(
  path: string,
  text: string,
  disk: Disk,
  temporary: string,
  before: () => Promise<void> = async () => {},
): Promise<void> {
  const bytes = new TextEncoder().encode(text);
  try {
    await withFolder(temporary, () => disk.writeNew(temporary, bytes));
    await before();
    await withFolder(path, () => disk.rename(temporary, path));
  } catch (error) {
    await removeQuietly(temporary);
    throw explainDisk(error, `writing ${path}`);
  }
}

/** Runs `write`, and once more after making the folder of `path` where it is missing. */
export async function withFolder<T>(path: string, write: () => Promise<T>): Promise<T> {
  try {
    return await write();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    Deno.mkdirSync(dirname(path), { recursive: true });
    return await write();
  }
}

/** Removes a file or folder if it is there; what cannot be removed stays. */
export async function removeQuietly(path: string): Promise<void> {
  await Deno.remove(path, { recursive: true }).catch(() => {});
}

/**
 * As `removeQuietly`, for what most often is a file, an empty folder or gone by now: that is done at
 * once. What is in a folder may be large, and is left to another thread.
 */
export async function removeSmall(path: string): Promise<void> {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) await removeQuietly(path);
  }
}

/**
 * As `removeQuietly`, and at once: for a folder that holds little but further names of files, as that
 * of a stage whose inputs are links and whose outputs have moved.
 */
export function removeNames(folder: string): void {
  try {
    Deno.removeSync(folder, { recursive: true });
  } catch {
    // It stays.
  }
}

/** A full or read-only disk as an error a person can act on; any other error as it is. */
export function explainDisk(error: unknown, doing: string): unknown {
  if (!(error instanceof Error)) return error;
  const code = (error as { code?: string }).code;
  const text = `${code ?? ""} ${error.message}`;
  if (/ENOSPC|No space left|EDQUOT|quota exceeded|disk is full/i.test(text)) {
    return new UserError(
      `${doing}: the disk is full. Make room and start again; finished stages are kept`,
      { cause: error },
    );
  }
  if (/EROFS|Read-only file system/i.test(text)) {
    return new UserError(`${doing}: the file system is read-only`, { cause: error });
  }
  if (error instanceof Deno.errors.PermissionDenied) {
    return new UserError(`${doing}: permission denied`, { cause: error });
  }
  return error;
}

/**
 * The regular files below `folder`: their paths on disk by relative path with `/`, sorted.
 *
 * @throws UserError on a special file, and on a link unless `followLinks`
 */
export async function filesBelow(
  folder: string,
  options: { followLinks?: boolean } = {},
): Promise<Map<string, string>> {
  const found: [string, string][] = [];
  const walk = async (relative: string) => {
    for await (const entry of Deno.readDir(join(folder, relative))) {
      const path = relative === "" ? entry.name : `${relative}/${entry.name}`;
      const full = join(folder, path);
      const kind = entry.isSymlink && options.followLinks ? await Deno.stat(full) : entry;
      if (kind.isDirectory) await walk(path);
      else if (kind.isFile) found.push([path, full]);
      else throw new UserError(`${full} is a link or a special file: put a regular file there`);
    }
  };
  await walk("");
  return new Map(found.sort(([a], [b]) => (a < b ? -1 : 1)));
}
