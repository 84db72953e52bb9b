/**
 * A configuration and a tokenizer from GGUF metadata, for `.gguf` files that stand alone. Byte-level
 * BPE tokenizers whose pre-tokenizer is known here are rebuilt; for others, put the model's
 * tokenizer.json beside the file.
 */
import { UserError } from "../errors.ts";
import { type ModelConfig, parseConfig } from "./config.ts";
import type { GgufFile, GgufValue } from "./gguf.ts";
import { Tokenizer } from "./tokenizer.ts";

/** Metadata of an architecture that is read, or that says nothing about the function computed. */
const understood = new Set(
  `attention.head_count attention.head_count_kv attention.key_length attention.layer_norm_rms_epsilon
  block_count context_length embedding_length feed_forward_length rope.dimension_count rope.freq_base
  rope.scaling.factor rope.scaling.finetuned rope.scaling.original_context_length rope.scaling.type
  tensor_data_layout vocab_size`.split(/\s+/),
);

/** Metadata that changes nothing at these values. */
const neutral: Record<string, (value: GgufValue | undefined, headDim: number) => boolean> = {
  "attention.causal": (value) => value === true,
  "attention.value_length": (value, headDim) => Number(value) === headDim,
  "rope.dimension_count": (value, headDim) => Number(value) === headDim,
  "rope.scale_linear": (value) => value === 1,
  "attention.sliding_window": (value) => Number(value) === 0,
  embedding_scale: (value) => value === 1,
  residual_scale: (value) => value === 1,
  logit_scale: (value) => value === 1,
  expert_count: (value) => Number(value) === 0,
  expert_used_count: (value) => Number(value) === 0,
};

/**
 * The Hugging Face configuration that the metadata describes.
 * @throws UserError naming metadata that is missing, or would change the result and is not implemented
 */
export function ggufConfig(gguf: GgufFile): ModelConfig {
  const architecture = text(gguf, "general.architecture");
  const prefix = `${architecture}.`;
  const number = (key: string) => numberAt(gguf, prefix + key);
  const required = (key: string) => {
    const value = number(key);
    if (value !== undefined) return value;
    throw new UserError(`${gguf.path}: metadata '${prefix}${key}' is missing or not a number`);
  };
  const scaling = gguf.metadata.get(`${prefix}rope.scaling.type`);
  if (scaling !== undefined && scaling !== "none" && scaling !== "linear") {
    throw new UserError(
      `${gguf.path}: rope scaling '${String(scaling)}' needs a config.json beside`,
    );
  }
  // llama.cpp keeps Llama 3's frequency factors as a tensor instead of the settings behind them.
  if (gguf.names().includes("rope_freqs.weight")) {
    throw new UserError(`${gguf.path} has rope_freqs: put the model's config.json beside it`);
  }
  const hidden = number("embedding_length");
  const heads = number("attention.head_count");
  const factor = number("rope.scaling.factor");
  const fields = {
    model_type: architecture,
    vocab_size: gguf.shape("token_embd.weight")?.[0] ?? number("vocab_size"),
    hidden_size: hidden,
    intermediate_size: number("feed_forward_length"),
    num_hidden_layers: number("block_count"),
    num_attention_heads: heads,
    num_key_value_heads: number("attention.head_count_kv") ?? heads,
    head_dim: number("attention.key_length") ??
      (hidden === undefined || heads === undefined ? undefined : hidden / heads),
    max_position_embeddings: number("context_length"),
    rms_norm_eps: number("attention.layer_norm_rms_epsilon"),
    rope_theta: number("rope.freq_base"),
    // As llama.cpp: a factor without a type is linear, and 0 is none.
    ...(scaling === "linear" || (scaling === undefined && factor)
      ? { rope_scaling: { type: "linear", factor } }
      : {}),
    tie_word_embeddings: !gguf.names().includes("output.weight"),
    ...(architecture === "mistral"
      ? { sliding_window: number("attention.sliding_window") ?? null }
      : {}),
    bos_token_id: numberAt(gguf, "tokenizer.ggml.bos_token_id"),
    eos_token_id: numberAt(gguf, "tokenizer.ggml.eos_token_id"),
    pad_token_id: numberAt(gguf, "tokenizer.ggml.padding_token_id"),
    ...(architecture === "minicpm" && hidden !== undefined
      ? {
        scale_emb: required("embedding_scale"),
        scale_depth: required("residual_scale") * Math.sqrt(required("block_count")),
        dim_model_base: hidden / required("logit_scale"),
      }
      : {}),
  };
  const config = parseConfig(
    Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)),
    `${gguf.path} (metadata)`,
  );
  required("attention.layer_norm_rms_epsilon");
  refuseUnknown(gguf, config);
  return config;
}

