/** The commands about the artifact store: `store ls | show | verify | gc | export`. */
import { join, resolve } from "node:path";
import { UserError } from "../errors.ts";
import { DEFAULT_STORE, type PlaceOptions, print, withJournal } from "./cli_place.ts";
import { removeQuietly } from "./files.ts";
import { temporaryName } from "./owner.ts";
import { writeResults } from "./results.ts";
import { collectGarbage, findArtifact, listArtifacts, verifyStore } from "./store_admin.ts";
import { openStore } from "./store_open.ts";

interface StoreOptions extends PlaceOptions {
  readonly json?: boolean | undefined;
}

/** `store ls`: every artifact, the latest first. */
export async function listStoreCommand(options: StoreOptions): Promise<void> {
  const listed = await listArtifacts(openStore(options.store ?? DEFAULT_STORE));
  if (options.json) return await print(JSON.stringify(listed, null, 2) + "\n");
  if (listed.length === 0) return await print("the store is empty\n");
  const lines = listed.map((one) =>
    [
      one.id.slice(0, 12),
      new Date(one.changed).toISOString().slice(0, 19),
      bytesText(one.size).padStart(8),
      `${one.kind} of ${one.stage}`,
    ].join("  ")
  );
  await print(lines.join("\n") + "\n");
}

/** `store show ID`: the manifest, with lineage and the hash of each file. */
export async function showArtifactCommand(prefix: string, options: StoreOptions): Promise<void> {
  const { id, manifest } = await findArtifact(prefix, openStore(options.store ?? DEFAULT_STORE));
  await print(JSON.stringify({ id, ...manifest }, null, 2) + "\n");
}

/**
 * `store verify`: checks every byte; damaged files are set aside, so that the next run makes them anew.
 *
 * @throws UserError where something is damaged or missing
 */
export async function verifyStoreCommand(options: StoreOptions): Promise<void> {
  const found = await verifyStore(openStore(options.store ?? DEFAULT_STORE));
  if (options.json) await print(JSON.stringify(found, null, 2) + "\n");
  else {
    await print(found.problems.map((problem) => `${problem}\n`).join(""));
    await print(`checked ${found.artifacts} artifacts, ${found.blobs} files\n`);
  }
  if (found.problems.length > 0) {
    throw new UserError(
      `the store has ${found.problems.length} damaged or missing files; the runs that need them ` +
        `make them again`,
    );
  }
}

/** `store gc`: removes what the latest runs and those in progress do not need. */
export async function collectGarbageCommand(
  options: StoreOptions & { keepRuns?: number | undefined; dryRun?: boolean | undefined },
): Promise<void> {
  const store = openStore(options.store ?? DEFAULT_STORE);
  const { keepRuns = 10, dryRun = false } = options;
  if (!Number.isInteger(keepRuns) || keepRuns < 0) {
    throw new UserError(`--keep-runs: expected a whole number, 0 or more, got ${keepRuns}`, {
      exitCode: 2,
    });
  }
  const found = await withJournal(
    options,
    { readOnly: true },
    async (journal) => {
      if ((await journal.runs({ limit: 1 })).length === 0) {
        throw new UserError(
          `collecting garbage in ${store.location}: the journal knows no runs, so everything would ` +
            `go; name the journal of the runs that use this store with --journal`,
          { exitCode: 2 },
        );
      }
      return await collectGarbage(store, journal, { keepRuns, dryRun });
    },
  );
  if (options.json) return await print(JSON.stringify(found, null, 2) + "\n");
  const { artifacts, records, blobs, bytes } = found;
  await print(
    `${dryRun ? "would remove" : "removed"} ${artifacts} artifacts, ${records} records and ` +
      `${blobs} files (${bytesText(bytes)})\n`,
  );
}

/** `store export ID FOLDER`: the artifact's files as a folder of their own, every byte checked. */
export async function exportArtifactCommand(
  prefix: string,
  folder: string,
  options: StoreOptions,
): Promise<void> {
  const store = openStore(options.store ?? DEFAULT_STORE);
  const { id, manifest } = await findArtifact(prefix, store);
  const target = resolve(folder);
  const there = await Array.fromAsync(Deno.readDir(target)).catch(() => []);
  if (there.length > 0) {
    throw new UserError(`exporting to ${folder}: it is not empty; name a new folder`, {
      exitCode: 2,
    });
  }
  const workspace = join(store.workspace, "work", temporaryName());
  try {
    await writeResults({ ".": id }, target, store, workspace);
  } finally {
    await removeQuietly(workspace);
  }
  await print(`${Object.keys(manifest.files).length} files of ${manifest.kind} in ${folder}\n`);
}

function bytesText(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}
