/**
 * What the host keeps for generation: jobs, the state of the slots they run in, and the sets of tokens
 * that end them.
 */
import { tf } from "../xla/mod.ts";
import { StopWatch } from "./text_stream.ts";

/** The requests of one call, which end together. */
export interface Call {
  /** Samples not yet finished. */
  left: number;
  readonly signal: AbortSignal | undefined;
  /** After each dispatch that gave the job tokens. */
  readonly onTokens: ((job: Job) => void) | undefined;
  readonly onFinished: () => void;
  readonly reject: (reason: unknown) => void;
}

/** One sample to make, and what has come of it. */
export interface Job {
  readonly call: Call;
  readonly request: number;
  readonly sample: number;
  readonly promptIds: readonly number[];
  readonly key: readonly [number, number];
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly maxNewTokens: number;
  readonly stopTokens: readonly number[];
  /** Looks for stop strings that a token boundary can cut. */
  readonly watch: StopWatch | undefined;
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
  readonly minP: Float32Array;
  readonly repetitionPenalty: Float32Array;
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
    this.minP = floats();
    this.repetitionPenalty = floats().fill(1);
    this.uniforms = new Float32Array(tokensPerDispatch * slots);
  }

  /** Steps until every slot has nothing left to do, at most. */
  mostSteps(): number {
    return this.remaining.reduce((most, left, slot) => Math.max(most, left + this.flush[slot]!), 1);
  }

  /** `stopSet` is the number of the job's stop tokens in the table of the batch. */
  start(slot: number, job: Job, stopSet: number): void {
    this.tokens[slot] = job.promptIds.at(-1)!;
    this.lengths[slot] = job.promptIds.length - 1;
    this.remaining[slot] = job.maxNewTokens;
    this.flush[slot] = 0;
    this.stopSet[slot] = stopSet;
    this.temperature[slot] = job.temperature;
    this.topK[slot] = job.topK;
    this.topP[slot] = job.topP;
    this.minP[slot] = job.minP;
    this.repetitionPenalty[slot] = job.repetitionPenalty;
  }

  /** Nothing more happens in this slot. */
  stop(slot: number): void {
    this.remaining[slot] = 0;
    this.flush[slot] = 0;
  }
}

/** The distinct sets of stop tokens of a batch, as one table of 0 and 1 that stays on the device. */
export class StopSets {
  readonly #sets = new Map<string, { index: number; tokens: number[] }>();
  #table: tf.Tensor1D | undefined;

  constructor(private readonly vocabSize: number) {}

  index(tokens: readonly number[]): number {
    const sorted = [...new Set(tokens)].toSorted((a, b) => a - b);
    const key = sorted.join();
    const known = this.#sets.get(key);
    if (known !== undefined) return known.index;
    const index = this.#sets.size;
    this.#sets.set(key, { index, tokens: sorted });
    this.dispose();
    return index;
  }

  /** int32 [sets * vocabulary], the number of sets rounded up so that few programs are made. */
  get table(): tf.Tensor1D {
    if (this.#table !== undefined) return this.#table;
    const table = new Int32Array(bucket(Math.max(1, this.#sets.size), 1) * this.vocabSize);
    for (const { index, tokens } of this.#sets.values()) {
      for (const token of tokens) {
        if (token < this.vocabSize) table[index * this.vocabSize + token] = 1;
      }
    }
    return this.#table = tf.tensor1d(table, "int32");
  }

  /** Gives the table back; it is made again when asked for. */
  dispose(): void {
    this.#table?.dispose();
    this.#table = undefined;
  }
}
