/**
 * Generation with continuous batching. A fixed number of slots decode together on the device, several
 * tokens a dispatch; finished slots are refilled from the queue between dispatches. Shapes never depend
 * on how long sequences are, so nothing is compiled while they grow. The host only schedules: it draws
 * each slot's uniform numbers from the request's seed and collects what came back.
 */
import { random, tf } from "../xla/mod.ts";
import { UserError } from "../errors.ts";
import type { ModelConfig } from "./config.ts";
import type { PackedModel } from "./inference.ts";
import { type Caches, emptyCaches, type Pair, programsFor, type StepInputs } from "./programs.ts";
import { paddedLength } from "./score.ts";
import { bucket, type Job, SlotState, StopSets } from "./slots.ts";
import type { Params } from "./transformer.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface GenerationRequest {
  /** At least one token. */
  readonly promptIds: readonly number[];
  /** How many samples; default 1. Sample i draws from `foldIn(key(seed), i)`. */
  readonly n?: number;
  /** Non-negative integer; default 0. The same request gives the same ids in any batch. */
  readonly seed?: number;
  /** 0 takes the most likely token at each step. Default 1. */
  readonly temperature?: number;
  /** Only the k most likely tokens; 0 or absent: all. */
  readonly topK?: number;
  /** Only the most likely tokens that together have this probability; 1 or absent: all. */
  readonly topP?: number;
  /** Default: what fits into the generator's maxLength. */
  readonly maxNewTokens?: number;
  /** Generation ends after the token that completes one of these; it stays in the text. */
  readonly stop?: readonly string[];
  /** Generation ends after one of these tokens. Default: the model's end tokens. */
  readonly stopIds?: readonly number[];
}

export interface Generation {
  /** New tokens only, the one that ended it included. */
  readonly ids: number[];
  /** Decoded without special tokens; empty where the model has no tokenizer. */
  readonly text: string;
  /** The model's log-probability of each token, at temperature 1 and over all tokens. */
  readonly logProbs: number[];
  /** V of the prefix before each token, then of the whole: ids.length + 1 numbers. */
  readonly values?: number[];
  readonly finish: "stop" | "length";
}

export interface GeneratorOptions {
  /** Sequences decoded at once. Default 32. */
  readonly slots?: number;
  /** Prompt and new tokens together. Default 512. */
  readonly maxLength?: number;
  /** Most tokens per slot before the host looks again. Default 32. */
  readonly tokensPerDispatch?: number;
  /** A model with a value head that reads every prefix. */
  readonly valueModel?: GeneratorModel;
}

/** What generation needs of a model. */
export interface GeneratorModel {
  readonly config: ModelConfig;
  readonly params: Params;
  readonly tokenizer?: Tokenizer | undefined;
  readonly generationConfig?: { readonly eosTokenIds?: readonly number[] } | undefined;
}

const MAX_SEED = Number.MAX_SAFE_INTEGER;

/** Prompts are computed for this share of the slots at a time: what a refill usually needs. */
const PREFILL_SHARE = 4;

/** Steps that a ring below its last size has room for when it grows. */
const LOOKAHEAD = 32;

export class Generator implements Disposable {
  readonly slots: number;
  readonly maxLength: number;
  readonly tokensPerDispatch: number;
  readonly #model: GeneratorModel;
  readonly #programs: ReturnType<typeof programsFor>;
  readonly #packed: Pair<PackedModel>;
  readonly #hasValues: boolean;
  #caches: Caches | undefined;
  /** Columns of the caches' ring. */
  #columns = 0;
  /** The column that the next step writes. */
  #column = 0;
  #busy = false;
  #stopTokens = new Map<string, number[]>();

