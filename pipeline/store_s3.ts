/**
 * The store in S3-compatible storage, for runs on many machines. The keys are those of the folder store
 * (`store_folder.ts`). Files that this machine has made or used stay in a cache folder; each is checked
 * against its hash whenever it is laid out, wherever it came from.
 */
import { join, resolve } from "node:path";
import { BlobFolder } from "./blobs.ts";
import { explainDisk, localDisk, removeQuietly, withFolder } from "./files.ts";
import { sha256 as hashText } from "./hash.ts";
import { Bucket } from "./s3_bucket.ts";
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

const LOOKUPS_AT_A_TIME = 8;
const COLLECT_LOCK = "collect.lock";
/** A collection that has not ended after so long is taken for dead. */
const COLLECT_LIMIT_MS = 60 * 60_000;
/** An upload that began so long ago was left by a process that died. */
const UPLOAD_LIMIT_MS = 24 * 60 * 60_000;

export class S3Store implements Store {
  readonly location: string;
  readonly workspace: string;
  readonly #bucket: Bucket;
  readonly #cache: BlobFolder;

  /**
   * @param location `s3://BUCKET/PREFIX?endpoint=URL&cache=FOLDER`; `cache` is a folder of this
   *   machine, by default in `.oreo/remote`
   */
  constructor(location: string) {
    this.#bucket = new Bucket(location);
    this.location = location;
    this.workspace = resolve(
      new URL(location).searchParams.get("cache") ??
        join(".oreo", "remote", hashText(location).slice(0, 12)),
    );
    const temporaries = join(this.workspace, "tmp");
    this.#cache = new BlobFolder(join(this.workspace, "blobs"), temporaries, localDisk);
  }

  async publish(
    sources: ReadonlyMap<string, string>,
    options: PublishOptions,
  ): Promise<string> {
    const files: ArtifactFiles = {};
    for (const [path, source] of sources) {
      try {
        files[path] = await this.#cache.keep(source, options.consume);
      } catch (error) {
        throw explainDisk(error, `storing ${source} in ${this.workspace}`);
      }
      const { sha256, size } = files[path];
      if (await this.#bucket.size(blobKey(sha256)) !== size) {
        await this.#bucket.upload(blobKey(sha256), this.#cache.path(sha256));
      }
    }
    const { kind, version, lineage, values } = options;
    const id = artifactId(kind, version, files);
    const manifest: Manifest = { schema: STORE_SCHEMA, kind, version, files, lineage, values };
    // What is there already is put again as it is, which says that it is wanted now.
    const known = await this.manifest(id).catch(() => manifest);
    await this.#bucket.putText(manifestKey(id), JSON.stringify(known) + "\n");
    return id;
  }

  async has(id: string): Promise<boolean> {
    const manifest = await this.manifest(id).catch((error) => {
      if (error.artifact === id) return undefined;
      throw error;
    });
    if (manifest === undefined) return false;
    const files = Object.values(manifest.files);
    for (let i = 0; i < files.length; i += LOOKUPS_AT_A_TIME) {
      const sizes = await Promise.all(
        files.slice(i, i + LOOKUPS_AT_A_TIME).map(async ({ sha256, size }) =>
          await this.#bucket.size(blobKey(sha256)) === size
        ),
      );
      if (sizes.includes(false)) return false;
    }
    return true;
  }

  async manifest(id: string): Promise<Manifest> {
    const text = await this.#bucket.getText(manifestKey(id));
    if (text === undefined) throw damagedManifest(id, "missing", undefined);
    try {
      return parseManifest(id, text);
    } catch (cause) {
      await this.#setAside(manifestKey(id));
      throw damagedManifest(id, "damaged", cause);
    }
  }

  async materialise(id: string, folder: string): Promise<void> {
    const manifest = await this.manifest(id);
    await Deno.mkdir(folder, { recursive: true });
    for (const [path, { sha256 }] of Object.entries(manifest.files)) {
      const state = await this.#fetch(sha256);
      if (state !== "sound") throw damagedFile(id, path, state);
      const target = join(folder, path);
      try {
        await this.#cache.lay(sha256, target);
      } catch (error) {
        throw explainDisk(error, `laying out ${target}`);
      }
    }
  }

  async record(key: string, code: string | undefined): Promise<WorkRecord | undefined> {
    let object: string | undefined;
    if (code !== undefined) object = recordKey(key, code);
    else {
      let latest = -1;
      for await (const entry of this.#bucket.list(recordKey(key, "").replace(/none\.json$/, ""))) {
        if (entry.changed > latest) [object, latest] = [entry.key, entry.changed];
      }
    }
    const text = object === undefined ? undefined : await this.#bucket.getText(object);
    return text === undefined ? undefined : parseRecord(text);
  }

