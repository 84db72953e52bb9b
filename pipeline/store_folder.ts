/**
 * The store on a folder:
 *
 *     blobs/ab/cdef...        a file's bytes, named by their SHA-256; read-only, never changed
 *     artifacts/ab/cdef....json  manifests, named by artifact id
 *     records/ab/KEY/CODE.json   what work led to
 *     corrupt/                files that did not match their hash
 *     tmp/, work/, scratch/   what is not published yet
 *
 * Each file is written under a temporary name, flushed to disk and renamed; a manifest comes after its
 * blobs, a record after its manifests. A file that several artifacts share is stored once.
 */
import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { BlobFolder, type TakenFile } from "./blobs.ts";
import {
  type Disk,
  explainDisk,
  filesBelow,
  localDisk,
  removeQuietly,
  withFolder,
  writeAtomically,
} from "./files.ts";
import {
  type ArtifactFiles,
  artifactId,
  checkId,
  damagedFile,
  damagedManifest,
  isWhole,
  type Manifest,
  parseManifest,
  parseRecord,
  type PublishOptions,
  type Store,
  STORE_SCHEMA,
  type StoreEntry,
  type StorePlace,
  type WorkRecord,
} from "./store.ts";
import { sweepWorkspace } from "./sweep.ts";
import { openLockFile } from "./lock.ts";

/** So many files of an artifact are written to the disk at a time. */
const SYNCS_AT_A_TIME = 32;

/** Opens the store in a folder; the folder is made with the first thing that is kept. */
export class FolderStore implements Store {
  readonly location: string;
  readonly #disk: Disk;
  readonly #blobs: BlobFolder;

  constructor(folder: string, disk: Disk = localDisk) {
    this.location = resolve(folder);
    this.#disk = disk;
    this.#blobs = new BlobFolder(join(this.location, "blobs"), join(this.location, "tmp"), disk);
  }

  get workspace(): string {
    return this.location;
  }

  async publish(
    sources: ReadonlyMap<string, string>,
    options: PublishOptions,
  ): Promise<string> {
    const taken: TakenFile[] = [];
    try {
      const files: ArtifactFiles = {};
      for (const [path, source] of sources) {
        try {
          const file = await this.#blobs.take(source, options.consume);
          taken.push(file);
          files[path] = file.digest;
          if (taken.length % SYNCS_AT_A_TIME === 0) {
            await Promise.all(taken.slice(-SYNCS_AT_A_TIME).map((one) => one.onDisk));
          }
        } catch (error) {
          throw explainDisk(error, `storing ${source} in ${this.location}`);
        }
      }
      const { kind, version, lineage, values } = options;
      const id = artifactId(kind, version, files);
      const manifest: Manifest = { schema: STORE_SCHEMA, kind, version, files, lineage, values };
      await this.#put(id, manifest, taken);
      return id;
    } finally {
      for (const file of taken) await file.drop();
    }
  }

