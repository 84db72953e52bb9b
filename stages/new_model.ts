/** A small model of the Qwen2 architecture with a tokenizer of characters or words, trained from scratch. */
import { z } from "zod";
import {
  charTokenizer,
  initParams,
  parseConfig,
  type Tokenizer,
  wordTokenizer,
} from "../lm/mod.ts";
import type { LanguageModel } from "./language_model.ts";

export const modelFields = {
  /** Shape of the model where there is no checkpoint to start from. */
  shape: z.object({
    hidden: z.int().positive().default(128),
    layers: z.int().positive().default(3),
    heads: z.int().positive().default(4),
    keyValueHeads: z.int().positive().default(2),
    feedForward: z.int().positive().default(352),
    /** Longest sequence, in tokens. */
    maxLength: z.int().positive().default(512),
  }).prefault({}),
  /** What a token of a new model is; words are those of the training split's demonstrations. */
  vocabulary: z.enum(["characters", "words"]).default("characters"),
};

type ModelShape = z.output<typeof modelFields.shape>;

/** The tokenizer of a new model. */
export function newTokenizer(
  vocabulary: z.output<typeof modelFields.vocabulary>,
  alphabet: string,
  texts: Iterable<string>,
): Tokenizer {
  return vocabulary === "words" ? wordTokenizer(texts, alphabet) : charTokenizer(alphabet);
}

export function newModel(shape: ModelShape, tokenizer: Tokenizer, seed: number): LanguageModel {
  const config = parseConfig({
    model_type: "qwen2",
    architectures: ["Qwen2ForCausalLM"],
    vocab_size: tokenizer.vocabSize,
    hidden_size: shape.hidden,
    intermediate_size: shape.feedForward,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.keyValueHeads,
    max_position_embeddings: shape.maxLength,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: true,
    initializer_range: 0.02,
    bos_token_id: null,
    eos_token_id: tokenizer.eosId,
    pad_token_id: tokenizer.padId,
  });
  return { config, params: initParams(config, seed), tokenizer, generationConfig: {} };
}
