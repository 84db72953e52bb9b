/**
 * A lock between processes of one machine, on a file. The operating system lets go of it when its
 * holder dies, however it dies.
 */
import { removeSmall, withFolder } from "./files.ts";

const POLL_MS = 50;

export interface FileLock {
  /** Lets go; the file is removed, so that locks leave nothing behind. */
  release(): Promise<void>;
}

/** Waits for the lock at `path`. Rejects with the signal's reason when it aborts first. */
export async function lockFile(path: string, signal?: AbortSignal): Promise<FileLock> {
  for (;;) {
    signal?.throwIfAborted();
    const file = await withFolder(path, () => openLockFile(path));
    if (!file.tryLockSync(true)) {
      file.close();
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      continue;
    }
    // The last holder may have removed the file between our opening and locking it.
    if (inodeOf(path) === file.statSync().ino) {
      return {
        async release() {
          await removeSmall(path);
          file.close();
        },
      };
    }
    file.close();
  }
}

/** Opens a file to be locked; makes it where it is missing. */
// deno-lint-ignore require-await -- what it throws is to reject
export async function openLockFile(path: string): Promise<Deno.FsFile> {
  return Deno.openSync(path, { read: true, write: true, create: true });
}

function inodeOf(path: string): number | null | undefined {
  try {
    return Deno.statSync(path).ino;
  } catch {
    return undefined;
  }
}
