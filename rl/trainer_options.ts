/** What a training run is told and what it gives back; `trainer.ts` does it. */
import type { Item } from "./batches.ts";
import type { Models } from "./gradients.ts";
import type { Normalisation } from "./objectives/mod.ts";
import type { AdamOptions } from "./optimizer.ts";

export interface CheckpointOptions {
  folder: string;
  /** Steps between checkpoints; default 200. */
  every?: number;
  /** Also one where so many minutes have passed since the last; default none. */
  minutes?: number | undefined;
  /** How many stay; default 2. */
  keep?: number | undefined;
  /** The clock, in ms; default `performance.now`. */
  now?: () => number;
}

export interface TrainingOptions {
  /** Passes over the data; or `steps`. */
  epochs?: number | undefined;
  /** Updates, whatever number of passes that takes. */
  steps?: number | undefined;
  /** Sequences per update; default 128. */
  batchSize?: number;
  /**
   * Sequences per program run, on all devices together; default all of a batch. Does not change the
   * result but for rounding.
   */
  microBatch?: number;
  /**
   * Devices that hold a part of the parameters, gradients and moments each and compute on their rows of
   * every batch; default all that the backend has. Does not change the result but for rounding, nor do
   * checkpoints depend on it.
   */
  devices?: number | undefined;
  /** Peak rate by model. */
  learningRates: Record<string, number>;
  /** Default ceil(3 % of the steps). */
  warmupSteps?: number;
  adam?: AdamOptions;
  seed: number;
  normalisation?: Normalisation;
  /** Of what is summed over actions; default `normalisation`. */
  actionNormalisation?: Normalisation | undefined;
  level?: "token" | "step";
  padId: number;
  /** Longest sequence that the model can see, in tokens. */
  maxLength: number;
  /** Number of padded lengths, so of compilations; default 4. */
  buckets?: number;
  /**
   * Several sequences share a row of the longest's length, in place of padding each to a bucket; then
   * `buckets` counts the numbers of rows. Does not change a batch's gradient but for rounding; the order
   * of an epoch is drawn without regard to lengths (`window` 1) unless `window` is given. Off by default.
   * `microBatch` is then a mean. `together` consecutive items stay in one row; default 1.
   */
  packing?: { together?: number };
  /** See `PlanOptions.window`. */
  window?: number;
  /** The batches of an epoch as indices, in place of the seeded order (a curriculum, a replay). */
  plan?: (epoch: number) => number[][];
  /** Steps between reads of the metrics; default 10. */
  reportEvery?: number;
  /** Stops where the loss goes above this; default 1e4. */
  maxLoss?: number;
  onMetrics?: (step: number, values: Record<string, number>, totalSteps: number) => void;
  signal?: AbortSignal;
  checkpoints?: CheckpointOptions;
  /**
   * Scores the models, laid out over the run's devices, now and then; higher is better and the best are
   * returned.
   */
  evaluation?: { every: number; score(models: Models, step: number): Promise<number> };
  /**
   * Sequences that are not trained on: the objective's metrics on them, as `held_out/NAME`, every so
   * many steps and at the end; without an `evaluation`, the models of the lowest loss are returned.
   */
  heldOut?: { items: readonly Item[]; every: number };
  /** A model that waits for this share of the steps; its schedule spans those that remain. */
  freeze?: { model: string; share: number };
  /**
   * Floating-point operations of training on a token, and of a device in a second: for the metrics
   * `tflops_per_second` and `mfu` (the share of all devices' peak that the model's own arithmetic makes
   * up).
   */
  flops?: { perToken: number; peak?: number };
}

export interface TrainingResult {
  /** The best models where there is an evaluation, else the last. The caller owns them. */
  models: Models;
  steps: number;
  best?: { step: number; score: number };
  /** The last step's metrics. */
  metrics: Record<string, number>;
}
