/**
 * Training checkpoints: parameters, optimizer moments, step and the best models so far in one
 * safetensors file, written atomically, the last few kept. The step and the run's settings decide
 * everything else (data order, rates), so a run resumed from one gives the bytes of a run never
 * stopped. A checkpoint of other settings or shapes is refused by naming the difference.
 */
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { UserError } from "../errors.ts";
import { SafetensorsFile, type TensorToWrite, writeSafetensors } from "../lm/mod.ts";
import { tf } from "../xla/mod.ts";
import type { Models } from "./gradients.ts";
import type { AdamState } from "./optimizer.ts";

/** Everything that training changes, but for the step. */
export type TrainingState = {
  models: Models;
  adam: Record<string, AdamState>;
  /** The objective's own, see `Objective.memory`. */
  memory: Models;
};

export interface Best {
  step: number;
  score: number;
  models: Models;
}

export interface Snapshot {
  /** Updates done. */
  step: number;
  state: TrainingState;
  best?: Best | undefined;
  /** The last step's metrics, so that a finished run started again still has them. */
  metrics: Record<string, number>;
}

/** Settings that decide the result, by name; compared when a checkpoint is loaded. */
export type Fingerprint = Record<string, string | number | boolean | null>;

const pattern = /^checkpoint-(\d{8})\.safetensors$/;

const metadataSchema = z.object({
  step: z.int().nonnegative(),
  fingerprint: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])),
  best: z.object({ step: z.int(), score: z.number() }).optional(),
  metrics: z.record(z.string(), z.number()),
});

type Nested = { [key: string]: tf.Tensor | Nested };

/** Tensors by path, e.g. `models/policy/lm_head.weight`. */
function flatten(tree: Nested, prefix: string): [string, tf.Tensor][] {
  return Object.entries(tree).flatMap(([key, node]) =>
    node instanceof tf.Tensor
      ? [[`${prefix}/${key}`, node] as [string, tf.Tensor]]
      : flatten(node, `${prefix}/${key}`)
  );
}

function entriesOf({ state, best }: Pick<Snapshot, "state" | "best">): [string, tf.Tensor][] {
  const bestEntries = best === undefined ? [] : flatten(best.models, "best");
  const { models, adam, memory } = state;
  return [
    ...flatten(models, "models"),
    ...flatten(adam, "adam"),
    ...flatten(memory, "memory"),
    ...bestEntries,
  ];
}

/** Writes a checkpoint into `folder` and removes all but the last `keep`. */
export async function saveCheckpoint(
  folder: string,
  snapshot: Snapshot,
  fingerprint: Fingerprint,
  keep = 2,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const { step, best, metrics } = snapshot;
  const tensors = new Map<string, TensorToWrite>(
    entriesOf(snapshot).map(([name, tensor]) => [name, {
      shape: tensor.shape,
      dtype: "F32" as const,
      data: () => tensor.data<"float32">(),
    }]),
  );
  const metadata = {
    step,
    fingerprint,
    metrics,
    ...(best === undefined ? {} : { best: { step: best.step, score: best.score } }),
  };
  const name = `checkpoint-${String(step).padStart(8, "0")}.safetensors`;
  await writeSafetensors(join(folder, name), tensors, { training: JSON.stringify(metadata) });
  const older = (await checkpointFiles(folder)).slice(keep);
  await Promise.all(older.map((file) => rm(file, { force: true })));
}

/** Checkpoint files, the newest first. */
async function checkpointFiles(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((error) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  return names.filter((name) => pattern.test(name)).sort().reverse()
    .map((name) => join(folder, name));
}

/**
 * The newest readable checkpoint of `folder`, or undefined where there is none.
 *
 * @param like a state of the shapes expected; not read, not disposed
 * @throws UserError where the checkpoint is of other settings or shapes
 */
export async function loadCheckpoint(
  folder: string,
  like: TrainingState,
  fingerprint: Fingerprint,
): Promise<Snapshot | undefined> {
  for (const path of await checkpointFiles(folder)) {
    let file: SafetensorsFile;
    try {
      file = await SafetensorsFile.open(path);
    } catch (error) {
      // A file cut short by a dying disk; the one before it still serves.
      if (error instanceof UserError) continue;
      throw error;
    }
    await using data = file;
    return await readSnapshot(data, like, fingerprint);
  }
  return undefined;
}

async function readSnapshot(
  file: SafetensorsFile,
  like: TrainingState,
  fingerprint: Fingerprint,
): Promise<Snapshot> {
  const parsed = metadataSchema.safeParse(JSON.parse(file.metadata.training ?? "null"));
  if (!parsed.success) throw new UserError(`${file.path} is not a training checkpoint`);
  const { step, best, metrics } = parsed.data;
  checkFingerprint(file.path, parsed.data.fingerprint, fingerprint);
  const restore = async <T extends Nested>(tree: T, prefix: string): Promise<T> => {
    const out: Nested = {};
    for (const [key, node] of Object.entries(tree)) {
      const path = `${prefix}/${key}`;
      out[key] = node instanceof tf.Tensor
        ? await readTensor(file, path, node.shape)
        : await restore(node, path);
    }
    return out as T;
  };
  const state = {
    models: await restore(like.models, "models"),
    adam: await restore(like.adam, "adam"),
    memory: await restore(like.memory, "memory"),
  };
  if (best === undefined) return { step, state, metrics };
  return { step, state, metrics, best: { ...best, models: await restore(like.models, "best") } };
}

async function readTensor(file: SafetensorsFile, name: string, shape: number[]) {
  const found = file.entries.get(name)?.shape;
  if (found === undefined || found.join() !== shape.join()) {
    throw new UserError(
      `cannot resume from ${file.path}: ${name} ${
        found === undefined ? "is missing" : `has shape [${found}]`
      }, the model has [${shape}]. Remove the checkpoint to start anew`,
    );
  }
  return tf.tensor(await file.float32(name), shape);
}

function checkFingerprint(path: string, found: Fingerprint, expected: Fingerprint): void {
  for (const key of new Set([...Object.keys(expected), ...Object.keys(found)])) {
    if (found[key] !== expected[key]) {
      throw new UserError(
        `cannot resume from ${path}: it was trained with ${key} ${found[key]}, this run has ${
          expected[key]
        }. Use the same settings, or remove the checkpoint to start anew`,
      );
    }
  }
}
