/**
 * Takes a user's file or folder into the store, by its content. What a file held is remembered by its
 * size, time and number on disk, so that a large one is not read again for each run.
 */
import { basename, join, resolve } from "node:path";
import { z } from "zod";
import { UserError } from "../errors.ts";
import { filesBelow, localDisk, withFolder } from "./files.ts";
import { sha256 } from "./hash.ts";
import { temporaryName } from "./owner.ts";
import type { ArtifactKind } from "./stage.ts";
import { type ArtifactFiles, artifactId, type Store } from "./store.ts";

/** A file changed so shortly before it was read may be changed again without its time changing. */
const RACY_MS = 2_000;

const entrySchema = z.object({ stamp: z.string(), sha256: z.string(), size: z.number() });
const indexSchema = z.record(z.string(), entrySchema);
type Index = z.infer<typeof indexSchema>;

/**
 * The files that an import would take, by their path in the artifact. A file of a kind that is one
 * file gets the name that the stages read it by.
 *
 * @throws UserError (wrong use) where there is nothing at `path`, nothing in it, or not the kind's file
 */
export async function importedFiles(
  node: string,
  { kind, file }: ArtifactKind,
  path: string,
): Promise<Map<string, string>> {
  const full = resolve(path);
  const stat = await Deno.stat(full).catch(() => undefined);
  if (stat === undefined) {
    throw new UserError(`stage '${node}' reads ${path}: there is no such file or folder`, {
      exitCode: 2,
    });
  }
  if (stat.isFile) return new Map([[file ?? basename(full), full]]);
  const files = await filesBelow(full, { followLinks: true });
  if (files.size === 0) {
    throw new UserError(`stage '${node}' reads ${path}: the folder is empty`, { exitCode: 2 });
  }
  if (file !== undefined && !files.has(file)) {
    throw new UserError(
      `stage '${node}' reads ${path}: there is no ${file} in the folder; ` +
        `give one that has it, or the file with the ${kind} itself`,
      { exitCode: 2 },
    );
  }
  return files;
}

/** The id that an import will have. Reads only the files that changed since it was last asked. */
export async function importId(
  node: string,
  kind: ArtifactKind,
  path: string,
  store: Store,
  options: { remember: boolean },
): Promise<string> {
  const files = await importedFiles(node, kind, path);
  const indexPath = join(store.workspace, "imports", `${sha256(resolve(path))}.json`);
  const known = await readIndex(indexPath);
  const index: Index = {};
  const digests: ArtifactFiles = {};
  for (const [name, full] of files) {
    const stat = await Deno.stat(full);
    const stamp = `${stat.size} ${stat.mtime?.getTime()} ${stat.ino}`;
    const entry = known[name];
    const digest = entry?.stamp === stamp ? entry : await localDisk.digest(full);
    digests[name] = { sha256: digest.sha256, size: digest.size };
    const settled = Math.abs(Date.now() - (stat.mtime?.getTime() ?? 0)) > RACY_MS;
    if (settled) index[name] = { stamp, ...digests[name] };
  }
  if (options.remember && JSON.stringify(index) !== JSON.stringify(known)) {
    const temporary = join(store.workspace, "tmp", temporaryName());
    await withFolder(temporary, () => Deno.writeTextFile(temporary, JSON.stringify(index)));
    await withFolder(indexPath, () => Deno.rename(temporary, indexPath));
  }
  return artifactId(kind.kind, kind.version, digests);
}

/** Takes the files into the store; returns the artifact's id, by what was really read. */
export async function importArtifact(
  node: string,
  kind: ArtifactKind,
  path: string,
  store: Store,
): Promise<string> {
  const expected = await importId(node, kind, path, store, { remember: true });
  if (await store.has(expected)) return expected;
  return await store.publish(await importedFiles(node, kind, path), {
    kind: kind.kind,
    version: kind.version,
    lineage: {
      stage: "import",
      stageVersion: 1,
      key: expected,
      params: { path },
      seed: 0,
      parents: {},
      code: "",
    },
    values: {},
    consume: false,
  });
}

async function readIndex(path: string): Promise<Index> {
  try {
    return indexSchema.parse(JSON.parse(await Deno.readTextFile(path)));
  } catch {
    return {};
  }
}