  /**
   * Copies the weights into decoding order; later changes of `params` are not seen.
   * @throws UserError where the sizes do not fit the models.
   */
  constructor(model: GeneratorModel, options: GeneratorOptions = {}) {
    this.slots = positive("slots", options.slots ?? 32);
    this.maxLength = positive("maxLength", options.maxLength ?? 512);
    this.tokensPerDispatch = positive("tokensPerDispatch", options.tokensPerDispatch ?? 32);
    this.#model = model;
    const value = options.valueModel;
    this.#hasValues = value !== undefined;
    this.#programs = programsFor(model.config, value?.config, {
      slots: this.slots,
      tokensPerDispatch: this.tokensPerDispatch,
    });
    this.#packed = this.#programs.pack(
      value === undefined
        ? { policy: model.params }
        : { policy: model.params, value: value.params },
    );
  }

  /** Gives back the device memory. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  dispose(): void {
    tf.dispose([this.#packed, this.#caches ?? []]);
    this.#caches = undefined;
  }

  /**
   * Samples for each request, in the order of the requests.
   * @throws UserError where a request cannot be served; nothing is generated then.
   */
  async generate(
    requests: readonly GenerationRequest[],
    options: { signal?: AbortSignal; onProgress?: (done: number, total: number) => void } = {},
  ): Promise<Generation[][]> {
    const stopSets = new StopSets(this.#model.config.vocabSize);
    const jobs = requests.flatMap((request, i) => this.#jobsOf(request, i, stopSets));
    const kind = {
      random: jobs.some((job) => job.temperature > 0),
      topK: jobs.some((job) => job.temperature > 0 && job.topK > 0),
      topP: jobs.some((job) => job.temperature > 0 && job.topP < 1),
    };
    const queue = jobs.toReversed();
    const running: (Job | undefined)[] = new Array(this.slots).fill(undefined);
    const state = new SlotState(this.slots, this.tokensPerDispatch);
    // One shape for all prefills of the batch, unless a prompt is much shorter than the longest.
    const top = jobs.reduce((most, job) => Math.max(most, job.promptIds.length - 1), 0);
    const longest = Math.min(this.maxLength, Math.ceil(top / 8) * 8);
    const most = jobs.reduce((m, job) => Math.max(m, job.promptIds.length + job.maxNewTokens), 1);
    const ceiling = ringColumns(most, this.maxLength);
    // Refills keep sequences of all lengths in the ring; a batch that starts together can begin small.
    const first = jobs.length > this.slots ? ceiling : ringColumns(longest + LOOKAHEAD, ceiling);
    let done = 0;
    if (this.#busy) {
      throw new Error("this generator is at work: await the call before, or make another");
    }
    this.#busy = true;
    const stopTable = stopSets.table();
    this.#startRing(first, longest);
    try {
      while (done < jobs.length) {
        options.signal?.throwIfAborted();
        this.#refill(queue, running, state, longest);
        this.#drawUniforms(running, state);
        const busy = running.reduce((count, job) => count + (job === undefined ? 0 : 1), 0);
        // With work waiting, come back once a quarter of the slots stand idle.
        const leaveAt = queue.length > 0 ? Math.floor(busy * 0.75) : 0;
        const steps = this.#makeRoom(state, ceiling);
        done += await this.#dispatch(running, state, { stopTable, kind, leaveAt, steps });
        if (this.#columns === ceiling) this.#column %= ceiling;
        options.onProgress?.(done, jobs.length);
      }
    } finally {
      this.#busy = false;
      stopTable.dispose();
    }
    return this.#collect(requests, jobs);
  }

  #jobsOf(request: GenerationRequest, index: number, stopSets: StopSets): Job[] {
    const { promptIds, n = 1, seed = 0, temperature = 1, topK = 0, topP = 1 } = request;
    const where = `request ${index}`;
    const { vocabSize } = this.#model.config;
    if (promptIds.length === 0) throw new UserError(`${where}: the prompt has no tokens`);
    const wrong = promptIds.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
    if (wrong !== undefined) {
      throw new UserError(`${where}: token ${wrong} is not in the vocabulary of ${vocabSize}`);
    }
    const room = this.maxLength - promptIds.length;
    const maxNewTokens = request.maxNewTokens ?? room;
    if (maxNewTokens < 1 || maxNewTokens > room) {
      throw new UserError(
        `${where}: ${promptIds.length} prompt tokens and ${maxNewTokens} new ones do not fit ` +
          `maxLength ${this.maxLength}`,
      );
    }
    check(where, "n", n, Number.isInteger(n) && n >= 1, "a positive integer");
    const seedOk = Number.isInteger(seed) && seed >= 0 && seed <= MAX_SEED;
    check(where, "seed", seed, seedOk, "a non-negative integer");
    check(
      where,
      "temperature",
      temperature,
      temperature >= 0 && temperature < Infinity,
      "0 or more",
    );
    check(where, "topK", topK, Number.isInteger(topK) && topK >= 0, "a non-negative integer");
    check(where, "topP", topP, topP > 0 && topP <= 1, "in (0, 1]");
    const { tokens, hostStops } = this.#stops(request, where);
    const stopSet = stopSets.index(tokens);
    const root = [Math.floor(seed / 2 ** 32), seed | 0] as const;
    return Array.from({ length: n }, (_, sample) => ({
      request: index,
      sample,
      promptIds,
      key: random.threefry2x32(root[0], root[1], 0, sample),
      temperature,
      topK,
      topP,
      maxNewTokens,
      stopSet,
      hostStops,
      ids: [],
      logProbs: [],
      values: [],
    }));
  }

  /** Tokens that end a sequence by themselves, and the strings that several tokens may spell. */
  #stops(request: GenerationRequest, where: string): { tokens: number[]; hostStops: string[] } {
    const { config, generationConfig, tokenizer } = this.#model;
    const ids = request.stopIds ??
      [...new Set([...config.eosTokenIds, ...(generationConfig?.eosTokenIds ?? [])])];
    const strings = request.stop ?? [];
    if (strings.length === 0) return { tokens: [...ids], hostStops: [] };
    if (tokenizer === undefined) {
      throw new UserError(`${where}: stop strings need a tokenizer, and the model has none`);
    }
    if (strings.includes("")) throw new UserError(`${where}: a stop string is empty`);
    const containing = strings.flatMap((stop) => {
      const known = this.#stopTokens.get(stop) ?? tokenizer.idsContaining(stop);
      this.#stopTokens.set(stop, known);
      return known;
    });
    return {
      tokens: [...ids, ...containing],
      // A single ASCII character is never spread over tokens.
      hostStops: strings.filter((stop) => stop.length > 1 || stop.charCodeAt(0) > 0x7f),
    };
  }

  /** A ring of so many columns whose next one is `column`; nothing in it is alive. */
  #startRing(columns: number, column: number): void {
    if (this.#columns !== columns || this.#caches === undefined) {
      if (this.#caches !== undefined) tf.dispose(this.#caches);
      this.#caches = emptyCaches(this.#programs.shape, columns);
      this.#columns = columns;
    }
    this.#column = column % columns;
  }

  /**
   * How many steps the next dispatch may take. Attention reads the whole ring at each step, so it grows
   * with the sequences; below its last size it never wraps, and grows by columns at its end.
   */
  #makeRoom(state: SlotState, ceiling: number): number {
    if (this.#columns === ceiling) return this.tokensPerDispatch;
    const wanted = Math.min(state.mostSteps(), LOOKAHEAD, this.tokensPerDispatch);
    if (this.#column + wanted > this.#columns) {
      const columns = ringColumns(this.#column + wanted, ceiling);
      this.#caches = this.#programs.grow(this.#caches!, columns - this.#columns);
      this.#columns = columns;
      if (columns === ceiling) return this.tokensPerDispatch;
    }
    return Math.min(this.tokensPerDispatch, this.#columns - this.#column);
  }

  /** Starts queued jobs in free slots; a prompt shared by several samples is computed once. */
  #refill(queue: Job[], running: (Job | undefined)[], state: SlotState, longest: number): void {
    const rows = Math.ceil(this.slots / PREFILL_SHARE);
    const slotsOf = new Map<readonly number[], number[]>();
    for (let slot = 0; slot < this.slots && queue.length > 0; slot++) {
      if (running[slot] !== undefined) continue;
      const job = queue.pop()!;
      running[slot] = job;
      state.start(slot, job);
      // The last prompt token is fed by the first decoding step; a prompt of one needs no prefill.
      if (job.promptIds.length < 2) continue;
      const slots = slotsOf.get(job.promptIds);
      if (slots !== undefined) slots.push(slot);
      else {
        if (slotsOf.size === rows) {
          this.#prefill(slotsOf, rows, longest);
          slotsOf.clear();
        }
        slotsOf.set(job.promptIds, [slot]);
      }
    }
    if (slotsOf.size > 0) this.#prefill(slotsOf, rows, longest);
  }

  #prefill(slotsOf: Map<readonly number[], number[]>, rows: number, longest: number): void {
    const needed = [...slotsOf.keys()].reduce((top, prompt) => Math.max(top, prompt.length), 0) - 1;
    const time = Math.min(bucket(needed, 16), longest);
    const ids = new Int32Array(rows * time);
    const lengths = new Int32Array(rows);
    const pairs = new Int32Array(2 * this.slots);
    let row = 0;
    let count = 0;
    for (const [prompt, slots] of slotsOf) {
      const length = prompt.length - 1;
      lengths[row] = length;
      for (let j = 0; j < length; j++) ids[(row + 1) * time - length + j] = prompt[j]!;
      for (const slot of slots) {
        pairs[count] = row;
        pairs[this.slots + count] = slot;
        count++;
      }
      row++;
    }
    const inputs = { ids, lengths, pairs, count, rows, time };
    this.#caches = this.#programs.prefill(this.#packed, this.#caches!, inputs, this.#column);
  }

  /** Each slot's next uniforms: position p of a sample always draws foldIn(sample key, p). */
  #drawUniforms(running: readonly (Job | undefined)[], state: SlotState): void {
    for (let slot = 0; slot < this.slots; slot++) {
      const job = running[slot];
      if (job === undefined || job.temperature === 0) continue;
      const at = job.ids.length;
      for (let t = 0; t < this.tokensPerDispatch; t++) {
        const [a, b] = random.threefry2x32(job.key[0], job.key[1], 0, at + t);
        state.uniforms[t * this.slots + slot] = ((a ^ b) >>> 9) * 2 ** -23;
      }
    }
  }

  /** Decodes until the dispatch ends; returns how many jobs finished. */
  async #dispatch(
    running: (Job | undefined)[],
    state: SlotState,
    how: Pick<StepInputs, "stopTable" | "kind" | "leaveAt" | "steps">,
  ): Promise<number> {
    const { slots } = this;
    const inputs: StepInputs = { ...state, ...how, column: this.#column };
    const { caches, output } = this.#programs.decode(this.#packed, this.#caches!, inputs);
    this.#caches = caches;
    const [ids, logProbs, values] = await Promise.all([
      output.ids.data(),
      output.logProbs.data(),
      output.values.data(),
    ]);
    tf.dispose(output);
    const steps = ids[this.tokensPerDispatch * slots]!;
    let finished = 0;
    for (let slot = 0; slot < slots; slot++) {
      const job = running[slot];
      if (job === undefined) continue;
      let last = state.tokens[slot]!;
      for (let t = 0; t < steps; t++) {
        const at = t * slots + slot;
        // A slot with nothing left to do idles through the rest of the dispatch.
        if (state.remaining[slot] === 0 && state.flush[slot] === 0) break;
        if (this.#hasValues) job.values.push(values[at]!);
        state.lengths[slot]!++;
        if (state.flush[slot] === 1) {
          state.flush[slot] = 0;
          break;
        }
        const raw = ids[at]!;
        const stopped = raw < 0;
        last = stopped ? -raw - 1 : raw;
        job.ids.push(last);
        job.logProbs.push(logProbs[at]!);
        state.remaining[slot]!--;
        if (stopped) job.finish = "stop";
        else if (state.remaining[slot] === 0) job.finish = "length";
        if (job.finish !== undefined) {
          state.remaining[slot] = 0;
          state.flush[slot] = this.#hasValues ? 1 : 0;
        }
      }
      state.tokens[slot] = last;
      if (job.hostStops.length > 0 && job.finish !== "stop") this.#stopOnHost(job, slot, state);
      if (job.finish !== undefined && state.flush[slot] === 0) {
        running[slot] = undefined;
        state.remaining[slot] = 0;
        finished++;
      }
    }
    this.#column += steps;
    return finished;
  }

  /** Ends a job whose text now holds a stop string and drops what was generated beyond it. */
  #stopOnHost(job: Job, slot: number, state: SlotState): void {
    const tokenizer = this.#model.tokenizer!;
    const found = (count: number) => {
      const text = tokenizer.decode(job.ids.slice(0, count), { skipSpecialTokens: true });
      return job.hostStops.some((stop) => text.includes(stop));
    };
    if (!found(job.ids.length)) return;
    // The text of a prefix grows with it, so the first prefix that holds a stop is found by halving.
    let low = 1;
    let high = job.ids.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (found(middle)) high = middle;
      else low = middle + 1;
    }
    const overrun = job.ids.length - low;
    job.ids.length = low;
    job.logProbs.length = low;
    job.finish = "stop";
    state.remaining[slot] = 0;
    if (!this.#hasValues) return;
    // V after the last kept token is known already where the slot went on past it.
    state.flush[slot] = overrun > 0 || job.values.length > low ? 0 : 1;
    job.values.length = Math.min(job.values.length, low + 1);
  }

  #collect(requests: readonly GenerationRequest[], jobs: readonly Job[]): Generation[][] {
    const results: Generation[][] = requests.map(() => []);
    const tokenizer = this.#model.tokenizer;
    for (const job of jobs) {
      results[job.request]![job.sample] = {
        ids: job.ids,
        text: tokenizer?.decode(job.ids, { skipSpecialTokens: true }) ?? "",
        logProbs: job.logProbs,
        ...(this.#hasValues ? { values: job.values } : {}),
        finish: job.finish!,
      };
    }
    return results;
  }
}

/** Columns of a ring for sequences of that length: few sizes, so few programs. */
function ringColumns(length: number, ceiling: number): number {
  const columns = Math.max(64, paddedLength(length));
  // A last size barely above another would be a program for nothing.
  return columns * 1.15 >= ceiling ? ceiling : columns;
}

function positive(name: string, value: number): number {
  if (Number.isInteger(value) && value >= 1) return value;
  throw new UserError(`${name} must be a positive integer, found ${value}`, { exitCode: 2 });
}

function check(where: string, name: string, value: number, ok: boolean, wanted: string): void {
  if (!ok) throw new UserError(`${where}: ${name} must be ${wanted}, found ${value}`);
}
