/**
 * Generation with continuous batching. A fixed number of slots decode together on the device, several
 * tokens a dispatch; finished slots are refilled from the queue between dispatches, by requests of
 * whatever call. Shapes never depend on how long sequences are, so nothing is compiled while they grow.
 * The host only schedules: it draws each slot's uniform numbers from the request's seed and collects
 * what came back.
 */
import { isBfloat16, random, tf } from "../xla/mod.ts";
import { UserError } from "../errors.ts";
import type { ModelConfig } from "./config.ts";
import type { PackedModel, PackedType } from "./packed.ts";
import { type Caches, emptyCaches, type Pair, programsFor, type StepInputs } from "./programs.ts";
import {
  type Generation,
  type GenerationRequest,
  type GenerationUpdate,
  type GeneratorModel,
  RequestReader,
} from "./requests.ts";
import { GREEDY, type SamplingKind } from "./sampling.ts";
import { paddedLength } from "./score.ts";
import { parameter } from "./transformer.ts";
import { Turns } from "./turns.ts";
import { bucket, type Call, type Job, SlotState, StopSets } from "./slots.ts";

export interface GeneratorOptions {
  /** Sequences decoded at once. Default 32. */
  readonly slots?: number;
  /** Prompt and new tokens together. Default 512. */
  readonly maxLength?: number;
  /** Most tokens per slot before the host looks again. Default 32. */
  readonly tokensPerDispatch?: number;
  /** A model with a value head that reads every prefix. */
  readonly valueModel?: GeneratorModel;
  /**
   * What weights are kept as and multiplied in. "int8" rounds weights and activations to 8 bits: fastest
   * on a CPU, and log-probabilities are then those of the rounded model. Default: bfloat16 where the
   * parameters are (see `loadModel`), else float32.
   */
  readonly dtype?: PackedType;
  /**
   * Requests keep coming while others run, as in a server: the cache is laid out for the longest that
   * may come instead of the longest that is there.
   */
  readonly open?: boolean;
  /**
   * Requests are as long as `maxLength` lets them be and come in any order, as the turns of many
   * conversations do: the cache has its full length from the start, and a request that goes on where a
   * finished one ended takes over its slot and computes only what is new.
   */
  readonly whole?: boolean;
}

export interface GenerateOptions {
  readonly signal?: AbortSignal;
  /** Finished samples, and how many there are. */
  readonly onProgress?: (done: number, total: number) => void;
  /** New tokens of a sample, after each dispatch that made some. */
  readonly onTokens?: (update: GenerationUpdate) => void;
}

/** Prompts are computed for this share of the slots at a time: what a refill usually needs. */
const PREFILL_SHARE = 4;

/** Steps that a ring below its last size has room for when it grows. */
const LOOKAHEAD = 32;

export class Generator implements Disposable {
  readonly slots: number;
  readonly maxLength: number;
  readonly tokensPerDispatch: number;
  readonly #model: GeneratorModel;
  /** Configurations of the policy and, where there is one, the value model. */
  readonly #models: readonly ModelConfig[];
  readonly #requests: RequestReader;
  readonly #programs: ReturnType<typeof programsFor>;
  readonly #packed: Pair<PackedModel>;
  readonly #hasValues: boolean;
  readonly #open: boolean;
  readonly #whole: boolean;
  readonly #queue: Job[] = [];
  readonly #running: (Job | undefined)[];
  readonly #state: SlotState;
  #turns: Turns | undefined;
  #stopSets: StopSets;
  #kind: SamplingKind = GREEDY;
  #working = false;
  #caches: Caches | undefined;
  /** Columns of the caches' ring, and how many it may come to have. */
  #columns = 0;
  #ceiling = 0;
  /** The column that the next step writes. */
  #column = 0;
  /** The longest prompt, less its last token, that a ring below its ceiling takes. */
  #longest = 0;

