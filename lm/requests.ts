/** What is asked of generation and what comes back, checked and taken apart into single samples. */
import { random } from "../xla/mod.ts";
import { UserError } from "../errors.ts";
import type { ModelConfig } from "./config.ts";
import type { Call, Job } from "./slots.ts";
import { StopWatch } from "./text_stream.ts";
import type { Tokenizer } from "./tokenizer.ts";
import type { Params } from "./transformer.ts";

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
  /** Only tokens with at least this share of the likeliest one's probability; 0 or absent: all. */
  readonly minP?: number;
  /** Above 1, tokens of the prompt and those generated become less likely. Default 1. */
  readonly repetitionPenalty?: number;
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
  /** The model's log-probability of each token, at temperature 1, over all tokens and without penalties. */
  readonly logProbs: number[];
  /** V of the prefix before each token, then of the whole: ids.length + 1 numbers. */
  readonly values?: number[];
  readonly finish: "stop" | "length";
}

/** New tokens of one sample, as they come. */
export interface GenerationUpdate {
  readonly request: number;
  readonly sample: number;
  readonly ids: readonly number[];
  readonly logProbs: readonly number[];
  /** Set with the sample's last tokens. */
  readonly finish?: "stop" | "length";
}

/** What generation needs of a model. */
export interface GeneratorModel {
  readonly config: ModelConfig;
  readonly params: Params;
  readonly tokenizer?: Tokenizer | undefined;
  readonly generationConfig?: { readonly eosTokenIds?: readonly number[] } | undefined;
}

const MAX_SEED = Number.MAX_SAFE_INTEGER;

/** Takes requests apart, for one model and one length of sequence. */
export class RequestReader {
  readonly #stopTokens = new Map<string, number[]>();

  constructor(
    private readonly model: GeneratorModel,
    private readonly maxLength: number,
  ) {}

  /** @throws UserError naming the request and the field that cannot be served */
  jobs(request: GenerationRequest, index: number, call: Call): Job[] {
    const { promptIds, n = 1, seed = 0, temperature = 1, topK = 0, topP = 1 } = request;
    const { minP = 0, repetitionPenalty = 1 } = request;
    const where = `request ${index}`;
    const { vocabSize } = this.model.config;
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
    const check = (name: string, value: number, ok: boolean, wanted: string) => {
      if (!ok) throw new UserError(`${where}: ${name} must be ${wanted}, found ${value}`);
    };
    const natural = "a non-negative integer";
    check("n", n, Number.isInteger(n) && n >= 1, "a positive integer");
    check("seed", seed, Number.isInteger(seed) && seed >= 0 && seed <= MAX_SEED, natural);
    check("temperature", temperature, temperature >= 0 && temperature < Infinity, "0 or more");
    check("topK", topK, Number.isInteger(topK) && topK >= 0, natural);
    check("topP", topP, topP > 0 && topP <= 1, "in (0, 1]");
    check("minP", minP, minP >= 0 && minP <= 1, "in [0, 1]");
    const penaltyOk = repetitionPenalty > 0 && repetitionPenalty < Infinity;
    check("repetitionPenalty", repetitionPenalty, penaltyOk, "positive");
    const { tokens, strings } = this.#stops(request, where);
    const root = [Math.floor(seed / 2 ** 32), seed | 0] as const;
    return Array.from({ length: n }, (_, sample) => ({
      call,
      request: index,
      sample,
      promptIds,
      key: random.threefry2x32(root[0], root[1], 0, sample),
      temperature,
      topK,
      topP,
      minP,
      repetitionPenalty,
      maxNewTokens,
      stopTokens: tokens,
      watch: strings.length === 0 ? undefined : new StopWatch(this.model.tokenizer!, strings),
      ids: [],
      logProbs: [],
      values: [],
    }));
  }

  /** Tokens that end a sequence by themselves, and the strings that several tokens may spell. */
  #stops(request: GenerationRequest, where: string): { tokens: number[]; strings: string[] } {
    const { config, generationConfig, tokenizer } = this.model;
    const ids = request.stopIds ??
      [...new Set([...config.eosTokenIds, ...(generationConfig?.eosTokenIds ?? [])])];
    const strings = request.stop ?? [];
    if (strings.length === 0) return { tokens: [...ids], strings: [] };
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
      strings: strings.filter((stop) => stop.length > 1 || stop.charCodeAt(0) > 0x7f),
    };
  }
}
