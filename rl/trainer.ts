/**
 * The training loop that every objective shares: batches in a seeded order, one compiled program a step
 * (or one a micro-batch and one for the update), AdamW with warm-up, cosine and clipping, checkpoints
 * and exact resume, metrics read back every few steps so that the device never waits for the host, a
 * stop on NaN or exploding loss with the batch saved for a look, the best models by a score.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { deviceMemory, leavesOf, type tf } from "../xla/mod.ts";
import type { Item } from "./batches.ts";
import { BatchSource } from "./batch_source.ts";
import type { Models } from "./gradients.ts";
import { adamInit, adamStep, cosineRate, defaultWarmup } from "./optimizer.ts";
import { Placement } from "./placement.ts";
import {
  type Best,
  type Fingerprint,
  loadCheckpoint,
  saveCheckpoint,
  type TrainingState,
} from "./trainer_checkpoint.ts";
import type { TrainingOptions, TrainingResult } from "./trainer_options.ts";
import { type Objective, programs } from "./trainer_programs.ts";

interface Pending {
  step: number;
  indices: number[];
  sums: tf.Tensor;
  norms: tf.Tensor;
  rates: Record<string, number>;
  tokens: number;
  padded: number;
}

export type { TrainingOptions, TrainingResult };

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

/** The most bytes of `train`'s first step on a device, see `programs`' `peakBytes`. Trains nothing. */
export function stepPeak(
  ...[objective, models, ...rest]: Parameters<typeof train>
): number | undefined {
  return new TrainingRun(objective, models, ...rest).peakBytes();
}

class TrainingRun {
  readonly #source: BatchSource;
  readonly #totalSteps: number;
  readonly #fingerprint: Fingerprint;
  readonly #placement: Placement;
  readonly #programs: ReturnType<typeof programs>;
  readonly #constants: Models;
  #state: TrainingState;
  #best: Best | undefined;
  #pending: Pending[] = [];
  #lastFlush = 0;
  #lastSave = 0;
  #metrics: Record<string, number> = {};

  constructor(
    readonly objective: Objective,
    models: Models,
    constants: Models,
    readonly items: readonly Item[],
    readonly options: TrainingOptions,
  ) {
    if (items.length === 0) throw new UserError(`cannot train ${objective.name}: no sequences`);
    this.#placement = new Placement(options.devices);
    this.#source = new BatchSource(items, options, this.#placement.devices);
    this.#totalSteps = this.#source.totalSteps;
    this.#fingerprint = this.#settings();
    this.#programs = programs(objective, options.adam ?? {}, this.#placement);
    this.#constants = this.#placement.devices === 1 ? constants : this.#placement.place(constants);
    this.#state = initialState(models, objective, this.#placement);
  }

