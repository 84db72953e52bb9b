/** Looking after a store: what is in it, whether it is sound, and clearing away what nobody needs. */
import { unknownName, UserError } from "../errors.ts";
import type { JournalReader } from "./journal.ts";
import type { Manifest, Store } from "./store.ts";
import { join } from "node:path";
import { removeQuietly } from "./files.ts";
import { sweepResults } from "./results.ts";

export interface ListedArtifact {
  readonly id: string;
  readonly kind: string;
  readonly stage: string;
  readonly files: number;
  /** Bytes of its files; those it shares with other artifacts are counted in each. */
  readonly size: number;
  readonly changed: number;
}

/** Every artifact, the latest first. Damaged manifests are left out: `verifyStore` tells them. */
export async function listArtifacts(store: Store): Promise<ListedArtifact[]> {
  const listed: ListedArtifact[] = [];
  for await (const { name: id, changed } of store.entries("artifacts")) {
    const manifest = await store.manifest(id).catch(() => undefined);
    if (manifest === undefined) continue;
    const sizes = Object.values(manifest.files).map((file) => file.size);
    listed.push({
      id,
      kind: manifest.kind,
      stage: manifest.lineage.stage,
      files: sizes.length,
      size: sizes.reduce((sum, size) => sum + size, 0),
      changed,
    });
  }
  return listed.sort((a, b) => b.changed - a.changed || (a.id < b.id ? -1 : 1));
}

/**
 * The one artifact whose id begins with `prefix`.
 *
 * @throws UserError (wrong use) where there is none, or more than one
 */
export async function findArtifact(
  prefix: string,
  store: Store,
): Promise<{ id: string; manifest: Manifest }> {
  const ids: string[] = [];
  for await (const { name } of store.entries("artifacts")) {
    if (name.startsWith(prefix)) ids.push(name);
  }
  const [id, other] = ids;
  if (id === undefined) {
    const known = (await listArtifacts(store)).slice(0, 10).map((one) => one.id.slice(0, 12));
    throw unknownName("artifact", prefix, known);
  }
  if (other !== undefined) {
    throw new UserError(`artifact '${prefix}': ${ids.length} ids begin with it; give more digits`, {
      exitCode: 2,
    });
  }
  return { id, manifest: await store.manifest(id) };
}

export interface Verification {
  readonly artifacts: number;
  readonly blobs: number;
  /** What is wrong, a line each; damaged files have been set aside and will be made again. */
  readonly problems: readonly string[];
}

/** Checks every manifest and every byte. */
export async function verifyStore(store: Store): Promise<Verification> {
  const problems: string[] = [];
  const users = new Map<string, string[]>();
  let artifacts = 0;
  for await (const { name: id } of store.entries("artifacts")) {
    artifacts++;
    try {
      for (const [path, { sha256 }] of Object.entries((await store.manifest(id)).files)) {
        const user = `file ${path} of artifact ${id.slice(0, 12)}`;
        users.set(sha256, [...users.get(sha256) ?? [], user]);
      }
    } catch (error) {
      problems.push((error as Error).message);
    }
  }
  let blobs = 0;
  const there = new Set<string>();
  for await (const { name: sha256 } of store.entries("blobs")) {
    blobs++;
    there.add(sha256);
    if (await store.verifyBlob(sha256)) continue;
    const used = users.get(sha256) ?? ["a file that no artifact uses"];
    problems.push(...used.map((user) => `${user} was damaged and is set aside`));
  }
  for (const [sha256, used] of users) {
    if (!there.has(sha256)) problems.push(...used.map((user) => `${user} is missing`));
  }
  return { artifacts, blobs, problems };
}

export interface CollectOptions {
  /** For each workflow, the results of so many of its latest runs are kept, besides those of runs in
   * progress. */
  readonly keepRuns: number;
  /** Only say what would be removed. */
  readonly dryRun?: boolean;
}

export interface Collected {
  readonly artifacts: number;
  readonly records: number;
  readonly blobs: number;
  /** Bytes of the blobs. */
  readonly bytes: number;
}

/** What was put within so long before a run in progress began is left alone, for clocks that differ. */
const MARGIN_MS = 5 * 60_000;

/** A run that has fallen silent is in progress for so long: its runner may be out of reach. */
const SILENT_MS = 60 * 60_000;

/**
 * Removes what no kept run refers to. What a run in progress needs is never removed: what it has used
 * or made is in the journal (a lookup and its entry in the journal are one step, which waits for a
 * collection and the other way round), and what it is about to enter there is newer than the run.
 *
 * @param journal the journal of all runs that use the store
 */
export async function collectGarbage(
  store: Store,
  journal: JournalReader,
  options: CollectOptions,
): Promise<Collected> {
  return await store.whileCollecting(async () => {
    const kept = await keptByRuns(journal, options.keepRuns);
    const stale = (changed: number) => changed < kept.since;
    const collected = { artifacts: 0, records: 0, blobs: 0, bytes: 0 };
    const remove = async (place: "records" | "artifacts" | "blobs", name: string) => {
      collected[place]++;
      if (!options.dryRun) await store.remove(place, name);
    };
    // Records before manifests before blobs: whatever is still there is whole.
    for await (const { name, changed } of store.entries("records")) {
      if (stale(changed) && !kept.keys.has(name.split("/")[0]!)) await remove("records", name);
    }
    const blobs = new Set<string>();
    for await (const { name: id, changed } of store.entries("artifacts")) {
      const manifest = await store.manifest(id).catch(() => undefined);
      if (manifest !== undefined && (!stale(changed) || kept.artifacts.has(id))) {
        for (const { sha256 } of Object.values(manifest.files)) blobs.add(sha256);
      } else await remove("artifacts", id);
    }
    for await (const { name: sha256, size, changed } of store.entries("blobs")) {
      if (!stale(changed) || blobs.has(sha256)) continue;
      collected.bytes += size;
      await remove("blobs", sha256);
    }
    if (!options.dryRun) {
      await store.sweep();
      for (const out of kept.outs) await sweepResults(out);
      if (!kept.unfinished) await removeQuietly(join(store.workspace, "scratch"));
    }
    return collected;
  });
}

async function keptByRuns(journal: JournalReader, keepRuns: number) {
  const artifacts = new Set<string>();
  const keys = new Set<string>();
  let since = Infinity;
  let unfinished = false;
  const outs = new Set<string>();
  const perWorkflow = new Map<string, number>();
  for (const summary of await journal.runs({ limit: 1_000_000 })) {
    outs.add(summary.out);
    const count = (perWorkflow.get(summary.workflow) ?? 0) + 1;
    perWorkflow.set(summary.workflow, count);
    const heard = Date.now() - (summary.heartbeat ?? 0) < SILENT_MS;
    const inProgress = summary.state === "running" || summary.state === "interrupted" && heard;
    if (count > keepRuns && !inProgress) continue;
    if (inProgress) since = Math.min(since, summary.started - MARGIN_MS);
    if (summary.state !== "done") unfinished = true;
    for (const stage of (await journal.run(summary.id))?.stages ?? []) {
      if (stage.key !== undefined) keys.add(stage.key);
      for (const id of Object.values(stage.artifacts ?? {})) artifacts.add(id);
    }
  }
  return { artifacts, keys, since, unfinished, outs };
}
