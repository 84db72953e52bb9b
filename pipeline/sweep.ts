/** Clears away what runners and stages that were killed have left behind. */
import { join } from "node:path";
import { removeQuietly } from "./files.ts";
import { isLeftOver } from "./owner.ts";

/** Removes the temporary files and work folders of processes of this machine that have ended. */
export async function sweepWorkspace(workspace: string): Promise<void> {
  for (const folder of ["tmp", "work"]) {
    try {
      for await (const { name } of Deno.readDir(join(workspace, folder))) {
        if (isLeftOver(name)) await removeQuietly(join(workspace, folder, name));
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}
