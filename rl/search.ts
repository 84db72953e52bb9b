/**
 * Search at test time, guided by the value model: step-level beam search for reasoning, best of K
 * actions for agents (OREO paper, section 4.4). Many problems advance together, one round of proposals
 * a step, so that the generator's slots stay full.
 */
import { createHash } from "node:crypto";
import type { Generation, GenerationRequest } from "../lm/mod.ts";

/** What search needs of a generator: one with a value model, so that generations carry `values`. */
export interface ValuedGenerator {
  readonly maxLength: number;
  generate(
    requests: readonly GenerationRequest[],
    options?: { signal?: AbortSignal; onProgress?: (done: number, total: number) => void },
  ): Promise<Generation[][]>;
}

export interface SearchProblem {
  readonly promptIds: readonly number[];
  /** Non-negative integer; the same problem, seed and options give the same answer in any company. */
  readonly seed: number;
}

interface SamplingOptions {
  /** Tokens that end a response (end of text). V after them is never trained and never read. */
  endIds: readonly number[];
  /** Default 1. */
  temperature?: number;
  topK?: number;
  topP?: number;
  signal?: AbortSignal;
}

export interface BeamOptions extends SamplingOptions {
  /** B: sequences kept after each step. 1 samples step by step without a choice. */
  beams: number;
  /** Steps that each beam proposes; default B. */
  proposals?: number;
  /** A step ends after the token that completes one of these; default a line break. */
  stepEnds?: readonly string[];
  /** New tokens of a response; default what fits into the generator. */
  maxNewTokens?: number;
  /** After each round: problems finished, and in all. */
  onProgress?: (done: number, total: number) => void;
}

export interface SearchResult {
  /** The response, its end token included. */
  ids: number[];
  /** V of the prefix before each token of `ids`. */
  values: number[];
  /** Where the steps end: ascending indices into `ids` of their last tokens. */
  stepEnds: number[];
  /** V by which it was chosen: at its end, before the end token. */
  value: number;
  /** `length` where it was cut off. */
  finish: "stop" | "length";
}

/**
 * V of a response or a step: of the prefix that it completes, or, where its last token is an end
 * token, of the prefix before that token, the last state that training has seen.
 */
function valueOf(generation: Generation, endIds: readonly number[]): number {
  const values = valuesOf(generation);
  const { ids } = generation;
  return endIds.includes(ids.at(-1)!) ? values[ids.length - 1]! : values[ids.length]!;
}

function valuesOf({ values }: Generation): readonly number[] {
  if (values === undefined) throw new TypeError("search needs a generator with a value model");
  return values;
}

/** A 32-bit seed that depends on all its parts. */
function seedOf(...parts: number[]): number {
  return createHash("sha256").update(parts.join("/")).digest().readUInt32LE(0);
}

interface Beam {
  ids: readonly number[];
  values: readonly number[];
  stepEnds: readonly number[];
  value: number;
  finish?: "stop" | "length";
}

const root: Beam = { ids: [], values: [], stepEnds: [], value: -Infinity };

/**
 * Step-level beam search: each of B beams proposes steps, of all distinct proposals the B with the
 * highest V stay. A finished response competes with its V and proposes nothing more; when all that stay
 * are finished, the best is the answer. A response that was cut off ranks below every other. The first
 * step is proposed as often as B beams would.
 *
 * @throws what the generator throws, the signal's reason when aborted
 */
export async function beamSearch(
  generator: ValuedGenerator,
  problems: readonly SearchProblem[],
  options: BeamOptions,
): Promise<SearchResult[]> {
  const { beams: width, proposals = width } = options;
  if (!(Number.isInteger(width) && width >= 1 && Number.isInteger(proposals) && proposals >= 1)) {
    throw new RangeError(`beams and proposals must be positive integers: ${width}, ${proposals}`);
  }
  const searches = problems.map((problem) => new BeamState(problem, generator, options));
  for (let round = 0;; round++) {
    const open = searches.filter((search) => !search.finished);
    options.onProgress?.(searches.length - open.length, searches.length);
    if (open.length === 0) break;
    const asked = open.map((search) => search.requests(round));
    const answers = await generator.generate(
      asked.flat(),
      options.signal === undefined ? {} : { signal: options.signal },
    );
    let at = 0;
    for (const [i, search] of open.entries()) {
      search.advance(answers.slice(at, at + asked[i]!.length));
      at += asked[i]!.length;
    }
  }
  return searches.map((search) => search.result());
}

