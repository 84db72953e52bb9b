/**
 * Model configurations: a Hugging Face `config.json` in, one normalised `ModelConfig` out. The five
 * supported architectures (Qwen2, Qwen3, Llama, Mistral, MiniCPM) are one transformer whose
 * differences are data here. Both the layout of transformers 4 (`rope_theta`, `rope_scaling`,
 * `torch_dtype`) and of transformers 5 (`rope_parameters`, `dtype`) are read. A field that is unknown,
 * or known to change the result in a way the transformer does not implement, is refused by name.
 */
import { z } from "zod";
import { UserError } from "../errors.ts";
import type { LoraScaling } from "./lora_scale.ts";

const modelTypes = ["qwen2", "qwen3", "llama", "mistral", "minicpm"] as const;
export type ModelType = (typeof modelTypes)[number];

/** Rotary position embedding: base frequency and how its frequencies are rescaled. */
export type RopeConfig =
  & { theta: number }
  & (
    | { type: "default" }
    | { type: "linear"; factor: number }
    | {
      type: "llama3";
      factor: number;
      lowFreqFactor: number;
      highFreqFactor: number;
      originalMaxPositions: number;
    }
  );

/** The number format of weights on disk. Computation is float32 whatever this says. */
export type WeightType = "float32" | "float16" | "bfloat16";

/** Everything the transformer needs to know, independent of the architecture's name. */
export interface ModelConfig {
  readonly modelType: ModelType;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numLayers: number;
  readonly numHeads: number;
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  readonly maxPositions: number;
  readonly rmsNormEps: number;
  readonly rope: RopeConfig;
  readonly tieWordEmbeddings: boolean;
  /** Bias on the query, key and value projections. */
  readonly queryKeyValueBias: boolean;
  /** Bias on the attention's output projection. */
  readonly attentionOutputBias: boolean;
  /** Bias on the three projections of the feed-forward block. */
  readonly mlpBias: boolean;
  /** RMS norm over each head's query and key before the rotation (Qwen3). */
  readonly queryKeyNorm: boolean;
  /** Per layer: a query sees itself and the `window - 1` keys before it; null sees all. */
  readonly slidingWindows: readonly (number | null)[];
  /** Token embeddings are multiplied by this (MiniCPM `scale_emb`). */
  readonly embeddingScale: number;
  /** Each block's output is multiplied by this before it joins the residual stream. */
  readonly residualScale: number;
  /** The final hidden state is multiplied by this before the output embedding. */
  readonly logitScale: number;
  readonly initializerRange: number;
  readonly bosTokenId: number | undefined;
  readonly eosTokenIds: readonly number[];
  readonly padTokenId: number | undefined;
  readonly weightType: WeightType;
  /** How LoRA matrices among the parameters act, see `lora.ts`; absent: there are none. */
  readonly lora?: LoraScaling;
  /** The fields as read, so that saving keeps what this structure does not hold. */
  readonly raw: Readonly<Record<string, unknown>>;
}

const count = z.number().int().positive();
const tokenId = z.number().int().nonnegative();
const orNull = <T extends z.ZodType>(type: T) => type.nullish().transform((v) => v ?? undefined);

/** Loose, so that a type that is not known is named before the fields that come with it. */
const ropeFields = z.looseObject({
  rope_type: z.string().optional(),
  type: z.string().optional(),
  rope_theta: z.number().positive().optional(),
  factor: z.number().positive().optional(),
  low_freq_factor: z.number().positive().optional(),
  high_freq_factor: z.number().positive().optional(),
  original_max_position_embeddings: count.optional(),
  partial_rotary_factor: z.literal(1).optional(),
});

/** Fields that decide the result. Absent ones take the default of the architecture's own class. */
const resultFields = {
  model_type: z.string(),
  vocab_size: count,
  hidden_size: count,
  intermediate_size: count,
  num_hidden_layers: count.max(1000),
  num_attention_heads: count,
  num_key_value_heads: orNull(count),
  head_dim: orNull(count),
  max_position_embeddings: orNull(count),
  rms_norm_eps: orNull(z.number().positive()),
  rope_theta: orNull(z.number().positive()),
  rope_scaling: orNull(ropeFields),
  rope_parameters: orNull(ropeFields),
  tie_word_embeddings: orNull(z.boolean()),
  attention_bias: orNull(z.boolean()),
  mlp_bias: orNull(z.boolean()),
  hidden_act: orNull(z.string()),
  sliding_window: orNull(count),
  use_sliding_window: orNull(z.boolean()),
  max_window_layers: orNull(z.number().int().nonnegative()),
  layer_types: orNull(z.array(z.string())),
  scale_emb: orNull(z.number()),
  scale_depth: orNull(z.number()),
  dim_model_base: orNull(z.number().positive()),
  initializer_range: orNull(z.number().nonnegative()),
  bos_token_id: orNull(tokenId),
  eos_token_id: orNull(z.union([tokenId, z.array(tokenId)])),
  pad_token_id: orNull(z.number().int()),
  torch_dtype: orNull(z.string()),
  dtype: orNull(z.string()),
};

