/**
 * A lock between processes of one machine, on a file. The operating system lets go of it when its
 * holder dies, however it dies.
 */
import { dirname } from "node:path";

const POLL_MS = 50;

export interface FileLock {
  /** Lets go; the file is removed, so that locks leave nothing behind. */
  release(): Promise<void>;
}

/** Waits for the lock at `path`. Rejects with the signal's reason when it aborts first. */
export async function lockFile(path: string, signal?: AbortSignal): Promise<FileLock> {
  await Deno.mkdir(dirname(path), { recursive: true });
  for (;;) {
    signal?.throwIfAborted();
    const file = await Deno.open(path, { read: true, write: true, create: true });
    if (!await file.tryLock(true)) {
      file.close();
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      continue;
    }
    // The last holder may have removed the file between our opening and locking it.
    const [held, named] = [await file.stat(), await Deno.stat(path).catch(() => undefined)];
    if (named !== undefined && named.ino === held.ino) {
      return {
        async release() {
          await Deno.remove(path).catch(() => {});
          file.close();
        },
      };
    }
    file.close();
  }
}
