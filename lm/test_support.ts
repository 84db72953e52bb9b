/** What the tests of this room share: where the golden files are and how to compare. */
import { existsSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/**
 * A folder below `$SHARED` (default `../shared`). Absent: prints one line and gives undefined, so that
 * the caller skips; but where SHARED is set and the folder is not there, throws.
 */
export function sharedFolder(path: string): string | undefined {
  const set = Deno.env.get("SHARED");
  const folder = resolve(root, set ?? "../shared", path);
  if (existsSync(folder)) return folder;
  if (set !== undefined) throw new Error(`SHARED=${set} has no ${path}`);
  console.log(`skipped: ${path} is not beside the project (set SHARED to its parent folder)`);
  return undefined;
}

/** The names of the folders below a shared folder; empty where it is absent. */
export function sharedCases(path: string): { name: string; folder: string }[] {
  const folder = sharedFolder(path);
  if (folder === undefined) return [];
  const names = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory()).map((entry) => entry.name).toSorted();
  if (names.length === 0) throw new Error(`${folder} holds no cases`);
  console.log(`${path}: ${names.join(", ")}`);
  return names.map((name) => ({ name, folder: join(folder, name) }));
}

/** The largest |a - b|; NaN where either is NaN. */
export function maxDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`lengths differ: ${a.length} and ${b.length}`);
  let worst = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    if (!(difference <= worst)) worst = difference;
  }
  return worst;
}
