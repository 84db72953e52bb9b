/**
 * Files on this machine named by their SHA-256: `ab/cdef...`. Read-only, never changed, put by renaming
 * what is complete and on disk. The whole of a folder store's content, and the cache of a remote one.
 */
import { join } from "node:path";
import { type Disk, type FileDigest, removeSmall, withFolder } from "./files.ts";
import { temporaryName } from "./owner.ts";

/** A file that has been read, on its way in. */
export interface TakenFile {
  readonly digest: FileDigest;
  /** Resolves when the disk has it; only then may it be put. */
  readonly onDisk: Promise<void>;
  /** Gives it its name. */
  put(): Promise<void>;
  /** To be called in the end, whatever happened: nothing unfinished stays. */
  drop(): Promise<void>;
}

export class BlobFolder {
  readonly #folder: string;
  readonly #temporaries: string;
  readonly #disk: Disk;

  /** @param temporaries a folder of the same file system, for what is not complete yet */
  constructor(folder: string, temporaries: string, disk: Disk) {
    this.#folder = folder;
    this.#temporaries = temporaries;
    this.#disk = disk;
  }

  path(sha256: string): string {
    return join(this.#folder, sha256.slice(0, 2), sha256.slice(2));
  }

  temporary(): string {
    return join(this.#temporaries, temporaryName());
  }

  /** Takes a file in: away from where it is (`consume`), or a copy of it. */
  async keep(path: string, consume: boolean): Promise<FileDigest> {
    const taken = await this.take(path, consume);
    try {
      await taken.onDisk;
      await taken.put();
    } finally {
      await taken.drop();
    }
    return taken.digest;
  }

  /** The first half of `keep`, for those who have other things to do while the disk writes. */
  async take(path: string, consume: boolean): Promise<TakenFile> {
    if (consume) {
      // The disk writes while the hash is computed.
      const onDisk = this.#disk.sync(path);
      onDisk.catch(() => {}); // whoever needs it awaits it
      const digest = await this.#disk.digest(path);
      return { digest, onDisk, put: () => this.#put(path, digest.sha256), drop: async () => {} };
    }
    const temporary = this.temporary();
    const drop = () => removeSmall(temporary);
    try {
      const digest = await withFolder(temporary, () => this.#disk.copyNew(path, temporary));
      const put = () => this.#put(temporary, digest.sha256);
      return { digest, onDisk: Promise.resolve(), put, drop };
    } catch (error) {
      await drop();
      throw error;
    }
  }

  /** Whether the bytes are those of the name: every one of them is read. */
  async check(sha256: string): Promise<"sound" | "damaged" | "missing"> {
    try {
      const found = await this.#disk.digest(this.path(sha256));
      return found.sha256 === sha256 ? "sound" : "damaged";
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return "missing";
      throw error;
    }
  }

  /** Makes the file appear at `target`, in a folder that is made where it is missing. */
  async lay(sha256: string, target: string): Promise<void> {
    await withFolder(target, () => this.#disk.link(this.path(sha256), target));
  }

  async #put(path: string, sha256: string): Promise<void> {
    Deno.chmodSync(path, 0o444);
    // A file of the same name is replaced by the same bytes, which also mends a damaged one.
    const target = this.path(sha256);
    await withFolder(target, () => this.#disk.rename(path, target));
  }
}