/** Fields that say nothing about the function computed at inference (dropout acts in training). */
const harmlessFields = new Set(
  `architectures attention_dropout attn_implementation auto_map bad_words_ids begin_suppress_tokens
  chunk_size_feed_forward classifier_dropout decoder_start_token_id diversity_penalty do_sample
  early_stopping encoder_no_repeat_ngram_size exponential_decay_length_penalty finetuning_task
  forced_bos_token_id forced_eos_token_id hidden_dropout id2label label2id length_penalty max_length
  min_length model_max_length name_or_path no_repeat_ngram_size normalize_reward num_beam_groups
  num_beams num_return_sequences output_attentions output_hidden_states output_scores prefix
  pretraining_tp problem_type remove_invalid_values repetition_penalty resid_pdrop return_dict
  return_dict_in_generate sep_token_id suppress_tokens task_specific_params temperature
  tf_legacy_loss tokenizer_class top_k top_p torchscript transformers_version typical_p
  unsloth_fixed unsloth_version use_bfloat16 use_cache use_flash_attn`.split(/\s+/),
);

/** Fields that are harmless only at the value that switches them off. */
const offFields: Record<string, (value: unknown) => boolean> = {
  add_cross_attention: (v) => v === false,
  cross_attention_hidden_size: (v) => v === null,
  is_decoder: (v) => typeof v === "boolean",
  is_encoder_decoder: (v) => v === false,
  partial_rotary_factor: (v) => v === 1,
  pruned_heads: (v) => typeof v === "object" && v !== null && Object.keys(v).length === 0,
  tie_encoder_decoder: (v) => v === false,
  use_mrope: (v) => v === false,
  use_qk_norm: (v) => v === false,
};

const architecturesOf: Record<ModelType, string> = {
  qwen2: "Qwen2ForCausalLM",
  qwen3: "Qwen3ForCausalLM",
  llama: "LlamaForCausalLM",
  mistral: "MistralForCausalLM",
  minicpm: "MiniCPMForCausalLM",
};

/** The causal language-model class that goes with a model type, as in `architectures`. */
export function architectureName(type: ModelType): string {
  return architecturesOf[type];
}

/**
 * Reads the fields of a `config.json`. `source` names the file in errors.
 * @throws UserError naming the field, the value found and what is supported.
 */