  async putRecord(record: WorkRecord): Promise<WorkRecord> {
    const key = recordKey(record.key, record.code);
    const text = JSON.stringify(record) + "\n";
    if (await this.#bucket.putText(key, text, { ifAbsent: true })) return record;
    for (;;) {
      const found = await this.#bucket.getTagged(key);
      const known = found === undefined ? undefined : parseRecord(found.text);
      if (known !== undefined && await isWhole(known, this)) return known;
      // Only in place of what was looked at: somebody else may be mending it, too.
      const condition = found === undefined ? { ifAbsent: true } : { ifTag: found.tag };
      if (await this.#bucket.putText(key, text, condition)) return record;
    }
  }

  /** Where a collection began meanwhile, `body` is done again after it: so it had better be short. */
  async whileKept<T>(body: () => Promise<T>): Promise<T> {
    for (;;) {
      await this.#untilCollected();
      const result = await body();
      if (!await this.#isCollecting()) return result;
    }
  }

  async whileCollecting<T>(body: () => Promise<T>): Promise<T> {
    do await this.#untilCollected(); while (
      !await this.#bucket.putText(COLLECT_LOCK, String(Date.now()), { ifAbsent: true })
    );
    try {
      return await body();
    } finally {
      await this.#bucket.remove(COLLECT_LOCK);
    }
  }

  async *entries(place: StorePlace): AsyncIterable<StoreEntry> {
    for await (const { key, size, changed } of this.#bucket.list(`${place}/`)) {
      const path = key.slice(place.length + 1);
      yield { name: (path.slice(0, 2) + path.slice(3)).replace(/\.json$/, ""), size, changed };
    }
  }

  async remove(place: StorePlace, name: string): Promise<void> {
    if (place === "blobs") {
      await removeQuietly(this.#cache.path(name));
      await this.#bucket.remove(blobKey(name));
    } else if (place === "artifacts") await this.#bucket.remove(manifestKey(name));
    else await this.#bucket.remove(recordKey(...name.split("/") as [string, string]));
  }

  async verifyBlob(sha256: string): Promise<boolean> {
    await removeQuietly(this.#cache.path(sha256));
    return await this.#fetch(sha256) === "sound";
  }

  async sweep(): Promise<void> {
    await sweepWorkspace(this.workspace);
    for await (const { key } of this.#bucket.list("corrupt/")) await this.#bucket.remove(key);
    await this.#bucket.abortUploads(Date.now() - UPLOAD_LIMIT_MS);
  }

  /** Has a file in the cache, whole and right, if the storage has it so. */
  async #fetch(sha256: string): Promise<"sound" | "damaged" | "missing"> {
    const cached = await this.#cache.check(sha256);
    if (cached === "sound") return cached;
    if (cached === "damaged") await removeQuietly(this.#cache.path(sha256));
    const temporary = this.#cache.temporary();
    try {
      const download = () =>
        withFolder(temporary, () => this.#bucket.download(blobKey(sha256), temporary));
      let found = await download();
      // Once more, since it may have been damaged on its way only.
      if (found !== undefined && found.sha256 !== sha256) found = await download();
      if (found === undefined) return "missing";
      if (found.sha256 !== sha256) {
        await this.#setAside(blobKey(sha256));
        return "damaged";
      }
      await this.#cache.keep(temporary, true);
      return "sound";
    } catch (error) {
      throw explainDisk(error, `downloading to ${this.workspace}`);
    } finally {
      await removeQuietly(temporary);
    }
  }

  async #isCollecting(): Promise<boolean> {
    const since = await this.#bucket.getText(COLLECT_LOCK);
    return since !== undefined && Date.now() - Number(since) < COLLECT_LIMIT_MS;
  }

  async #untilCollected(): Promise<void> {
    while (await this.#isCollecting()) await new Promise((resolve) => setTimeout(resolve, 500));
    // A lock that has run out is of a process that died.
    if (await this.#bucket.size(COLLECT_LOCK) !== undefined && !await this.#isCollecting()) {
      await this.#bucket.remove(COLLECT_LOCK);
    }
  }

  async #setAside(key: string): Promise<void> {
    await this.#bucket.move(key, `corrupt/${key.replaceAll("/", "_")}.${Date.now()}`);
  }
}

function blobKey(sha256: string): string {
  return `blobs/${sha256.slice(0, 2)}/${sha256.slice(2)}`;
}

function manifestKey(id: string): string {
  checkId(id);
  return `artifacts/${id.slice(0, 2)}/${id.slice(2)}.json`;
}

function recordKey(key: string, code: string): string {
  checkId(key);
  return `records/${key.slice(0, 2)}/${key.slice(2)}/${code || "none"}.json`;
}
