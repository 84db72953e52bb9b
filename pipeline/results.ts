/** Puts a run's named results where its user wants them, as files of their own. */
import { basename, dirname, join } from "node:path";
import { explainDisk, removeQuietly } from "./files.ts";
import type { Store } from "./store.ts";

/**
 * Copies artifacts into `out`, each as a folder of its name; `.` puts the files into `out` itself.
 * Each appears as a whole, replacing what was there under its name.
 *
 * @param workspace a folder for what is under way
 */
export async function writeResults(
  artifacts: Readonly<Record<string, string>>,
  out: string,
  store: Store,
  workspace: string,
): Promise<void> {
  try {
    await Deno.mkdir(out, { recursive: true });
    for (const [name, id] of Object.entries(artifacts)) {
      const source = join(workspace, "results", name === "." ? "_" : name);
      await removeQuietly(source);
      await store.materialise(id, source);
      if (name === ".") {
        for await (const entry of Deno.readDir(source)) {
          await put(join(source, entry.name), join(out, entry.name));
        }
      } else {
        await put(source, join(out, name));
      }
    }
  } catch (error) {
    throw explainDisk(error, `writing the results to ${out}`);
  }
}

/** Copies beside the target first, since the store may be on another disk, then renames. */
async function put(source: string, target: string): Promise<void> {
  const temporary = join(dirname(target), `.${basename(target)}.${crypto.randomUUID()}.tmp`);
  const old = `${temporary}.old`;
  try {
    await copy(source, temporary);
    try {
      await Deno.rename(target, old);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    await Deno.rename(temporary, target);
  } finally {
    await removeQuietly(temporary);
    await removeQuietly(old);
  }
}

async function copy(source: string, target: string): Promise<void> {
  if ((await Deno.lstat(source)).isFile) {
    await Deno.copyFile(source, target);
    // The store's files are read-only; these are the user's own.
    await Deno.chmod(target, 0o644);
    return;
  }
  await Deno.mkdir(target);
  for await (const { name } of Deno.readDir(source)) {
    await copy(join(source, name), join(target, name));
  }
}
