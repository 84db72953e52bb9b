/**
 * Files on this machine named by their SHA-256: `ab/cdef...`. Read-only, never changed, put by renaming
 * what is complete and on disk. The whole of a folder store's content, and the cache of a remote one.
 */
import { join } from "node:path";
import { type Disk, type FileDigest, removeQuietly, withFolder } from "./files.ts";
import { temporaryName } from "./owner.ts";

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
    if (consume) {
      const digest = await this.#disk.digest(path, true);
      await this.#put(path, digest.sha256);
      return digest;
    }
    const temporary = this.temporary();
    try {
      const digest = await withFolder(temporary, () => this.#disk.copyNew(path, temporary));
      await this.#put(temporary, digest.sha256);
      return digest;
    } catch (error) {
      await removeQuietly(temporary);
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
