/** Opens a store by its location. */
import type { Store } from "./store.ts";
import { FolderStore } from "./store_folder.ts";
import { S3Store } from "./store_s3.ts";

/** Opens the store at `location`: `s3://BUCKET/PREFIX?endpoint=URL`, or a folder. */
export function openStore(location: string): Store {
  return location.startsWith("s3://") ? new S3Store(location) : new FolderStore(location);
}
