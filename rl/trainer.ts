/**
 * The training loop that every objective shares: batches in a seeded order, one compiled program a step
 * (or one a micro-batch and one for the update), AdamW with warm-up, cosine and clipping, checkpoints
 * and exact resume, metrics read back every few steps so that the device never waits for the host, a
 * stop on NaN or exploding loss with the batch saved for a look, the best models by a score.
 */
import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { leavesOf, mapTree, tf } from "../xla/mod.ts";
import { bucketLengths, collate, type CollateOptions, type Item, planEpoch } from "./batches.ts";
import type { Models } from "./gradients.ts";
import type { Normalisation } from "./objectives/mod.ts";
import { adamInit, type AdamOptions, adamStep, cosineRate, defaultWarmup } from "./optimizer.ts";
import {
  type Best,
  type Fingerprint,
  loadCheckpoint,
  saveCheckpoint,
  type TrainingState,
} from "./trainer_checkpoint.ts";
import { type Objective, programs } from "./trainer_programs.ts";
import { lengthOf } from "./trajectory.ts";

export interface TrainingOptions {
  /** Passes over the data; or `steps`. */
  epochs?: number | undefined;
  /** Updates, whatever number of passes that takes. */
  steps?: number | undefined;
  /** Sequences per update; default 128. */
  batchSize?: number;
  /** Sequences per program run; default all of a batch. Does not change the result but for rounding. */
  microBatch?: number;
  /** Peak rate by model. */
  learningRates: Record<string, number>;
  /** Default ceil(3 % of the steps). */
  warmupSteps?: number;
  adam?: AdamOptions;
  seed: number;
  normalisation?: Normalisation;
  level?: "token" | "step";
  padId: number;
  /** Longest sequence that the model can see, in tokens. */
  maxLength: number;
  /** Number of padded lengths, so of compilations; default 4. */
  buckets?: number;
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
  /** `every`: steps between checkpoints (default 200); `keep`: how many stay (default 2). */
  checkpoints?: { folder: string; every?: number; keep?: number };
  /** Scores the models now and then; higher is better and the best are returned. */
  evaluation?: { every: number; score(models: Models, step: number): Promise<number> };
}

export interface TrainingResult {
  /** The best models where there is an evaluation, else the last. The caller owns them. */
  models: Models;
  steps: number;
  best?: { step: number; score: number };
  /** The last step's metrics. */
  metrics: Record<string, number>;
}

interface Pending {
  step: number;
  indices: number[];
  sums: tf.Tensor;
  norms: tf.Tensor;
  rates: Record<string, number>;
  tokens: number;
  padded: number;
}

/** A copy with buffers of its own, so that donating it leaves the original alone. */
export function copyModels<T extends Models>(models: T): T {
  return mapTree(models, (tensor) => tf.tidy(() => tensor.mul(1))) as unknown as T;
}

export function disposeModels(models: Models): void {
  for (const tensor of leavesOf(models)) tensor.dispose();
}

/**
 * Trains `models` on `items`.
 *
 * @param models initial parameters; left as they are
 * @param constants parameters that the objective reads and does not train
 * @throws UserError on NaN or exploding loss, on data the model cannot see, on a foreign checkpoint;
 *   the signal's reason when aborted, after a checkpoint
 */
export async function train(
  objective: Objective,
  models: Models,
  constants: Models,
  items: readonly Item[],
  options: TrainingOptions,
): Promise<TrainingResult> {
  const run = new TrainingRun(objective, models, constants, items, options);
  return await run.execute();
}

class TrainingRun {
  readonly #lengths: number[];
  readonly #batchSize: number;
  readonly #perEpoch: number;
  readonly #totalSteps: number;
  readonly #collate: CollateOptions;
  readonly #fingerprint: Fingerprint;
  readonly #programs: ReturnType<typeof programs>;
  #state: TrainingState;
  #best: Best | undefined;
  #pending: Pending[] = [];
  #lastFlush = 0;
  #metrics: Record<string, number> = {};
  #plan: { epoch: number; batches: number[][] } | undefined;

