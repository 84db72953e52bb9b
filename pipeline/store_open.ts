/** Opens a store by its location. */
import type { Store } from "./store.ts";
import { FolderStore } from "./store_folder.ts";

/** Opens the store at `location`: a folder. */
export function openStore(location: string): Store {
  return new FolderStore(location);
}