export function parseConfig(fields: unknown, source = "config"): ModelConfig {
  const parsed = z.looseObject(resultFields).safeParse(fields);
  if (!parsed.success) {
    const details = parsed.error.issues.map((issue) => {
      const path = issue.path.join(".") || "the file";
      return `${path}: ${issue.message}`;
    });
    throw new UserError(`${source}: ${details.join("; ")}`);
  }
  const raw = fields as Record<string, unknown>;
  const f = parsed.data;
  const refuse = (field: string, value: unknown, supported: string) => {
    const shown = JSON.stringify(value) ?? String(value);
    return new UserError(
      `${source}: ${field} = ${shown.length > 80 ? shown.slice(0, 77) + "..." : shown} ` +
        `is not supported: ${supported}`,
    );
  };

  const modelType = modelTypes.find((type) => type === f.model_type);
  if (modelType === undefined) {
    throw refuse("model_type", f.model_type, `known architectures are ${modelTypes.join(", ")}`);
  }
  for (const [field, value] of Object.entries(raw)) {
    if (Object.hasOwn(resultFields, field) || harmlessFields.has(field)) continue;
    if (field.startsWith("_") || value === null) continue;
    if (Object.hasOwn(offFields, field) && offFields[field]!(value)) continue;
    throw refuse(field, value, "this field is unknown here and may change the model's output");
  }
  if ((f.hidden_act ?? "silu") !== "silu") throw refuse("hidden_act", f.hidden_act, "only silu is");
  const isMiniCpm = modelType === "minicpm";
  for (const field of ["scale_emb", "scale_depth", "dim_model_base"] as const) {
    if (f[field] !== undefined && !isMiniCpm) throw refuse(field, f[field], "only minicpm has it");
  }
  if (modelType === "qwen2" && f.attention_bias === false) {
    throw refuse("attention_bias", false, "qwen2 always has biases on query, key and value");
  }
  if (modelType === "mistral" && f.attention_bias === true) {
    throw refuse("attention_bias", true, "mistral has no attention biases");
  }
  if (modelType !== "llama" && f.mlp_bias === true) {
    throw refuse("mlp_bias", true, "only llama has feed-forward biases");
  }

  const numHeads = f.num_attention_heads;
  const numKeyValueHeads = f.num_key_value_heads ??
    (raw.num_key_value_heads === null ? numHeads : defaultKeyValueHeads(modelType, numHeads));
  if (numHeads % numKeyValueHeads !== 0) {
    throw refuse("num_key_value_heads", numKeyValueHeads, `it must divide ${numHeads} heads`);
  }
  if (f.head_dim === undefined && modelType !== "qwen3" && f.hidden_size % numHeads !== 0) {
    throw refuse("hidden_size", f.hidden_size, `it must be a multiple of ${numHeads} heads`);
  }
  const headDim = f.head_dim ?? (modelType === "qwen3" ? 128 : f.hidden_size / numHeads);
  if (headDim % 2 !== 0) throw refuse("head_dim", headDim, "rotary embeddings need an even one");

  const eos = f.eos_token_id;
  return {
    modelType,
    vocabSize: f.vocab_size,
    hiddenSize: f.hidden_size,
    intermediateSize: f.intermediate_size,
    numLayers: f.num_hidden_layers,
    numHeads,
    numKeyValueHeads,
    headDim,
    maxPositions: f.max_position_embeddings ?? 2048,
    rmsNormEps: f.rms_norm_eps ?? 1e-6,
    rope: parseRope(f, refuse),
    tieWordEmbeddings: f.tie_word_embeddings ?? isMiniCpm,
    queryKeyValueBias: modelType === "qwen2" || (f.attention_bias ?? false),
    attentionOutputBias: modelType !== "qwen2" && (f.attention_bias ?? false),
    mlpBias: f.mlp_bias ?? false,
    queryKeyNorm: modelType === "qwen3",
    slidingWindows: slidingWindows(modelType, f, raw, refuse),
    embeddingScale: f.scale_emb ?? 1,
    residualScale: isMiniCpm ? (f.scale_depth ?? 1) / Math.sqrt(f.num_hidden_layers) : 1,
    logitScale: isMiniCpm ? (f.dim_model_base ?? 1) / f.hidden_size : 1,
    initializerRange: f.initializer_range ?? 0.02,
    bosTokenId: f.bos_token_id,
    eosTokenIds: eos === undefined ? [] : Array.isArray(eos) ? eos : [eos],
    padTokenId: f.pad_token_id === undefined || f.pad_token_id < 0 ? undefined : f.pad_token_id,
    weightType: parseWeightType(f.dtype ?? f.torch_dtype),
    raw,
  };
}

type Fields = z.infer<z.ZodObject<typeof resultFields>>;
type Refuse = (field: string, value: unknown, supported: string) => UserError;

/** The value each architecture's configuration class takes where `num_key_value_heads` is absent. */
function defaultKeyValueHeads(type: ModelType, numHeads: number): number {
  if (type === "qwen2" || type === "qwen3") return 32;
  return type === "mistral" ? 8 : numHeads;
}

function parseRope(f: Fields, refuse: Refuse): RopeConfig {
  const rope = knownRope(f, refuse);
  for (const name of ["rope_parameters", "rope_scaling"] as const) {
    for (const [field, value] of Object.entries(f[name] ?? {})) {
      if (field in ropeFields.shape) continue;
      throw refuse(`${name}.${field}`, value, "this field is unknown here");
    }
  }
  if (f.rope_parameters !== undefined && f.rope_scaling !== undefined) {
    const fields = (rope: object) => JSON.stringify(Object.entries(rope).toSorted());
    if (fields(f.rope_parameters) !== fields(f.rope_scaling)) {
      throw refuse("rope_scaling", f.rope_scaling, "rope_parameters says something else");
    }
  }
  return rope;
}