  constructor(
    readonly objective: Objective,
    models: Models,
    readonly constants: Models,
    readonly items: readonly Item[],
    readonly options: TrainingOptions,
  ) {
    if (items.length === 0) throw new UserError(`cannot train ${objective.name}: no sequences`);
    if ((options.epochs === undefined) === (options.steps === undefined)) {
      throw new TypeError("give either epochs or steps");
    }
    this.#lengths = items.map(lengthOf);
    this.#batchSize = Math.min(options.batchSize ?? 128, items.length);
    this.#perEpoch = Math.ceil(items.length / this.#batchSize);
    this.#totalSteps = options.steps ?? Math.ceil(options.epochs! * this.#perEpoch);
    this.#collate = {
      padId: options.padId,
      buckets: bucketLengths(this.#lengths, {
        count: options.buckets ?? 4,
        maxLength: options.maxLength,
      }),
      normalisation: options.normalisation ?? "sequence",
      level: options.level ?? "token",
      microBatch: Math.min(options.microBatch ?? this.#batchSize, this.#batchSize),
    };
    this.#fingerprint = this.#settings();
    this.#programs = programs(objective, options.adam ?? {});
    this.#state = initialState(models);
  }

  async execute(): Promise<TrainingResult> {
    const { checkpoints, evaluation, signal } = this.options;
    let step = await this.#resume();
    this.#lastFlush = performance.now();
    while (step < this.#totalSteps) {
      if (signal?.aborted) {
        await this.#flush();
        if (checkpoints !== undefined) await this.#save(step);
        this.#dispose();
        throw signal.reason;
      }
      this.#dispatch(step);
      step++;
      const last = step === this.#totalSteps;
      if (last || step % (this.options.reportEvery ?? 10) === 0) await this.#flush();
      if (evaluation !== undefined && (last || step % evaluation.every === 0)) {
        await this.#flush();
        await this.#evaluate(step);
      }
      if (checkpoints !== undefined && (last || step % (checkpoints.every ?? 200) === 0)) {
        await this.#flush();
        await this.#save(step);
      }
    }
    const best = this.#best;
    for (const { m, v } of Object.values(this.#state.adam)) disposeModels({ m, v });
    if (best !== undefined) disposeModels(this.#state.models);
    return {
      models: best?.models ?? this.#state.models,
      steps: this.#totalSteps,
      metrics: this.#metrics,
      ...(best === undefined ? {} : { best: { step: best.step, score: best.score } }),
    };
  }

  /** Starts the programs of one step; nothing is read back. */
  #dispatch(step: number): void {
    const indices = this.#indicesOf(step);
    const batches = collate(indices.map((i) => this.items[i]!), this.#collate);
    const rates = Object.fromEntries(
      Object.entries(this.options.learningRates).map(([model, learningRate]) => [
        model,
        cosineRate(step, { ...this.#schedule(), learningRate }),
      ]),
    );
    const hyper = Object.fromEntries(
      Object.keys(this.#state.models).map((model) => [
        model,
        adamStep(step + 1, rates[model] ?? missingRate(model), this.options.adam?.betas),
      ]),
    );
    const result = this.#programs.step(this.#state, this.constants, batches, hyper);
    leavesOf(hyper).forEach((tensor) => tensor.dispose());
    this.#state = result.state;
    this.#pending.push({
      step,
      indices,
      sums: result.sums,
      norms: result.norms,
      rates,
      tokens: batches.reduce((sum, b) => sum + b.tokens, 0),
      padded: batches.reduce((sum, b) => sum + b.rows * b.time, 0),
    });
  }

  #schedule() {
    const warmupSteps = this.options.warmupSteps ?? defaultWarmup(this.#totalSteps);
    return { totalSteps: this.#totalSteps, warmupSteps };
  }

  #indicesOf(step: number): number[] {
    const epoch = Math.floor(step / this.#perEpoch);
    if (this.#plan?.epoch !== epoch) {
      const { seed, window, plan } = this.options;
      const order = { batchSize: this.#batchSize, seed, epoch };
      const batches = plan?.(epoch) ??
        planEpoch(this.#lengths, window === undefined ? order : { ...order, window });
      this.#plan = { epoch, batches };
    }
    return this.#plan.batches[step % this.#perEpoch]!;
  }

  /** Reads the pending metrics, checks them and hands them on. */
  async #flush(): Promise<void> {
    const pending = this.#pending;
    this.#pending = [];
    if (pending.length === 0) return;
    const host = await Promise.all(
      pending.map((p) => Promise.all([p.sums.data(), p.norms.data()])),
    );
    const now = performance.now();
    const seconds = (now - this.#lastFlush) / 1000;
    this.#lastFlush = now;
    const tokens = pending.reduce((sum, p) => sum + p.tokens, 0);
    for (const [i, p] of pending.entries()) {
      p.sums.dispose();
      p.norms.dispose();
      const [sums, norms] = host[i]!;
      const named = Object.fromEntries(this.objective.sums.map((name, k) => [name, sums[k]!]));
      const models = Object.keys(this.#state.models);
      await this.#check(p, named, models.map((model, k) => [model, norms[k]!]));
      this.#metrics = {
        ...this.objective.describe(named),
        ...Object.fromEntries(models.map((model, k) => [`${model}_grad_norm`, norms[k]!])),
        ...Object.fromEntries(models.map((model) => [`${model}_learning_rate`, p.rates[model]!])),
        padding: 1 - p.tokens / p.padded,
        tokens_per_second: tokens / seconds,
      };
      this.options.onMetrics?.(p.step + 1, this.#metrics, this.#totalSteps);
    }
    // Lets timers and signals in where the backend computes on this thread.
    await new Promise((resolve) => setImmediate(resolve));
  }

  async #check(
    { step, indices }: Pending,
    sums: Record<string, number>,
    norms: [string, number][],
  ): Promise<void> {
    const loss = sums[this.objective.sums[0]!]!;
    const bad = [...Object.entries(sums), ...norms.map(([m, n]) => [`${m} gradient norm`, n])]
      .find(([, value]) => !Number.isFinite(value));
    const maxLoss = this.options.maxLoss ?? 1e4;
    if (bad === undefined && loss <= maxLoss) return;
    const what = bad === undefined
      ? `the loss is ${loss}, above ${maxLoss}`
      : `${bad[0]} is ${bad[1]}`;
    const folder = this.options.checkpoints?.folder ?? tmpdir();
    const path = join(folder, `failed-batch-${this.objective.name}-${step + 1}.jsonl`);
    await mkdir(folder, { recursive: true });
    await writeFile(path, indices.map((i) => JSON.stringify(this.items[i]) + "\n").join(""));
    this.#dispose();
    throw new UserError(
      `training ${this.objective.name} stopped at step ${
        step + 1
      } of ${this.#totalSteps}: ${what}. ` +
        `The batch is in ${path}. Lower the learning rate, or raise alpha to keep the policy near ` +
        "its reference",
    );
  }

  async #evaluate(step: number): Promise<void> {
    const score = await this.options.evaluation!.score(this.#state.models, step);
    this.options.onMetrics?.(step, { score }, this.#totalSteps);
    this.#lastFlush = performance.now();
    if (this.#best !== undefined && score <= this.#best.score) return;
    if (this.#best !== undefined) disposeModels(this.#best.models);
    this.#best = { step, score, models: copyModels(this.#state.models) };
  }

  async #save(step: number): Promise<void> {
    const { folder, keep } = this.options.checkpoints!;
    const snapshot = { step, state: this.#state, best: this.#best, metrics: this.#metrics };
    await saveCheckpoint(folder, snapshot, this.#fingerprint, keep);
    this.#lastFlush = performance.now();
  }

  /** The step to go on from. */
  async #resume(): Promise<number> {
    const folder = this.options.checkpoints?.folder;
    if (folder === undefined) return 0;
    const snapshot = await loadCheckpoint(folder, this.#state, this.#fingerprint);
    if (snapshot === undefined) return 0;
    this.#dispose();
    this.#state = snapshot.state;
    this.#best = snapshot.best;
    this.#metrics = snapshot.metrics;
    return snapshot.step;
  }

  #dispose(): void {
    for (const tensor of leavesOf(this.#state)) tensor.dispose();
    if (this.#best !== undefined) disposeModels(this.#best.models);
  }

  /** What decides the result, by name, for the checkpoint. */
  #settings(): Fingerprint {
    const { options } = this;
    const data = createHash("sha256");
    for (const { promptIds, responseIds, reward } of this.items) {
      data.update(`${promptIds.length} ${responseIds.join(",")} ${reward};`);
    }
    return {
      objective: this.objective.name,
      ...this.objective.settings,
      data: data.digest("hex").slice(0, 16),
      steps: this.#totalSteps,
      batchSize: this.#batchSize,
      microBatch: this.#collate.microBatch!,
      learningRates: JSON.stringify(options.learningRates),
      warmupSteps: this.#schedule().warmupSteps,
      adam: JSON.stringify(options.adam ?? {}),
      seed: options.seed,
      normalisation: this.#collate.normalisation!,
      level: this.#collate.level!,
      buckets: this.#collate.buckets.join(),
      window: options.window ?? null,
    };
  }
}

function missingRate(model: string): never {
  throw new TypeError(`no learning rate for the model '${model}'`);
}

function initialState(models: Models): TrainingState {
  const adam = Object.entries(models).map(([model, params]) => [model, adamInit(params)]);
  return { models: copyModels(models), adam: Object.fromEntries(adam) };
}
