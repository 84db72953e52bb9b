/**
 * The artifact store: immutable folders of files, addressed by the hash of their content, and records
 * of which work made which artifacts. This file is the contract; `store_folder.ts` implements it on a
 * folder of this machine.
 *
 * An artifact appears as a whole or not at all; every file is checked against its hash before it is
 * handed out, and one that does not match is set aside, so that it is missing and made again.
 */
import { z } from "zod";
import { UserError } from "../errors.ts";
import { jsonSchema, valuesSchema } from "./events.ts";
import { hashOf } from "./hash.ts";

/** The version of manifests and records that this module writes. */
export const STORE_SCHEMA = 1;

const digestSchema = z.object({ sha256: z.string().length(64), size: z.number().int().min(0) });

/** Which work made an artifact, of what. */
const lineageSchema = z.object({
  stage: z.string(),
  stageVersion: z.number(),
  key: z.string(),
  params: valuesSchema,
  seed: z.number(),
  /** Artifact ids by input name. */
  parents: z.record(z.string(), z.array(z.string())),
  /** Hash of the stage's source files; empty where the stage names no module. */
  code: z.string(),
});
export type Lineage = z.infer<typeof lineageSchema>;

export const manifestSchema = z.object({
  schema: z.literal(STORE_SCHEMA),
  kind: z.string(),
  version: z.number(),
  /** By path relative to the artifact's folder. */
  files: z.record(z.string(), digestSchema),
  /** The first work that made this content; other work may have made the same since. */
  lineage: lineageSchema,
  values: valuesSchema,
});
export type Manifest = z.infer<typeof manifestSchema>;
export type ArtifactFiles = Manifest["files"];

/** What a stage's key leads to: the outputs of work that was done. */
export const recordSchema = z.object({
  schema: z.literal(STORE_SCHEMA),
  key: z.string(),
  ingredients: z.record(z.string(), jsonSchema),
  code: z.string(),
  /** Artifact ids by output name. */
  outputs: z.record(z.string(), z.string()),
  values: valuesSchema,
  seconds: z.number(),
});
export type WorkRecord = z.infer<typeof recordSchema>;

/** The id of an artifact: the hash of its kind and of its files, whoever made them. */
export function artifactId(kind: string, version: number, files: ArtifactFiles): string {
  return hashOf({ schema: STORE_SCHEMA, kind, version, files });
}

/** Where things are in a store: files, manifests by id, records by `KEY/CODE`. */
export type StorePlace = "blobs" | "artifacts" | "records";

export interface StoreEntry {
  /** SHA-256, artifact id, or `KEY/CODE`. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** When it was put or last confirmed, in milliseconds since 1970. */
  readonly changed: number;
}

export interface PublishOptions {
  kind: string;
  version: number;
  lineage: Lineage;
  values: Record<string, z.infer<typeof jsonSchema>>;
  /** Take the files away instead of copying them; cheaper. */
  consume: boolean;
}

export interface Store {
  /** What another process passes to `openStore` to get at the same artifacts. */
  readonly location: string;
  /** A folder of this machine for what is not published yet; files move cheaply from there. */
  readonly workspace: string;
  /** Publishes files, given as paths on disk by path in the artifact; returns the artifact's id. */
  publish(files: ReadonlyMap<string, string>, options: PublishOptions): Promise<string>;
  /** Whether the artifact is there with all its files in their right size; no hash is computed. */
  has(id: string): Promise<boolean>;
  /** @throws CorruptArtifactError where it is missing or damaged */
  manifest(id: string): Promise<Manifest>;
  /**
   * Makes the artifact's files appear in a new folder, each checked against its hash. They are not
   * to be written to.
   *
   * @throws CorruptArtifactError where a file is missing or does not match; the file was set aside
   */
  materialise(id: string, folder: string): Promise<void>;
  /** The record of this work made by this code; `code` undefined: by any, the latest. */
  record(key: string, code: string | undefined): Promise<WorkRecord | undefined>;
  /**
   * Puts the record of some work, unless there is one of the same work and code whose artifacts are
   * there; returns the one that counts. Of several who put theirs at once, all get the same one back.
   */
  putRecord(record: WorkRecord): Promise<WorkRecord>;
  /** Runs `body` while nothing is collected as garbage; keep it short. */
  whileKept<T>(body: () => Promise<T>): Promise<T>;

  /** Everything in one place of the store, in no order. */
  entries(place: StorePlace): AsyncIterable<StoreEntry>;
  /** Removes one entry; removing what is gone already is no error. */
  remove(place: StorePlace, name: string): Promise<void>;
  /** Reads a blob whole; one that does not match its name is set aside. False where it did not. */
  verifyBlob(sha256: string): Promise<boolean>;
  /** Runs `body` while nobody is in `whileKept`. */
  whileCollecting<T>(body: () => Promise<T>): Promise<T>;
  /** Clears away what was set aside, and what killed processes left unfinished. */
  sweep(): Promise<void>;
}

/** An artifact that cannot be used: it has to be made again. */
export class CorruptArtifactError extends Error {
  override name = "CorruptArtifactError";
  readonly artifact: string;

  /** @param message names the artifact and what is wrong with it */
  constructor(artifact: string, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.artifact = artifact;
  }
}

/** A manifest from its text. Throws where it is malformed or describes another artifact. */
export function parseManifest(id: string, text: string): Manifest {
  const manifest = manifestSchema.parse(JSON.parse(text));
  const found = artifactId(manifest.kind, manifest.version, manifest.files);
  if (found !== id) throw new Error(`the manifest describes artifact ${found}`);
  return manifest;
}

/** A record from its text; one that is damaged is no record, so that the work is done again. */
export function parseRecord(text: string): WorkRecord | undefined {
  try {
    return recordSchema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** Whether all that the record speaks of is in the store. */
export async function isWhole(record: WorkRecord, store: Pick<Store, "has">): Promise<boolean> {
  for (const id of Object.values(record.outputs)) {
    if (!await store.has(id)) return false;
  }
  return true;
}

type Damage = "damaged" | "missing";

export function damagedFile(id: string, path: string, damage: Damage): CorruptArtifactError {
  const what = damage === "missing" ? "is missing" : "was damaged and is set aside";
  return new CorruptArtifactError(id, `file ${path} of artifact ${id.slice(0, 12)} ${what}`);
}

export function damagedManifest(id: string, damage: Damage, cause: unknown): CorruptArtifactError {
  const text = damage === "missing"
    ? `artifact ${id.slice(0, 12)} is not in the store`
    : `the manifest of artifact ${id.slice(0, 12)} was damaged and is set aside`;
  return new CorruptArtifactError(id, text, { cause });
}

/** Throws a UserError (wrong use) where `id` cannot be an artifact id or a key. */
export function checkId(id: string): void {
  if (!/^[0-9a-f]{64}$/.test(id)) {
    throw new UserError(`'${id}' is no artifact id or key: those have 64 hexadecimal digits`, {
      exitCode: 2,
    });
  }
}
