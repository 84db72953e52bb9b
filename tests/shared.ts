/**
 * Reference data beside the repository: golden files, oracles, public data sets, a real model. They
 * are found in the folder that `SHARED` names, `../shared` by default, and never needed by the product.
 */
import { readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/**
 * Paths of the files in `folder` (relative to the reference data) whose names match, sorted. Says
 * what it found. Where there is none it says that tests are skipped and returns [], unless `SHARED`
 * is set: who names a folder of golden files or oracles means to use it. Other data may be left out
 * of such a folder: `optional`.
 * @throws {Error} where `SHARED` is set and has no such file, and they are not optional
 */
export function sharedFiles(folder: string, pattern = /./, { optional = false } = {}): string[] {
  const given = Deno.env.get("SHARED");
  const path = join(resolve(root, given ?? "../shared"), folder);
  const names = namesIn(path).filter((name) => pattern.test(name)).sort();
  if (names.length === 0) {
    const missing = `no file like ${pattern} in ${path}`;
    if (given !== undefined && !optional) throw new Error(`SHARED is set, but there is ${missing}`);
    console.log(`skipped: ${missing} (set SHARED to the folder with the reference data)`);
  } else console.log(`${path}: ${names.join(", ")}`);
  return names.map((name) => join(path, name));
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
