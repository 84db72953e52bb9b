/** A model's configuration from GGUF metadata, for `.gguf` files that stand alone. */
import { UserError } from "../errors.ts";
import { type ModelConfig, parseConfig } from "./config.ts";
import type { GgufFile, GgufValue } from "./gguf.ts";

/** Metadata of an architecture that is read, or that says nothing about the function computed. */
const understood = new Set(
  `attention.head_count attention.head_count_kv attention.key_length attention.layer_norm_rms_epsilon
  block_count context_length embedding_length feed_forward_length rope.freq_base rope.scaling.factor
  rope.scaling.finetuned rope.scaling.original_context_length rope.scaling.type tensor_data_layout
  vocab_size`.split(/\s+/),
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
export function numberAt(gguf: GgufFile, key: string): number | undefined {
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
