/**
 * A configuration and a tokenizer from GGUF metadata, for `.gguf` files that stand alone. Byte-level
 * BPE tokenizers whose pre-tokenizer is known here are rebuilt; for others, put the model's
 * tokenizer.json beside the file.
 */
import { UserError } from "../errors.ts";
import { type ModelConfig, parseConfig } from "./config.ts";
import type { GgufFile, GgufValue } from "./gguf.ts";
import { Tokenizer } from "./tokenizer.ts";

/** The Hugging Face configuration that the metadata describes. */
export function ggufConfig(gguf: GgufFile): ModelConfig {
  const architecture = text(gguf, "general.architecture");
  const number = (key: string) => {
    const value = gguf.metadata.get(`${architecture}.${key}`);
    return typeof value === "number" || typeof value === "bigint" ? Number(value) : undefined;
  };
  const scaling = gguf.metadata.get(`${architecture}.rope.scaling.type`);
  if (scaling !== undefined && scaling !== "none" && scaling !== "linear") {
    throw new UserError(
      `${gguf.path}: rope scaling '${String(scaling)}' needs a config.json beside`,
    );
  }
  // llama.cpp keeps Llama 3's frequency factors as a tensor instead of the settings behind them.
  if (gguf.names().includes("rope_freqs.weight")) {
    throw new UserError(`${gguf.path} has rope_freqs: put the model's config.json beside it`);
  }
  const embedding = gguf.shape("token_embd.weight");
  const fields = {
    model_type: architecture,
    vocab_size: embedding?.[0] ?? number("vocab_size"),
    hidden_size: number("embedding_length"),
    intermediate_size: number("feed_forward_length"),
    num_hidden_layers: number("block_count"),
    num_attention_heads: number("attention.head_count"),
    num_key_value_heads: number("attention.head_count_kv") ?? number("attention.head_count"),
    head_dim: number("attention.key_length") ?? number("rope.dimension_count"),
    max_position_embeddings: number("context_length"),
    rms_norm_eps: number("attention.layer_norm_rms_epsilon"),
    rope_theta: number("rope.freq_base"),
    ...(scaling === "linear"
      ? { rope_scaling: { type: "linear", factor: number("rope.scaling.factor") } }
      : {}),
    tie_word_embeddings: !gguf.names().includes("output.weight"),
    ...(architecture === "mistral"
      ? { sliding_window: number("attention.sliding_window") ?? null }
      : {}),
    bos_token_id: plain(gguf.metadata.get("tokenizer.ggml.bos_token_id")),
    eos_token_id: plain(gguf.metadata.get("tokenizer.ggml.eos_token_id")),
    pad_token_id: plain(gguf.metadata.get("tokenizer.ggml.padding_token_id")),
  };
  return parseConfig(
    Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)),
    `${gguf.path} (metadata)`,
  );
}

function text(gguf: GgufFile, key: string): string {
  const value = gguf.metadata.get(key);
  if (typeof value !== "string") {
    throw new UserError(`${gguf.path}: metadata '${key}' is missing or not a text`);
  }
  return value;
}

function plain(value: GgufValue | undefined): number | undefined {
  return typeof value === "number" ? value : undefined;
}

const byteLevel = {
  type: "ByteLevel",
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: false,
};

function splitBy(pattern: string) {
  const split = { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
  return { type: "Sequence", pretokenizers: [split, byteLevel] };
}

const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const wordsAndRest = "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+";
const punctuationAndSpace = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** The pre-tokenizer behind each name llama.cpp gives. */
const preTokenizers: Record<string, object> = {
  smollm: {
    type: "Sequence",
    pretokenizers: [{ type: "Digits", individual_digits: true }, { ...byteLevel, use_regex: true }],
  },
  "gpt-2": { ...byteLevel, use_regex: true },
  qwen2: splitBy([contractions, wordsAndRest, "\\p{N}", punctuationAndSpace].join("|")),
  "llama-bpe": splitBy([contractions, wordsAndRest, "\\p{N}{1,3}", punctuationAndSpace].join("|")),
};

/** ggml's token types for tokens that text can hold whole. */
const CONTROL = 3;
const USER_DEFINED = 4;

/** The tokenizer in the metadata, with its chat template; undefined where there is none. */
export function ggufTokenizer(gguf: GgufFile): Tokenizer | undefined {
  const { metadata, path } = gguf;
  const model = metadata.get("tokenizer.ggml.model");
  const tokens = metadata.get("tokenizer.ggml.tokens");
  if (model === undefined || !Array.isArray(tokens)) return undefined;
  const name = String(metadata.get("tokenizer.ggml.pre") ?? "default");
  const preTokenizer = preTokenizers[name];
  if (model !== "gpt2" || preTokenizer === undefined) {
    throw new UserError(
      `${path}: tokenizer '${String(model)}' with pre-tokenizer '${name}' cannot be rebuilt ` +
        `(known: gpt2 with ${Object.keys(preTokenizers).join(", ")}): ` +
        `put the model's tokenizer.json beside the file`,
    );
  }
  const types = metadata.get("tokenizer.ggml.token_type");
  const typeOf = (id: number) => Array.isArray(types) ? types[id] : undefined;
  const added = tokens.flatMap((content, id) => {
    const type = typeOf(id);
    if (type !== CONTROL && type !== USER_DEFINED) return [];
    return [{
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: type === CONTROL,
    }];
  });
  const json = {
    version: "1.0",
    added_tokens: added,
    normalizer: name === "qwen2" ? { type: "NFC" } : null,
    pre_tokenizer: preTokenizer,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: "BPE",
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: name === "llama-bpe",
      vocab: Object.fromEntries(tokens.map((token, id) => [String(token), id])),
      merges: metadata.get("tokenizer.ggml.merges") ?? [],
    },
  };
  const tokenAt = (key: string) => {
    const id = plain(metadata.get(`tokenizer.ggml.${key}_token_id`));
    return id === undefined ? undefined : tokens[id];
  };
  const config = {
    bos_token: tokenAt("bos"),
    eos_token: tokenAt("eos"),
    pad_token: tokenAt("padding"),
    chat_template: metadata.get("tokenizer.chat_template"),
    clean_up_tokenization_spaces: false,
  };
  return new Tokenizer({
    "tokenizer.json": JSON.stringify(json),
    "tokenizer_config.json": JSON.stringify(config),
  }, path);
}
