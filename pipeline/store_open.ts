/** Opens a store by its location. */
import { UserError } from "../errors.ts";
import type { Store } from "./store.ts";
import { FolderStore } from "./store_folder.ts";
import { S3Store } from "./store_s3.ts";

/**
 * Opens the store at `location`: `s3://BUCKET/PREFIX?endpoint=URL`, or a folder.
 *
 * @throws UserError (wrong use) where something that is not a folder stands there
 */
export function openStore(location: string): Store {
  if (location.startsWith("s3://")) return new S3Store(location);
  if (isOther(location)) {
    throw new UserError(
      `opening the store ${location}: it is not a folder; name one with --store`,
      {
        exitCode: 2,
      },
    );
  }
  return new FolderStore(location);
}

function isOther(path: string): boolean {
  try {
    return !Deno.statSync(path).isDirectory;
  } catch (error) {
    return error instanceof Deno.errors.NotADirectory;
  }
}
