/**
 * What the host keeps for generation: jobs, the state of the slots they run in, and the sets of tokens
 * that end them.
 */
import { tf } from "../xla/mod.ts";

/** One sample to make, and what has come of it. */
export interface Job {
  readonly request: number;
  readonly sample: number;
  readonly promptIds: readonly number[];
  readonly key: readonly [number, number];
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly maxNewTokens: number;
  readonly stopSet: number;
  /** Stop strings that a token boundary can cut, looked for on the host. */
  readonly hostStops: readonly string[];
  readonly ids: number[];
  readonly logProbs: number[];
  readonly values: number[];
  finish?: "stop" | "length";
}

/** The next power of two, at least `least`: few shapes, so few programs. */
export function bucket(value: number, least: number): number {
  let size = least;
  while (size < value) size *= 2;
  return size;
}

/** Per-slot state that the host keeps and sends with every dispatch. */
export class SlotState {
  readonly tokens: Int32Array;
  readonly lengths: Int32Array;
  readonly remaining: Int32Array;
  /** 1 where the last token was chosen but its value not yet read. */
  readonly flush: Int32Array;
  readonly stopSet: Int32Array;
  readonly temperature: Float32Array;
  readonly topK: Float32Array;
  readonly topP: Float32Array;
  /** [tokensPerDispatch, slots] */
  readonly uniforms: Float32Array;

  constructor(slots: number, tokensPerDispatch: number) {
    const ints = () => new Int32Array(slots);
    const floats = () => new Float32Array(slots);
    this.tokens = ints();
    this.lengths = ints();
    this.remaining = ints();
    this.flush = ints();
    this.stopSet = ints();
    this.temperature = floats();
    this.topK = floats();
    this.topP = floats().fill(1);
    this.uniforms = new Float32Array(tokensPerDispatch * slots);
  }

  /** Steps until every slot has nothing left to do, at most. */
  mostSteps(): number {
    return this.remaining.reduce((most, left, slot) => Math.max(most, left + this.flush[slot]!), 1);
  }

  start(slot: number, job: Job): void {
    this.tokens[slot] = job.promptIds.at(-1)!;
    this.lengths[slot] = job.promptIds.length - 1;
    this.remaining[slot] = job.maxNewTokens;
    this.flush[slot] = 0;
    this.stopSet[slot] = job.stopSet;
    this.temperature[slot] = job.temperature;
    this.topK[slot] = job.topK;
    this.topP[slot] = job.topP;
  }
}

/** The distinct sets of stop tokens of a batch, as one table of 0 and 1. */
export class StopSets {
  readonly #sets = new Map<string, { index: number; tokens: number[] }>();

  constructor(private readonly vocabSize: number) {}

  index(tokens: readonly number[]): number {
    const sorted = [...new Set(tokens)].toSorted((a, b) => a - b);
    const key = sorted.join();
    const known = this.#sets.get(key);
    if (known !== undefined) return known.index;
    const index = this.#sets.size;
    this.#sets.set(key, { index, tokens: sorted });
    return index;
  }

  /** int32 [sets * vocabulary], the number of sets rounded up so that few programs are made. */
  table(): tf.Tensor1D {
    const table = new Int32Array(bucket(Math.max(1, this.#sets.size), 1) * this.vocabSize);
    for (const { index, tokens } of this.#sets.values()) {
      for (const token of tokens) {
        if (token < this.vocabSize) table[index * this.vocabSize + token] = 1;
      }
    }
    return tf.tensor1d(table, "int32");
  }
}