/** The beams of one problem. */
class BeamState {
  #beams: Beam[] = [root];

  constructor(
    readonly problem: SearchProblem,
    readonly generator: ValuedGenerator,
    readonly options: BeamOptions,
  ) {}

  get #open(): Beam[] {
    return this.#beams.filter((beam) => beam.finish === undefined);
  }

  get finished(): boolean {
    return this.#open.length === 0;
  }

  #room(beam: Beam): number {
    const { promptIds } = this.problem;
    const limit = this.generator.maxLength - promptIds.length;
    return Math.min(this.options.maxNewTokens ?? limit, limit) - beam.ids.length;
  }

  /** One request for each open beam. */
  requests(round: number): GenerationRequest[] {
    const { beams: width, proposals = width, stepEnds = ["\n"], endIds } = this.options;
    const { temperature = 1, topK = 0, topP = 1 } = this.options;
    return this.#open.map((beam, i) => ({
      promptIds: [...this.problem.promptIds, ...beam.ids],
      n: round === 0 ? width * proposals : proposals,
      seed: seedOf(this.problem.seed, round, i),
      temperature,
      topK,
      topP,
      maxNewTokens: this.#room(beam),
      stop: stepEnds,
      stopIds: endIds,
    }));
  }

  /** Takes the proposals of `requests`, keeps the best. */
  advance(answers: readonly Generation[][]): void {
    const { beams: width, endIds } = this.options;
    const candidates = new Map<string, Beam>();
    const add = (beam: Beam) => {
      const key = beam.ids.join();
      if (!candidates.has(key)) candidates.set(key, beam);
    };
    for (const beam of this.#beams) if (beam.finish !== undefined) add(beam);
    for (const [i, beam] of this.#open.entries()) {
      for (const step of answers[i]!) add(this.#extend(beam, step, endIds));
    }
    this.#beams = [...candidates.values()]
      .sort(byRank)
      .slice(0, width);
  }

  #extend(beam: Beam, step: Generation, endIds: readonly number[]): Beam {
    const ids = [...beam.ids, ...step.ids];
    const ended = endIds.includes(ids.at(-1)!);
    const next: Beam = {
      ids,
      values: [...beam.values, ...valuesOf(step).slice(0, step.ids.length)],
      stepEnds: [...beam.stepEnds, ids.length - 1],
      value: valueOf(step, endIds),
    };
    if (ended) return { ...next, finish: "stop" };
    return step.finish === "length" || this.#room(next) < 1 ? { ...next, finish: "length" } : next;
  }

  result(): SearchResult {
    const best = this.#beams[0]!;
    return {
      ids: [...best.ids],
      values: [...best.values],
      stepEnds: [...best.stepEnds],
      value: best.value,
      finish: best.finish!,
    };
  }
}

/** The highest V first, what was cut off last; equals keep their order. */
function byRank(a: Beam, b: Beam): number {
  const cut = Number(a.finish === "length") - Number(b.finish === "length");
  return cut !== 0 ? cut : b.value - a.value;
}

export interface BestOfOptions extends SamplingOptions {
  /** K: how many are sampled. */
  k: number;
  /** What ends an action beside `endIds`; default nothing, so that whole responses compete. */
  stop?: readonly string[];
  maxNewTokens?: number;
}

/** What was chosen; `value` is V at its end. */
export interface BestOfResult extends Generation {
  value: number;
}

/**
 * Best of K by V: samples K actions (or whole responses) from each state and takes the one whose end
 * has the highest V; what was cut off only where nothing else is.
 */
export async function bestOfK(
  generator: ValuedGenerator,
  states: readonly SearchProblem[],
  options: BestOfOptions,
): Promise<BestOfResult[]> {
  const { k, endIds, temperature = 1, topK = 0, topP = 1, stop = [], signal } = options;
  const answers = await generator.generate(
    states.map(({ promptIds, seed }) => ({
      promptIds,
      n: k,
      seed: seedOf(seed),
      temperature,
      topK,
      topP,
      maxNewTokens: Math.min(
        options.maxNewTokens ?? Infinity,
        generator.maxLength - promptIds.length,
      ),
      stop,
      stopIds: endIds,
    })),
    signal === undefined ? {} : { signal },
  );
  return answers.map((samples) => {
    const valued = samples.map((sample) => ({ ...sample, value: valueOf(sample, endIds) }));
    const score = (s: BestOfResult) => s.finish === "length" ? -Infinity : s.value;
    return valued.reduce((best, sample) => score(sample) > score(best) ? sample : best);
  });
}