function knownRope(f: Fields, refuse: Refuse): RopeConfig {
  const name = f.rope_parameters !== undefined ? "rope_parameters" : "rope_scaling";
  const scaling = f.rope_parameters ?? f.rope_scaling ?? {};
  const theta = scaling.rope_theta ?? f.rope_theta ?? 10000;
  const type = scaling.rope_type ?? scaling.type ?? "default";
  const need = (field: keyof typeof ropeFields.shape) => {
    const value = scaling[field];
    if (typeof value !== "number") {
      throw refuse(`${name}.${field}`, value, `rope type '${type}' needs it`);
    }
    return value;
  };
  switch (type) {
    case "default":
      return { theta, type };
    case "linear":
      return { theta, type, factor: need("factor") };
    case "llama3":
      return {
        theta,
        type,
        factor: need("factor"),
        lowFreqFactor: need("low_freq_factor"),
        highFreqFactor: need("high_freq_factor"),
        originalMaxPositions: need("original_max_position_embeddings"),
      };
    default:
      throw refuse(`${name}.rope_type`, type, "rope types are default, linear, llama3");
  }
}

/** Which layers slide: by `layer_types` where given, else by each architecture's own rule. */
function slidingWindows(
  type: ModelType,
  f: Fields,
  raw: Record<string, unknown>,
  refuse: Refuse,
): (number | null)[] {
  const layers = f.num_hidden_layers;
  // Mistral's class has a window of 4096 unless the file says null; Qwen's is behind a switch.
  const window = type === "mistral"
    ? f.sliding_window ?? ("sliding_window" in raw ? null : 4096)
    : (type === "qwen2" || type === "qwen3") && f.use_sliding_window === true
    ? f.sliding_window ?? 4096
    : null;
  if (type === "llama" || type === "minicpm") {
    if (f.sliding_window !== undefined) {
      throw refuse("sliding_window", f.sliding_window, `${type} has none`);
    }
  }
  if (f.layer_types !== undefined) {
    if (f.layer_types.length !== layers) {
      throw refuse("layer_types", f.layer_types, `it must name all ${layers} layers`);
    }
    return f.layer_types.map((kind) => {
      if (kind === "full_attention") return null;
      if (kind !== "sliding_attention") {
        throw refuse("layer_types", kind, "known are full_attention, sliding_attention");
      }
      if (window === null) throw refuse("layer_types", kind, "no sliding_window is in use");
      return window;
    });
  }
  const firstSliding = type === "mistral" ? 0 : f.max_window_layers ?? 28;
  return Array.from({ length: layers }, (_, i) => i >= firstSliding ? window : null);
}

function parseWeightType(dtype: string | undefined): WeightType {
  const name = (dtype ?? "float32").replace(/^torch\./, "");
  return name === "bfloat16" || name === "float16" ? name : "float32";
}

/** The shape a model's checkpoint must have for each of its tensors, by Hugging Face name. */
export function parameterShapes(config: ModelConfig): Map<string, number[]> {
  const { hiddenSize: hidden, intermediateSize: ffn, headDim } = config;
  const queries = config.numHeads * headDim;
  const keys = config.numKeyValueHeads * headDim;
  const shapes = new Map<string, number[]>();
  const linear = (name: string, out: number, input: number, bias: boolean) => {
    shapes.set(`${name}.weight`, [out, input]);
    if (bias) shapes.set(`${name}.bias`, [out]);
  };
  shapes.set("model.embed_tokens.weight", [config.vocabSize, hidden]);
  for (let i = 0; i < config.numLayers; i++) {
    const layer = `model.layers.${i}`;
    shapes.set(`${layer}.input_layernorm.weight`, [hidden]);
    linear(`${layer}.self_attn.q_proj`, queries, hidden, config.queryKeyValueBias);
    linear(`${layer}.self_attn.k_proj`, keys, hidden, config.queryKeyValueBias);
    linear(`${layer}.self_attn.v_proj`, keys, hidden, config.queryKeyValueBias);
    linear(`${layer}.self_attn.o_proj`, hidden, queries, config.attentionOutputBias);
    if (config.queryKeyNorm) {
      shapes.set(`${layer}.self_attn.q_norm.weight`, [headDim]);
      shapes.set(`${layer}.self_attn.k_norm.weight`, [headDim]);
    }
    shapes.set(`${layer}.post_attention_layernorm.weight`, [hidden]);
    linear(`${layer}.mlp.gate_proj`, ffn, hidden, config.mlpBias);
    linear(`${layer}.mlp.up_proj`, ffn, hidden, config.mlpBias);
    linear(`${layer}.mlp.down_proj`, hidden, ffn, config.mlpBias);
  }
  shapes.set("model.norm.weight", [hidden]);
  if (!config.tieWordEmbeddings) shapes.set("lm_head.weight", [config.vocabSize, hidden]);
  return shapes;
}