  async execute(): Promise<TrainingResult> {
    const { checkpoints, evaluation, heldOut, signal } = this.options;
    const now = checkpoints?.now ?? (() => performance.now());
    const minutes = checkpoints?.minutes ?? Infinity;
    let step = await this.#resume();
    this.#lastFlush = performance.now();
    this.#lastSave = now();
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
      if (heldOut !== undefined && (last || step % heldOut.every === 0)) {
        await this.#flush();
        await this.#evaluateHeldOut(step);
      }
      if (evaluation !== undefined && (last || step % evaluation.every === 0)) {
        await this.#flush();
        await this.#evaluate(step);
      }
      const due = last || step % (checkpoints?.every ?? 200) === 0 ||
        now() - this.#lastSave >= minutes * 60_000;
      if (checkpoints !== undefined && due) {
        await this.#flush();
        await this.#save(step);
        this.#lastSave = now();
      }
    }
    const best = this.#best;
    const models = best?.models ?? this.#state.models;
    for (const tensor of leavesOf({ ...this.#state.adam, memory: this.#state.memory })) {
      tensor.dispose();
    }
    if (best !== undefined) disposeModels(this.#state.models);
    this.#releaseConstants();
    return {
      models: await this.#placement.takeOff(models),
      steps: this.#totalSteps,
      metrics: this.#metrics,
      ...(best === undefined ? {} : { best: { step: best.step, score: best.score } }),
    };
  }

  peakBytes(): number | undefined {
    const batches = this.#source.arrays(this.#source.indicesOf(0).map((i) => this.items[i]!));
    const { hyper } = this.#ratesOf(0);
    const peak = this.#programs.peakBytes(this.#state, this.#constants, batches, hyper);
    leavesOf(hyper).forEach((tensor) => tensor.dispose());
    this.#dispose();
    return peak;
  }

  /** Starts the programs of one step; nothing is read back. */
  #dispatch(step: number): void {
    const indices = this.#source.indicesOf(step);
    const batches = this.#source.arrays(indices.map((i) => this.items[i]!));
    const { rates, hyper } = this.#ratesOf(step);
    const result = this.#programs.step(this.#state, this.#constants, batches, hyper);
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

  /** The rates of the models that the step trains, and what their updates need of it. */
  #ratesOf(step: number) {
    const rates: Record<string, number> = {};
    const hyper: Record<string, tf.Tensor1D> = {};
    for (const model of Object.keys(this.#state.models)) {
      const waits = this.#waits(model);
      if (step < waits) continue;
      const learningRate = this.options.learningRates[model] ?? missingRate(model);
      const rate = cosineRate(step - waits, { ...this.#schedule(model), learningRate });
      rates[model] = rate;
      hyper[model] = adamStep(step - waits + 1, rate, this.options.adam?.betas);
    }
    return { rates, hyper };
  }

  /** Steps for which a model is frozen at the start. */
  #waits(model: string): number {
    const { freeze } = this.options;
    return freeze?.model === model ? Math.round(freeze.share * this.#totalSteps) : 0;
  }

  #schedule(model: string) {
    const totalSteps = this.#totalSteps - this.#waits(model);
    return { totalSteps, warmupSteps: this.options.warmupSteps ?? defaultWarmup(totalSteps) };
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
      const models = Object.keys(p.rates);
      await this.#check(p, named, models.map((model, k) => [model, norms[k]!]));
      this.#metrics = {
        ...this.objective.describe(named),
        ...Object.fromEntries(models.map((model, k) => [`${model}_grad_norm`, norms[k]!])),
        ...Object.fromEntries(models.map((model) => [`${model}_learning_rate`, p.rates[model]!])),
        padding: 1 - p.tokens / p.padded,
        tokens_per_second: tokens / seconds,
        sequences_per_second: pending.reduce((sum, { indices }) => sum + indices.length, 0) /
          seconds,
        ...this.#efficiency(tokens / seconds),
      };
      this.options.onMetrics?.(p.step + 1, this.#metrics, this.#totalSteps);
    }
    // Lets timers and signals in where the backend computes on this thread.
    await new Promise((resolve) => setImmediate(resolve));
  }

  /**
   * What depends on the machine: arithmetic a second, and memory in GiB, of this process and of the
   * device that has most of it in use, now and at most since the process began.
   */
  #efficiency(tokensPerSecond: number): Record<string, number> {
    const { flops } = this.options;
    const gib = (bytes: number) => bytes / 2 ** 30;
    const devices = deviceMemory();
    const peaks = devices.flatMap(({ peak }) => peak ?? []);
    const memory = {
      memory_gib: gib(Deno.memoryUsage().rss),
      device_memory_gib: gib(Math.max(...devices.map(({ inUse }) => inUse))),
      ...(peaks.length === 0 ? {} : { device_memory_peak_gib: gib(Math.max(...peaks)) }),
    };
    if (flops === undefined) return memory;
    const rate = flops.perToken * tokensPerSecond;
    return {
      ...memory,
      tflops_per_second: rate / 1e12,
      ...(flops.peak === undefined ? {} : { mfu: rate / (flops.peak * this.#placement.devices) }),
    };
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
    this.#keepBest(step, score);
  }

  async #evaluateHeldOut(step: number): Promise<void> {
    const { items } = this.options.heldOut!;
    const batches = this.#source.arrays(items);
    const sums = await this.#programs.evaluate(this.#state, this.#constants, batches);
    const loss = sums[this.objective.sums[0]!]!;
    const named = Object.entries({ ...this.objective.describe(sums), loss });
    this.options.onMetrics?.(
      step,
      Object.fromEntries(named.map(([name, value]) => [`held_out/${name}`, value])),
      this.#totalSteps,
    );
    this.#lastFlush = performance.now();
    if (this.options.evaluation === undefined) this.#keepBest(step, -loss);
  }

  #keepBest(step: number, score: number): void {
    // A model that diverged scores NaN, and is never the best.
    if (Number.isNaN(score) || (this.#best !== undefined && score <= this.#best.score)) return;
    if (this.#best !== undefined) disposeModels(this.#best.models);
    this.#best = { step, score, models: this.#placement.copy(this.#state.models) };
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
    for (const tensor of leavesOf(this.#state)) tensor.dispose();
    this.#state = this.#placement.take(snapshot.state);
    this.#best = snapshot.best && {
      ...snapshot.best,
      models: this.#placement.take(snapshot.best.models),
    };
    this.#metrics = snapshot.metrics;
    return snapshot.step;
  }

  #dispose(): void {
    for (const tensor of leavesOf(this.#state)) tensor.dispose();
    if (this.#best !== undefined) disposeModels(this.#best.models);
    this.#releaseConstants();
  }

  /** One device uses the caller's own, several have parts of copies. */
  #releaseConstants(): void {
    if (this.#placement.devices > 1) disposeModels(this.#constants);
  }

  /** What decides the result, by name, for the checkpoint. */
  #settings(): Fingerprint {
    const { options } = this;
    return {
      objective: this.objective.name,
      ...this.objective.settings,
      ...this.#source.settings(),
      learningRates: JSON.stringify(options.learningRates),
      warmupSteps: options.warmupSteps ?? defaultWarmup(this.#totalSteps),
      adam: JSON.stringify(options.adam ?? {}),
      ...(options.freeze === undefined ? {} : { freeze: JSON.stringify(options.freeze) }),
    };
  }
}

function missingRate(model: string): never {
  throw new TypeError(`no learning rate for the model '${model}'`);
}

function initialState(
  models: Models,
  { memory }: Objective,
  placement: Placement,
): TrainingState {
  const adam = Object.entries(models)
    .map(([model, params]) => [model, placement.take(adamInit(params))]);
  return {
    // Copies with buffers of their own, so that donating them leaves the caller's alone.
    models: placement.place(models),
    adam: Object.fromEntries(adam),
    memory: placement.take(memory?.initial(models) ?? {}),
  };
}