  /** The disk is waited for once, for the files and the manifest; their names come in order. */
  async #put(id: string, manifest: Manifest, taken: readonly TakenFile[]): Promise<void> {
    let waiting = taken;
    const putFiles = async () => {
      try {
        await Promise.all(waiting.map((file) => file.onDisk));
        for (const file of waiting) await file.put();
        waiting = [];
      } catch (error) {
        throw explainDisk(error, `storing an artifact in ${this.location}`);
      }
    };
    const path = this.#manifestPath(id);
    const known = existsSync(path) && await this.#readManifest(id).catch(() => undefined);
    if (known) {
      await putFiles();
      // Says that it is wanted now: see `collectGarbage`, which may just have removed it.
      const now = new Date();
      try {
        Deno.utimeSync(path, now, now);
        return;
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
    await this.#write(path, manifest, putFiles);
  }

  async has(id: string): Promise<boolean> {
    const manifest = await this.#readManifest(id).catch(() => undefined);
    if (manifest === undefined) return false;
    for (const { sha256, size } of Object.values(manifest.files)) {
      const stat = await Deno.stat(this.#blobs.path(sha256)).catch(() => undefined);
      if (stat === undefined || !stat.isFile || stat.size !== size) return false;
    }
    return true;
  }

  async manifest(id: string): Promise<Manifest> {
    try {
      return await this.#readManifest(id);
    } catch (cause) {
      const missing = cause instanceof Deno.errors.NotFound;
      if (!missing) await this.#setAside(this.#manifestPath(id));
      throw damagedManifest(id, missing ? "missing" : "damaged", cause);
    }
  }

  async materialise(id: string, folder: string): Promise<void> {
    const manifest = await this.manifest(id);
    await Deno.mkdir(folder, { recursive: true });
    for (const [path, { sha256 }] of Object.entries(manifest.files)) {
      const state = await this.#blobs.check(sha256);
      if (state !== "sound") {
        if (state === "damaged") await this.#setAside(this.#blobs.path(sha256));
        throw damagedFile(id, path, state);
      }
      const target = join(folder, path);
      try {
        await this.#blobs.lay(sha256, target);
      } catch (error) {
        throw explainDisk(error, `laying out ${target}`);
      }
    }
  }

  async record(key: string, code: string | undefined): Promise<WorkRecord | undefined> {
    if (code !== undefined) return await this.#readRecord(this.#recordPath(key, code));
    const folder = dirname(this.#recordPath(key, ""));
    let newest: { path: string; time: number } | undefined;
    try {
      for await (const { name } of Deno.readDir(folder)) {
        if (!name.endsWith(".json")) continue;
        const path = join(folder, name);
        const time = (await Deno.stat(path)).mtime?.getTime() ?? 0;
        if (newest === undefined || time > newest.time) newest = { path, time };
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    return newest === undefined ? undefined : await this.#readRecord(newest.path);
  }

  /** Those who do the same work on this folder take turns: see `Attempts`. */
  async putRecord(record: WorkRecord): Promise<WorkRecord> {
    const path = this.#recordPath(record.key, record.code);
    const known = await this.#readRecord(path);
    if (known !== undefined && await isWhole(known, this)) return known;
    await this.#write(path, record);
    return record;
  }

  async whileKept<T>(body: () => Promise<T>): Promise<T> {
    using file = await this.#openLock();
    if (!file.tryLockSync(false)) await file.lock(false);
    return await body();
  }

  async whileCollecting<T>(body: () => Promise<T>): Promise<T> {
    using file = await this.#openLock();
    await file.lock(true);
    return await body();
  }

  async *entries(place: StorePlace): AsyncIterable<StoreEntry> {
    const root = join(this.location, place);
    for (const [path, full] of await filesBelow(root).catch(missingAsEmpty)) {
      const { size, ctime } = await Deno.stat(full);
      // ab/cdef... is one name in two parts.
      const name = (path.slice(0, 2) + path.slice(3)).replace(/\.json$/, "");
      yield { name, size, changed: ctime?.getTime() ?? 0 };
    }
  }

  async remove(place: StorePlace, name: string): Promise<void> {
    if (place === "records") {
      const path = this.#recordPath(...name.split("/") as [string, string]);
      await removeQuietly(path);
      await Deno.remove(dirname(path)).catch(() => {}); // unless it holds other records
    } else {await removeQuietly(
        place === "blobs" ? this.#blobs.path(name) : this.#manifestPath(name),
      );}
  }

  async verifyBlob(sha256: string): Promise<boolean> {
    const state = await this.#blobs.check(sha256);
    if (state === "damaged") await this.#setAside(this.#blobs.path(sha256));
    return state === "sound";
  }

  async sweep(): Promise<void> {
    await sweepWorkspace(this.workspace);
    await removeQuietly(join(this.location, "corrupt"));
  }

  /** The file whose lock, shared or exclusive, keeps garbage collection and lookups apart. */
  #openLock(): Promise<Deno.FsFile> {
    const path = join(this.location, "collect.lock");
    return withFolder(path, () => openLockFile(path));
  }

  async #readManifest(id: string): Promise<Manifest> {
    return parseManifest(id, await Deno.readTextFile(this.#manifestPath(id)));
  }

  async #readRecord(path: string): Promise<WorkRecord | undefined> {
    // Most of what a large graph asks for is not there; this finds it out quickest.
    if (!existsSync(path)) return undefined;
    let text: string;
    try {
      text = await Deno.readTextFile(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw explainDisk(error, `reading ${path}`);
    }
    return parseRecord(text);
  }

  async #write(path: string, value: unknown, before?: () => Promise<void>): Promise<void> {
    const text = JSON.stringify(value) + "\n";
    await writeAtomically(path, text, this.#disk, this.#blobs.temporary(), before);
  }

  async #setAside(path: string): Promise<void> {
    const name = `${path.slice(this.location.length + 1).replaceAll("/", "_")}.${Date.now()}`;
    const target = join(this.location, "corrupt", name);
    try {
      await withFolder(target, () => Deno.rename(path, target));
    } catch (error) {
      // Somebody else set it aside first.
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }

  #manifestPath(id: string): string {
    checkId(id);
    return join(this.location, "artifacts", id.slice(0, 2), `${id.slice(2)}.json`);
  }

  #recordPath(key: string, code: string): string {
    checkId(key);
    return join(this.location, "records", key.slice(0, 2), key.slice(2), `${code || "none"}.json`);
  }
}

function missingAsEmpty(error: unknown): Map<string, string> {
  if (error instanceof Deno.errors.NotFound) return new Map();
  throw error;
}
