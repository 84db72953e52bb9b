/**
 * What every training stage takes, and how that becomes the trainer's options: schedule, memory and
 * number format, checkpoints, held-out evaluation, metrics to the journal, to curves and, where
 * `OREO_TENSORBOARD` names a folder, to event files there.
 */
import { join } from "node:path";
import { z } from "zod";
import { EventFile, languageNetworks, shuffled } from "../rl/mod.ts";
import { CurveRecorder } from "./curves.ts";
import type { LanguageModel } from "./language_model.ts";

/** The folder under which each training gets a folder of event files; none: no event files. */
const TENSORBOARD = "OREO_TENSORBOARD";
/** The device's peak in TFLOP/s, for the metric `mfu`. */
const PEAK = "OREO_PEAK_TFLOPS";

/** A LoRA adapter; the paper's critics' by default. */
export const adapterFields = z.object({
  rank: z.int().positive().default(64),
  alpha: z.number().positive().default(64),
  rankStabilised: z.boolean().default(false).describe("scale by alpha / sqrt(rank)"),
  targets: z.array(z.string()).optional().describe("names of modules; all matrices of the layers"),
});

/** What every training takes. What is optional here is off, as in the paper. */
export const trainingFields = {
  epochs: z.number().positive().default(1).describe("passes over the data"),
  steps: z.int().positive().optional().describe("updates, in place of epochs"),
  batchSize: z.int().positive().default(128),
  microBatch: z.int().positive().optional()
    .describe("sequences per program run; all of a batch where left out"),
  weightDecay: z.number().nonnegative().default(0),
  // The paper's, or the trainer's own, where left out.
  warmupSteps: z.int().nonnegative().optional().describe("3 % of the steps where left out"),
  maxGradNorm: z.number().positive().optional().describe("gradients are clipped to it; 1"),
  maxLoss: z.number().positive().optional().describe("training stops above it; 10,000"),
  buckets: z.int().positive().default(2).describe("padded lengths that programs are compiled for"),
  packing: z.boolean().default(true)
    .describe(
      "several sequences share a row, and buckets counts numbers of rows; false: padded rows",
    ),
  mixedLengths: z.boolean().optional()
    .describe("batches of any lengths, not of like ones: for data whose lengths tell the outcome"),
  checkpointEvery: z.int().positive().default(200).describe("steps"),
  checkpointMinutes: z.number().positive().optional()
    .describe("also a checkpoint where so many minutes have passed since the last"),
  checkpointsKept: z.int().positive().optional().describe("how many stay; 2"),
  computeType: z.enum(["float32", "bfloat16"]).optional()
    .describe("what matrix products multiply in, the paper's bfloat16 or, where left out, float32"),
  rematerialise: z.boolean().optional()
    .describe("compute each layer again in the backward pass: less memory, more time"),
  lora: adapterFields.optional()
    .describe("train the policy as a LoRA adapter, merged in at the end and kept beside"),
  heldOut: z.object({
    share: z.number().positive().max(0.5).default(0.05).describe("of the queries"),
    every: z.int().positive().default(50).describe("steps"),
  }).optional().describe("keep queries back, measure on them, return the models that did best"),
  label: z.string().default("training").describe(
    "the name under which the report shows the curves",
  ),
};

export type TrainingFields = z.output<z.ZodObject<typeof trainingFields>>;

export interface TrainingContext {
  seed: number;
  signal: AbortSignal;
  scratch: string;
  progress(done: number, total: number): void;
  recorder: CurveRecorder;
}

/** Policy and value network of a model in the number format asked for. */
export function networksOf(
  { computeType, rematerialise }: TrainingFields,
  config: LanguageModel["config"],
) {
  return languageNetworks(config, {
    ...(computeType === undefined ? {} : { computeType }),
    ...(rematerialise === undefined ? {} : { rematerialise }),
  });
}

/**
 * The trainer's options that follow from a stage's parameters and context.
 *
 * @param passes parameters that a token goes through forward and backward; those only forward as a third
 */
export function trainerOptions(
  params: TrainingFields,
  model: LanguageModel,
  { seed, signal, scratch, progress, recorder }: TrainingContext,
  passes: number,
) {
  const peak = Number(Deno.env.get(PEAK));
  const folder = Deno.env.get(TENSORBOARD);
  const events = folder ? new EventFile(join(folder, params.label)) : undefined;
  return {
    ...(params.steps === undefined ? { epochs: params.epochs } : { steps: params.steps }),
    ...(params.warmupSteps === undefined ? {} : { warmupSteps: params.warmupSteps }),
    ...(params.maxLoss === undefined ? {} : { maxLoss: params.maxLoss }),
    batchSize: params.batchSize,
    ...(params.microBatch === undefined ? {} : { microBatch: params.microBatch }),
    adam: {
      weightDecay: params.weightDecay,
      ...(params.maxGradNorm === undefined ? {} : { maxGradNorm: params.maxGradNorm }),
    },
    buckets: params.buckets,
    ...(params.packing ? { packing: {} } : {}),
    ...(params.mixedLengths === true ? { window: 1 } : {}),
    seed,
    padId: model.tokenizer.padId,
    maxLength: model.config.maxPositions,
    signal,
    checkpoints: {
      folder: scratch,
      every: params.checkpointEvery,
      minutes: params.checkpointMinutes,
      keep: params.checkpointsKept,
    },
    // Two operations a parameter and token forward, four backward.
    flops: { perToken: 6 * passes, ...(peak > 0 ? { peak: peak * 1e12 } : {}) },
    onMetrics: (step: number, values: Record<string, number>, total: number) => {
      recorder.add(step, values);
      events?.add(step, values);
      progress(step, total);
    },
  };
}

/** Number of a model's parameters. */
export function sizeOf(params: LanguageModel["params"]): number {
  return Object.values(params).reduce((sum, { size }) => sum + size, 0);
}

/**
 * Splits items into those to train on and those kept back, whole queries at a time, as `heldOut` says.
 * At least one query stays on either side; with a single query nothing is kept back.
 */
export function holdOut<T>(
  items: readonly T[],
  queryOf: (item: T) => string,
  { heldOut }: Pick<TrainingFields, "heldOut">,
  seed: number,
): { items: T[]; heldOut?: { items: T[]; every: number } } {
  const queries = shuffled([...new Set(items.map(queryOf))].sort(), `held out/${seed}`);
  if (heldOut === undefined || queries.length < 2) return { items: [...items] };
  const kept = new Set(queries.slice(0, Math.max(1, Math.floor(heldOut.share * queries.length))));
  return {
    items: items.filter((item) => !kept.has(queryOf(item))),
    heldOut: { items: items.filter((item) => kept.has(queryOf(item))), every: heldOut.every },
  };
}
