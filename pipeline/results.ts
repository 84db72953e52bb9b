/** Puts a run's named results where its user wants them, as files of their own. */
import { basename, dirname, join, resolve } from "node:path";
import { UserError } from "../errors.ts";
import { explainDisk, removeQuietly } from "./files.ts";
import { isLeftOver, temporaryName } from "./owner.ts";
import type { Store } from "./store.ts";

/** What `temporary` names, with the part that tells whose it is. */
const TEMPORARY = /^\..*\.([0-9a-f]{8}-\d+-\d*-[0-9a-f]{8})\.tmp(\.old)?$/;

/** A name beside `path` that says by which process it was made, for `sweepResults`. */
function temporary(path: string): string {
  return join(dirname(path), `.${basename(path)}.${temporaryName()}.tmp`);
}

/** Removes what killed processes of this machine have left unfinished in a folder of results. */
export async function sweepResults(out: string): Promise<void> {
  const entries = await Array.fromAsync(Deno.readDir(out)).catch(() => []);
  for (const { name } of entries) {
    const maker = TEMPORARY.exec(name)?.[1];
    if (maker !== undefined && isLeftOver(maker)) await removeQuietly(join(out, name));
  }
}

/**
 * Finds out before hours of work whether its results can be put there, and makes nothing.
 *
 * @throws UserError (wrong use) where `out` is not a folder or cannot be written or made
 */
export async function checkResultsFolder(out: string): Promise<void> {
  let folder = resolve(out);
  let info: Deno.FileInfo | undefined;
  while ((info = await Deno.stat(folder).catch(() => undefined)) === undefined) {
    if (dirname(folder) === folder) break;
    folder = dirname(folder);
  }
  const refuse = (why: string, cause?: unknown) =>
    new UserError(`writing the results to ${out}: ${why}; choose another folder with --out`, {
      exitCode: 2,
      cause,
    });
  if (info !== undefined && !info.isDirectory) throw refuse(`${folder} is not a folder`);
  // Only trying tells: permissions, read-only file systems and file systems that hold no files.
  await sweepResults(folder);
  const probe = temporary(join(folder, "oreo"));
  try {
    await Deno.mkdir(probe);
  } catch (cause) {
    throw refuse(`nothing can be made in ${folder} (${(cause as Error).message})`, cause);
  }
  await removeQuietly(probe);
}

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
    await sweepResults(out);
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
  const fresh = temporary(target);
  const old = `${fresh}.old`;
  try {
    await copy(source, fresh);
    try {
      await Deno.rename(target, old);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    await Deno.rename(fresh, target);
  } finally {
    await removeQuietly(fresh);
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