  /**
   * Takes the weights over for decoding: in float32 copies, which later changes of `params` do not reach;
   * else partly `params` themselves, which must then not be donated while the generator is there.
   * @throws UserError where the sizes do not fit the models.
   */
  constructor(model: GeneratorModel, options: GeneratorOptions = {}) {
    this.slots = positive("slots", options.slots ?? 32);
    this.maxLength = positive("maxLength", options.maxLength ?? 512);
    this.tokensPerDispatch = positive("tokensPerDispatch", options.tokensPerDispatch ?? 32);
    this.#whole = options.whole ?? false;
    this.#open = (options.open ?? false) || this.#whole;
    this.#model = model;
    this.#requests = new RequestReader(model, this.maxLength);
    this.#running = new Array(this.slots).fill(undefined);
    this.#state = new SlotState(this.slots, this.tokensPerDispatch);
    this.#stopSets = new StopSets(model.config.vocabSize);
    const value = options.valueModel;
    this.#models = value === undefined ? [model.config] : [model.config, value.config];
    this.#hasValues = value !== undefined;
    const stored = isBfloat16(parameter(model.params, "model.embed_tokens.weight"));
    this.#programs = programsFor(model.config, value?.config, {
      weights: options.dtype ?? (stored ? "bfloat16" : "float32"),
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
    this.#stopSets.dispose();
    this.#caches = undefined;
  }

