/**
 * Scoring: log-probabilities of given sequences under a model. Sequences of like length share a batch,
 * padded to one of a few lengths, so that a whole data set costs a handful of compilations, and the
 * reading of one batch overlaps the computing of the next.
 */
import { jit, tf } from "../xla/mod.ts";
import { UserError } from "../errors.ts";
import type { ModelConfig } from "./config.ts";
import { bucket } from "./slots.ts";
import { type Params, tokenLogProbs } from "./transformer.ts";

export interface ScorerModel {
  readonly config: ModelConfig;
  readonly params: Params;
}

export interface ScorerOptions {
  /** Sequences of one program run. Default 32; fewer where sequences are long. */
  readonly batchSize?: number;
  /** Most tokens, padding included, of one program run. Default 16,384. */
  readonly batchTokens?: number;
}

interface RunOptions {
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

export interface PromptAndResponse {
  readonly promptIds: readonly number[];
  readonly responseIds: readonly number[];
}

/** Batches whose results may wait on the device at a time. */
const IN_FLIGHT = 4;

/** Share of a batch's rows above which the rest may be padding. */
const FULL_ENOUGH = 0.8;

/** 32, 48, 64, 96, 128, 192...: the least of these that holds `length`. */
export function paddedLength(length: number): number {
  let bound = 32;
  while (bound < length) bound = bound * 3 / 2 >= length ? bound * 3 / 2 : bound * 2;
  return bound;
}

export class Scorer {
  readonly #model: ScorerModel;
  readonly #batchSize: number;
  readonly #batchTokens: number;
  readonly #program: (params: Params, ids: tf.Tensor2D) => tf.Tensor2D;
  #programs = 0;

  constructor(model: ScorerModel, options: ScorerOptions = {}) {
    this.#model = model;
    this.#batchSize = options.batchSize ?? 32;
    this.#batchTokens = options.batchTokens ?? 16_384;
    const { config } = model;
    this.#program = jit(
      (params: Params, ids: tf.Tensor2D) => {
        this.#programs++;
        return tokenLogProbs(config, params, ids);
      },
      { name: "score", memoryHint: "a smaller batchSize or batchTokens of the scorer" },
    );
  }

  /** Programs compiled so far: one a padded length and number of rows. */
  get programs(): number {
    return this.#programs;
  }

  /**
   * log p of every token but the first, in nats: one array of `length - 1` for each sequence, in the
   * order given.
   * @throws UserError where a sequence is longer than the model can see or holds an unknown token
   */
  async sequences(
    sequences: readonly (readonly number[])[],
    { signal, onProgress }: RunOptions = {},
  ): Promise<Float32Array[]> {
    sequences.forEach((ids, i) => this.#check(ids, i));
    const results = sequences.map(() => new Float32Array(0));
    const waiting: { indices: number[]; time: number; logProbs: tf.Tensor2D }[] = [];
    let done = 0;
    const collect = async () => {
      const { indices, time, logProbs } = waiting.shift()!;
      const data = await logProbs.data<"float32">();
      logProbs.dispose();
      for (const [row, index] of indices.entries()) {
        const start = row * (time - 1);
        results[index] = data.slice(start, start + sequences[index]!.length - 1);
      }
      onProgress?.(done += indices.length, sequences.length);
    };
    try {
      for (const { indices, time, rows } of this.#batches(sequences)) {
        signal?.throwIfAborted();
        const ids = new Int32Array(rows * time);
        indices.forEach((index, row) => ids.set(sequences[index]!, row * time));
        const given = tf.tensor2d(ids, [rows, time], "int32");
        waiting.push({ indices, time, logProbs: this.#program(this.#model.params, given) });
        given.dispose();
        if (waiting.length >= IN_FLIGHT) await collect();
      }
      while (waiting.length > 0) await collect();
    } finally {
      for (const { logProbs } of waiting) logProbs.dispose();
    }
    return results;
  }

  /** As `sequences`, of each response's tokens given its prompt. */
  async responses(
    pairs: readonly PromptAndResponse[],
    options: RunOptions = {},
  ): Promise<number[][]> {
    const all = await this.sequences(
      pairs.map(({ promptIds, responseIds }) => [...promptIds, ...responseIds]),
      options,
    );
    return all.map((logProbs, i) => Array.from(logProbs.subarray(pairs[i]!.promptIds.length - 1)));
  }

  #check(ids: readonly number[], index: number): void {
    const { maxPositions, vocabSize } = this.#model.config;
    if (ids.length < 2 || ids.length > maxPositions) {
      throw new UserError(
        `scoring sequence ${index}: it has ${ids.length} tokens, expected 2 to ${maxPositions}`,
      );
    }
    const stranger = ids.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
    if (stranger !== undefined) {
      throw new UserError(
        `scoring sequence ${index}: token ${stranger} is none of the model's 0 to ${vocabSize - 1}`,
      );
    }
  }

  /**
   * Sequences by length, longest first. A batch has as many rows as may be; what is left over of a length
   * goes in powers of two, so that another call's batches are of the same few shapes.
   */
  *#batches(sequences: readonly (readonly number[])[]) {
    const { maxPositions } = this.#model.config;
    const order = [...sequences.keys()].sort((a, b) =>
      sequences[b]!.length - sequences[a]!.length || a - b
    );
    const byLength = Map.groupBy(
      order,
      (i) => Math.min(maxPositions, paddedLength(sequences[i]!.length)),
    );
    for (const [time, members] of byLength) {
      const most = Math.min(this.#batchSize, Math.max(1, Math.floor(this.#batchTokens / time)));
      for (let start = 0; start < members.length;) {
        const left = members.length - start;
        const next = bucket(left, 1);
        // A few rows of padding cost less than another run.
        const rows = Math.min(most, left >= FULL_ENOUGH * next ? next : next / 2);
        yield { indices: members.slice(start, start + rows), time, rows };
        start += rows;
      }
    }
  }
}