/** @throws UserError naming metadata of the architecture that is not understood */
function refuseUnknown(gguf: GgufFile, { modelType, headDim }: ModelConfig): void {
  const prefix = `${modelType}.`;
  for (const [key, value] of gguf.metadata) {
    if (!key.startsWith(prefix)) continue;
    const own = key.slice(prefix.length);
    if (Object.hasOwn(neutral, own) ? neutral[own]!(value, headDim) : understood.has(own)) continue;
    if (modelType === "minicpm" && /^(embedding|residual|logit)_scale$/.test(own)) continue;
    if (modelType === "mistral" && own === "attention.sliding_window") continue;
    throw new UserError(
      `${gguf.path}: metadata '${key}' = ${String(value).slice(0, 80)} is not supported: ` +
        "put the model's config.json beside the file",
    );
  }
}

/** A number; of numbers for each layer the one, where all are the same. */
function numberAt(gguf: GgufFile, key: string): number | undefined {
  const value = gguf.metadata.get(key);
  const all = Array.isArray(value) ? value : [value];
  if (all.length === 0 || !all.every((x) => typeof x === "number" || typeof x === "bigint")) {
    return undefined;
  }
  const first = Number(all[0]);
  if (all.every((x) => Number(x) === first)) return first;
  throw new UserError(`${gguf.path}: metadata '${key}' differs between layers: not supported`);
}

function text(gguf: GgufFile, key: string): string {
  const value = gguf.metadata.get(key);
  if (typeof value !== "string") {
    throw new UserError(`${gguf.path}: metadata '${key}' is missing or not a text`);
  }
  return value;
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
    post_processor: specialTokens(gguf, tokens, name),
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
    const id = numberAt(gguf, `tokenizer.ggml.${key}_token_id`);
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

/** The post-processor that puts begin and end tokens around a text, where the metadata wants them. */
function specialTokens(gguf: GgufFile, tokens: GgufValue[], pre: string): object | null {
  const wanted = (key: string, otherwise: boolean) =>
    gguf.metadata.get(`tokenizer.ggml.add_${key}_token`) ?? otherwise;
  const special = (key: string) => {
    const id = numberAt(gguf, `tokenizer.ggml.${key}_token_id`);
    const token = id === undefined ? undefined : tokens[id];
    if (typeof token === "string") return { token, id };
    throw new UserError(
      `${gguf.path}: tokenizer.ggml.${key}_token_id names no token to put at a text's ${
        key === "bos" ? "beginning" : "end"
      }`,
    );
  };
  // llama.cpp adds Llama 3's begin token unless told otherwise.
  const before = wanted("bos", pre === "llama-bpe") ? [special("bos")] : [];
  const after = wanted("eos", false) ? [special("eos")] : [];
  const around = [...before, ...after];
  if (around.length === 0) return null;
  const piece = ({ token }: { token: string }) => ({ SpecialToken: { id: token, type_id: 0 } });
  const sequence = (id: string) => [
    ...before.map(piece),
    { Sequence: { id, type_id: 0 } },
    ...after.map(piece),
  ];
  return {
    type: "TemplateProcessing",
    single: sequence("A"),
    pair: [...sequence("A"), ...sequence("B")],
    special_tokens: Object.fromEntries(
      around.map(({ token, id }) => [token, { id: token, ids: [id], tokens: [token] }]),
    ),
  };
}