  /**
   * Samples for each request, in the order of the requests. May be called while other calls run; their
   * requests share the slots.
   * @throws UserError where a request cannot be served; nothing is generated then.
   */
  async generate(
    requests: readonly GenerationRequest[],
    options: GenerateOptions = {},
  ): Promise<Generation[][]> {
    options.signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const { onProgress, onTokens } = options;
    const call: Call = {
      left: 0,
      signal: options.signal,
      onTokens: onTokens && ((job) => onTokens(updateOf(job, reported))),
      onFinished: () => {
        onProgress?.(jobs.length - call.left, jobs.length);
        if (call.left === 0) resolve();
      },
      reject,
    };
    const reported = new Map<Job, number>();
    const jobs = requests.flatMap((request, i) => this.#requests.jobs(request, i, call));
    call.left = jobs.length;
    if (jobs.length === 0) return requests.map(() => []);
    for (const job of jobs) this.#queue.push(job);
    if (!this.#working) void this.#work();
    await promise;
    return this.#collect(requests, jobs);
  }

  /** Decodes until nothing is left to do. What fails here fails every call and is not thrown. */
  async #work(): Promise<void> {
    this.#working = true;
    // Calls of the same moment start together.
    await Promise.resolve();
    try {
      while (this.#queue.length > 0 || this.#busy > 0) {
        this.#dropAborted();
        if (this.#busy === 0) {
          if (this.#queue.length === 0) break;
          this.#start();
        }
        this.#refill();
        this.#turns?.force();
        this.#drawUniforms();
        await this.#dispatch(this.#makeRoom());
        if (this.#columns === this.#ceiling) this.#column %= this.#ceiling;
        // Who got an answer asks its next question before slots are given away.
        if (this.#turns !== undefined) await new Promise<void>((next) => setImmediate(next));
      }
    } catch (error) {
      const jobs = [...this.#queue, ...this.#running].filter((job) => job !== undefined);
      this.#queue.length = 0;
      this.#turns = undefined;
      for (const [slot] of this.#running.entries()) this.#free(slot);
      for (const call of new Set(jobs.map((job) => job.call))) call.reject(error);
    }
    // In the same moment as the last look at the queue: a later call starts anew.
    this.#working = false;
  }

  get #busy(): number {
    return this.#running.reduce((count, job) => count + (job === undefined ? 0 : 1), 0);
  }

  #free(slot: number): void {
    this.#running[slot] = undefined;
    this.#state.stop(slot);
  }

  #dropAborted(): void {
    const aborted = (job: Job | undefined) => job?.call.signal?.aborted === true;
    const jobs = [...this.#queue, ...this.#running].filter(aborted) as Job[];
    if (jobs.length === 0) return;
    const kept = this.#queue.filter((job) => !aborted(job));
    this.#queue.splice(0, this.#queue.length, ...kept);
    for (const [slot, job] of this.#running.entries()) if (aborted(job)) this.#free(slot);
    for (const { signal, reject } of new Set(jobs.map((job) => job.call))) reject(signal!.reason);
  }

  /** Lays out an empty ring and what else the queued jobs decide together; no slot is busy. */
  #start(): void {
    this.#kind = this.#queue.reduce(withNeedsOf, GREEDY);
    this.#stopSets.dispose();
    this.#stopSets = new StopSets(this.#model.config.vocabSize);
    for (const job of this.#queue) this.#stopSets.index(job.stopTokens);
    // One shape for all prefills of the batch, unless a prompt is much shorter than the longest.
    let top = this.#queue.reduce((most, job) => Math.max(most, job.promptIds.length - 1), 0);
    if (this.#open) top = Math.max(top, this.maxLength >> 2);
    this.#longest = Math.min(this.maxLength, Math.ceil(top / 8) * 8);
    const most = this.#open
      ? this.maxLength
      : this.#queue.reduce((m, job) => Math.max(m, job.promptIds.length + job.maxNewTokens), 1);
    this.#ceiling = ringColumns(most, this.maxLength);
    // Refills keep sequences of all lengths in the ring; a batch that starts together can begin small.
    const columns = this.#whole || (this.#queue.length > this.slots && !this.#open)
      ? this.#ceiling
      : ringColumns(this.#longest + LOOKAHEAD, this.#ceiling);
    // Slots wait for the next turn of their conversation.
    if (this.#turns !== undefined && this.#columns === columns) return;
    if (this.#columns !== columns || this.#caches === undefined) {
      if (this.#caches !== undefined) tf.dispose(this.#caches);
      this.#caches = emptyCaches(this.#programs.shape, columns);
      this.#columns = columns;
    }
    this.#column = this.#longest % columns;
    // A window over the latest tokens cannot be told from columns with holes between them.
    if (
      this.#whole && this.#models.every((model) => model.slidingWindows.every((w) => w === null))
    ) {
      this.#turns = new Turns(this.slots, columns, this.tokensPerDispatch);
    }
  }

  /**
   * How many steps the next dispatch may take. Attention reads the whole ring at each step, so it grows
   * with the sequences; below its last size it never wraps, and grows by columns at its end.
   */
  #makeRoom(): number {
    if (this.#columns === this.#ceiling) return this.tokensPerDispatch;
    const wanted = Math.min(this.#state.mostSteps(), LOOKAHEAD, this.tokensPerDispatch);
    if (this.#column + wanted > this.#columns) {
      const columns = ringColumns(this.#column + wanted, this.#ceiling);
      this.#caches = this.#programs.grow(this.#caches!, columns - this.#columns);
      this.#columns = columns;
      if (columns === this.#ceiling) return this.tokensPerDispatch;
    }
    return Math.min(this.tokensPerDispatch, this.#columns - this.#column);
  }

  /** Whether the ring has room for the job; where not, it waits until the ring is laid out anew. */
  #fits({ promptIds, maxNewTokens }: Job): boolean {
    if (promptIds.length + maxNewTokens > this.#ceiling) return false;
    return this.#columns === this.#ceiling || promptIds.length - 1 <= this.#longest;
  }

  /** Starts queued jobs in free slots; a prompt shared by several samples is computed once. */
  #refill(): void {
    const rows = Math.ceil(this.slots / PREFILL_SHARE);
    const slotsOf = new Map<readonly number[], number[]>();
    let taken = 0;
    this.#resume();
    for (let slot = 0; slot < this.slots; slot++) {
      if (this.#running[slot] !== undefined) continue;
      const job = this.#queue[taken];
      if (job === undefined || !this.#fits(job)) break;
      taken++;
      this.#running[slot] = job;
      this.#kind = withNeedsOf(this.#kind, job);
      this.#state.start(slot, job, this.#stopSets.index(job.stopTokens));
      this.#turns?.begin(slot, job, this.#column);
      // The last prompt token is fed by the first decoding step; a prompt of one needs no prefill.
      if (job.promptIds.length < 2) continue;
      const slots = slotsOf.get(job.promptIds);
      if (slots !== undefined) slots.push(slot);
      else {
        if (slotsOf.size === rows) {
          this.#prefill(slotsOf, rows);
          slotsOf.clear();
        }
        slotsOf.set(job.promptIds, [slot]);
      }
    }
    this.#queue.splice(0, taken);
    if (slotsOf.size > 0) this.#prefill(slotsOf, rows);
  }

  /** Starts queued jobs that go on where an idle slot's sequence ended. */
  #resume(): void {
    const turns = this.#turns;
    if (turns === undefined) return;
    const idle = [...this.#running.keys()].filter((slot) => this.#running[slot] === undefined);
    const left = this.#queue.filter((job) => {
      const slot = idle.length > 0 ? turns.slotFor(job, idle) : undefined;
      if (slot === undefined) return true;
      idle.splice(idle.indexOf(slot), 1);
      this.#running[slot] = job;
      this.#kind = withNeedsOf(this.#kind, job);
      this.#state.start(slot, job, this.#stopSets.index(job.stopTokens));
      const length = turns.resume(slot, job);
      this.#state.lengths[slot] = length;
      this.#state.tokens[slot] = job.promptIds[length]!;
      return false;
    });
    this.#queue.splice(0, this.#queue.length, ...left);
  }

  #prefill(slotsOf: Map<readonly number[], number[]>, rows: number): void {
    const needed = [...slotsOf.keys()].reduce((top, prompt) => Math.max(top, prompt.length), 0) - 1;
    const most = needed <= this.#longest ? this.#longest : this.#columns;
    const time = Math.min(bucket(needed, 16), most);
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
  #drawUniforms(): void {
    for (const [slot, job] of this.#running.entries()) {
      if (job === undefined || job.temperature === 0) continue;
      const fed = this.#turns?.pending(slot) ?? 0;
      const at = job.ids.length - fed;
      for (let t = fed; t < this.tokensPerDispatch; t++) {
        const [a, b] = random.threefry2x32(job.key[0], job.key[1], 0, at + t);
        this.#state.uniforms[t * this.slots + slot] = ((a ^ b) >>> 9) * 2 ** -23;
      }
    }
  }

  /** 1 at the tokens that each slot's sequence has, for the repetition penalty. */
  #seen(): Uint8Array | undefined {
    if (!this.#kind.repetition) return undefined;
    const { vocabSize } = this.#model.config;
    const seen = new Uint8Array(this.slots * vocabSize);
    for (const [slot, job] of this.#running.entries()) {
      if (job === undefined || job.repetitionPenalty === 1) continue;
      for (const id of job.promptIds) seen[slot * vocabSize + id] = 1;
      for (const id of job.ids) seen[slot * vocabSize + id] = 1;
    }
    return seen;
  }

  /** Decodes at most `limit` steps and hands out what they gave. */
  async #dispatch(limit: number): Promise<void> {
    const busy = this.#busy;
    const { caches, output } = this.#programs.decode(
      this.#packed,
      this.#caches!,
      {
        ...this.#state,
        column: this.#column,
        steps: limit,
        // With work waiting, come back once a quarter of the slots stand idle.
        leaveAt: this.#queue.length > 0 || this.#turns !== undefined ? Math.floor(busy * 0.75) : 0,
        held: this.#turns?.held,
        forced: this.#turns?.forced,
        stopTable: this.#stopSets.table,
        kind: this.#kind,
        seen: this.#seen(),
      } satisfies StepInputs,
    );
    this.#caches = caches;
    const [ids, logProbs, values] = await Promise.all([
      output.ids.data<"int32">(),
      output.logProbs.data<"float32">(),
      output.values.data<"float32">(),
    ]);
    tf.dispose(output);
    const steps = ids[this.tokensPerDispatch * this.slots]!;
    const lengths = this.#state.lengths.slice();
    for (const [slot, job] of this.#running.entries()) {
      if (job === undefined) continue;
      const before = job.ids.length;
      this.#take(job, slot, steps, { ids, logProbs, values });
      if (job.watch !== undefined) this.#stopOnText(job, slot, before);
      const done = job.finish !== undefined && this.#state.flush[slot] === 0;
      if (job.ids.length > before) job.call.onTokens?.(job);
      if (!done) continue;
      if (job.watch === undefined) this.#turns?.keep(slot, job, this.#state.lengths[slot]!);
      this.#free(slot);
      job.call.left--;
      job.call.onFinished();
    }
    this.#turns?.advance(
      this.#column,
      steps,
      this.#state.lengths.map((length, slot) => length - lengths[slot]!),
    );
    this.#column += steps;
  }

  /** Gives a job what its slot chose in so many steps. */
  #take(
    job: Job,
    slot: number,
    steps: number,
    output: { ids: Int32Array; logProbs: Float32Array; values: Float32Array },
  ): void {
    const state = this.#state;
    let last = state.tokens[slot]!;
    const fed = Math.min(this.#turns?.pending(slot) ?? 0, steps);
    last = this.#turns?.fed(slot, fed) ?? last;
    state.lengths[slot]! += fed;
    for (let t = fed; t < steps; t++) {
      const at = t * this.slots + slot;
      // A slot with nothing left to do idles through the rest of the dispatch.
      if (state.remaining[slot] === 0 && state.flush[slot] === 0) break;
      if (this.#hasValues) job.values.push(output.values[at]!);
      state.lengths[slot]!++;
      if (state.flush[slot] === 1) {
        state.flush[slot] = 0;
        break;
      }
      const raw = output.ids[at]!;
      const stopped = raw < 0;
      last = stopped ? -raw - 1 : raw;
      job.ids.push(last);
      job.logProbs.push(output.logProbs[at]!);
      state.remaining[slot]!--;
      if (stopped) job.finish = "stop";
      else if (state.remaining[slot] === 0) job.finish = "length";
      if (job.finish !== undefined) {
        state.remaining[slot] = 0;
        state.flush[slot] = this.#hasValues ? 1 : 0;
      }
    }
    state.tokens[slot] = last;
  }

  /** Ends a job whose tokens from `before` on complete a stop string; drops what came after that. */
  #stopOnText(job: Job, slot: number, before: number): void {
    let length = before;
    while (length < job.ids.length) {
      if (job.watch!.completes(job.ids[length++]!)) break;
      if (length === job.ids.length) return;
    }
    if (length === before) return;
    const overrun = job.ids.length - length;
    job.ids.length = length;
    job.logProbs.length = length;
    job.finish = "stop";
    this.#state.remaining[slot] = 0;
    if (!this.#hasValues) return;
    // V after the last kept token is known already where the slot went on past it.
    this.#state.flush[slot] = overrun > 0 || job.values.length > length ? 0 : 1;
    job.values.length = Math.min(job.values.length, length + 1);
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

/** The kind of sampling that also serves `job`. */
function withNeedsOf(kind: SamplingKind, job: Job): SamplingKind {
  const random = job.temperature > 0;
  return {
    random: kind.random || random,
    topK: kind.topK || (random && job.topK > 0),
    topP: kind.topP || (random && job.topP < 1),
    minP: kind.minP || (random && job.minP > 0),
    repetition: kind.repetition || job.repetitionPenalty !== 1,
  };
}

/** What a job has that was not reported yet. */
function updateOf(job: Job, reported: Map<Job, number>): GenerationUpdate {
  const from = reported.get(job) ?? 0;
  reported.set(job, job.ids.length);
  return {
    request: job.request,
    sample: job.sample,
    ids: job.ids.slice(from),
    logProbs: job.logProbs.slice(from),
    ...(job.finish === undefined ? {} : { finish: job.finish }),
  };
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
