/**
 * The transformer: pure functions over a flat table of parameters named as in the Hugging Face
 * checkpoint. One forward pass serves Qwen2, Qwen3, Llama, Mistral and MiniCPM, whose differences are
 * fields of {@link ModelConfig}; training differentiates it with tfjs's tape, scoring and generation
 * call the same pieces. Nothing here holds state, samples or touches files.
 */
import { asType, checkpoint, computeAgain, isBfloat16, random, tf } from "../xla/mod.ts";
import { UserError } from "../errors.ts";
import { type ModelConfig, parameterShapes } from "./config.ts";
import { loraScale } from "./lora_scale.ts";
import { causalBias, type RotaryTables, rotaryTables, rotate } from "./positions.ts";
import { logitsOf, targetLogProbs } from "./log_probs.ts";
import { keepRows } from "./sharding.ts";

/** float32 tensors by Hugging Face name, e.g. `model.layers.0.mlp.up_proj.weight` [ffn, hidden]. */
export type Params = Record<string, tf.Tensor>;

export interface ForwardOptions {
  /**
   * [batch, time], 1 at tokens and 0 at padding. Right-padded rows need none: a causal query never
   * sees what follows it. The output at padding is meaningless.
   */
  attentionMask?: tf.Tensor2D;
  /** int32 [batch, time]. Default 0, 1, 2...; rotary attention only depends on differences. */
  positions?: tf.Tensor2D;
  /**
   * int32 [batch, time]: which of several sequences in a row a token belongs to; none sees another's.
   * Give `positions`, too. Each sequence's tokens stand together.
   */
  segments?: tf.Tensor2D;
  /**
   * What matrix products multiply in; norms, softmax and the residual stream stay float32. Default: what
   * the weights are kept as.
   */
  computeType?: "float32" | "bfloat16";
  /** Keep only each layer's input for the backward pass and compute the layer again there. */
  rematerialise?: boolean;
}

/** The name under which a value model keeps its head, a [1, hidden] matrix without bias. */
export const VALUE_HEAD = "value_head.weight";

/** Random parameters as Hugging Face initialises them: N(0, initializer_range), norms 1, biases 0. */
export function initParams(config: ModelConfig, seed: number): Params {
  const root = random.key(seed);
  const params: Params = {};
  let index = 0;
  for (const [name, shape] of parameterShapes(config)) {
    params[name] = tf.tidy(() => {
      if (name.endsWith("norm.weight")) return tf.ones(shape);
      if (name.endsWith(".bias")) return tf.zeros(shape);
      return tf.mul(random.normal(random.foldIn(root, index), shape), config.initializerRange);
    });
    index++;
  }
  root.dispose();
  return params;
}

/** The parameters of a value model: the policy's own (shared, not copied) and a head of zeros. */
export function addValueHead(config: ModelConfig, params: Params): Params {
  return { ...params, [VALUE_HEAD]: tf.zeros([1, config.hiddenSize]) };
}

/** The parameter of that name. @throws UserError where the table lacks it. */
export function parameter<R extends tf.Rank>(params: Params, name: string): tf.Tensor<R> {
  const tensor = params[name];
  if (tensor === undefined) throw new UserError(`the model has no parameter '${name}'`);
  return tensor as tf.Tensor<R>;
}

/** The matrix from hidden states to logits, [vocabulary, hidden]; the embedding where tied. */
export function outputEmbedding(config: ModelConfig, params: Params): tf.Tensor2D {
  return parameter<tf.Rank.R2>(
    params,
    config.tieWordEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight",
  );
}

/**
 * `x * weight / sqrt(mean(x^2) + eps)` over the last axis (Zhang and Sennrich 2019, eq. 4), with its
 * gradient written out: the tape would keep five intermediate tensors instead of one row of scales.
 */
export function rmsNorm<T extends tf.Tensor>(x: T, weight: tf.Tensor1D, eps: number): T {
  const norm = tf.customGrad((input, gain, save) => {
    const a = input as tf.Tensor;
    const w = gain as tf.Tensor;
    const scale = tf.rsqrt(tf.add(tf.mean(tf.square(a), -1, true), eps));
    (save as tf.GradSaveFunc)([a, w, scale]);
    return {
      value: tf.mul(tf.mul(a, scale), w),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [a, w, scale] = saved as [tf.Tensor, tf.Tensor, tf.Tensor];
        const unit = tf.mul(a, scale);
        const inner = tf.mul(dy, w);
        const along = tf.mean(tf.mul(inner, unit), -1, true);
        const dx = tf.mul(scale, tf.sub(inner, tf.mul(unit, along)));
        const leading = Array.from({ length: a.rank - 1 }, (_, i) => i);
        return [dx, tf.sum(tf.mul(dy, unit), leading)];
      },
    };
  });
  return norm(x, weight) as T;
}

/**
 * SiLU-gated product, `gate * sigmoid(gate) * up` (Shazeer 2020), with its gradient written out: the tape
 * would keep two more tensors, which are cheap to compute again.
 */
export function swiGlu<T extends tf.Tensor>(gate: T, up: T): T {
  const gated = tf.customGrad((...inputs) => {
    const [g, u, save] = inputs as unknown as [tf.Tensor, tf.Tensor, tf.GradSaveFunc];
    save([g, u]);
    return {
      value: tf.mul(tf.mul(g, tf.sigmoid(g)), u),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [g, u] = [computeAgain(saved[0]!, dy), saved[1]!];
        const share = tf.sigmoid(g);
        const silu = tf.mul(g, share);
        const slope = tf.add(share, tf.mul(silu, tf.sub(1, share)));
        return [tf.mul(tf.mul(dy, u), slope), tf.mul(dy, silu)];
      },
    };
  });
  return gated(gate, up) as T;
}

/** `x · weightᵀ (+ LoRA) (+ bias)`: [rows, in] x [out, in] -> [rows, out], in the compute type. */
function linear(
  { config, low }: Pick<LayerContext, "config" | "low">,
  params: Params,
  name: string,
  x: tf.Tensor2D,
  bias: boolean,
): tf.Tensor2D {
  const times = (input: tf.Tensor2D, matrix: string) => {
    const weight = parameter<tf.Rank.R2>(params, matrix);
    return tf.matMul(input, low(weight), false, true) as tf.Tensor2D;
  };
  const input = low(x);
  let out = keepRows(asFloat32(times(input, `${name}.weight`), low));
  if (config.lora !== undefined && `${name}.lora_A.weight` in params) {
    const change = times(times(input, `${name}.lora_A.weight`), `${name}.lora_B.weight`);
    out = tf.add(out, tf.mul(asFloat32(change, low), loraScale(config.lora, name).scale));
  }
  return bias ? tf.add(out, parameter(params, `${name}.bias`)) : out;
}

const same = <T extends tf.Tensor>(x: T): T => x;
const toBfloat16 = <T extends tf.Tensor>(x: T): T => asType(x, "bfloat16");
const asFloat32 = <T extends tf.Tensor>(x: T, low: typeof same): T =>
  low === same ? x : asType(x, "float32");

interface LayerContext {
  config: ModelConfig;
  batch: number;
  time: number;
  tables: { query: RotaryTables; key: RotaryTables };
  /** The mask of a layer, see {@link causalBias}. */
  biasOf: (layer: number) => tf.Tensor;
  low: typeof same;
}

/** What all layers share of one pass over rows of that shape. */
function layerContext(
  config: ModelConfig,
  [batch, time]: [number, number],
  options: ForwardOptions,
): LayerContext {
  const biases = new Map<number | null, tf.Tensor>();
  return {
    config,
    batch,
    time,
    tables: rotaryTables(config, time, options.positions),
    biasOf: (layer) => {
      const window = config.slidingWindows[layer] ?? null;
      const reach = window !== null && window < time ? window : null;
      if (!biases.has(reach)) {
        biases.set(reach, causalBias(time, reach, options.attentionMask, options.segments));
      }
      return biases.get(reach)!;
    },
    low: options.computeType === "bfloat16" ? toBfloat16 : same,
  };
}

/** Queries `from` to `to` (exclusive) of a row. */
interface Block {
  from: number;
  to: number;
}

/** Rows from this length on are attended to block by block. */
const BLOCKED_FROM = 192;

/**
 * A long row's queries in four blocks: none needs keys after its end, so that 10 of 16 squares of
 * scores are computed instead of all.
 */
function queryBlocks(time: number): Block[] {
  if (time < BLOCKED_FROM) return [{ from: 0, to: time }];
  const size = Math.ceil(time / 4 / 8) * 8;
  const blocks: Block[] = [];
  for (let from = 0; from < time; from += size) {
    blocks.push({ from, to: Math.min(time, from + size) });
  }
  return blocks;
}

/** Grouped-query causal attention over whole rows: [batch * time, hidden] -> the same. */
function attention(
  context: LayerContext,
  params: Params,
  name: string,
  x: tf.Tensor2D,
  bias: tf.Tensor,
): tf.Tensor2D {
  const { config, batch, time, tables, low } = context;
  const { numHeads, numKeyValueHeads: kvHeads, headDim, queryKeyValueBias } = config;
  const groups = numHeads / kvHeads;
  const heads = (part: "q" | "k" | "v", count: number) => {
    const flat = linear(context, params, `${name}.${part}_proj`, x, queryKeyValueBias);
    const split = tf.reshape(flat, [batch, time, count, headDim]);
    if (!config.queryKeyNorm || part === "v") return split;
    const weight = parameter<tf.Rank.R1>(params, `${name}.${part}_norm.weight`);
    return rmsNorm(split, weight, config.rmsNormEps);
  };
  const query = rotate(heads("q", numHeads), tables.query);
  const key = rotate(heads("k", kvHeads), tables.key);
  const value = heads("v", kvHeads);

  const grouped = tf.transpose(
    tf.reshape(query, [batch, time, kvHeads, groups, headDim]),
    [0, 2, 3, 1, 4],
  );
  const [keys, seen] = [key, value].map((x) => tf.transpose(x, [0, 2, 1, 3]));
  /** What the queries of a block see: the keys up to the block's end. */
  const mix = ({ from, to }: Block) => {
    const whole = from === 0 && to === time;
    const until = (x: tf.Tensor) => whole ? x : tf.slice(x, 0, [batch, kvHeads, to, headDim]);
    const own = whole
      ? grouped
      : tf.slice(grouped, [0, 0, 0, from, 0], [batch, kvHeads, groups, to - from, headDim]);
    const mask = whole ? bias : tf.slice(bias, [...bias.shape.slice(2).fill(0), from, 0], [
      ...bias.shape.slice(0, -2),
      to - from,
      to,
    ]);
    // The queries that share a key head become rows of one matrix: [batch, kv, groups * block, dim].
    const rows = tf.reshape(own, [batch, kvHeads, groups * (to - from), headDim]);
    const scores = asFloat32(tf.matMul(low(rows), low(until(keys!)), false, true), low);
    const masked = tf.add(tf.reshape(scores, [batch, kvHeads, groups, to - from, to]), mask);
    const weights = tf.reshape(tf.softmax(masked), [batch, kvHeads, groups * (to - from), to]);
    const mixed = asFloat32(tf.matMul(low(weights), low(until(seen!))), low);
    return tf.reshape(mixed, [batch, kvHeads, groups, to - from, headDim]);
  };
  const blocks = queryBlocks(time).map(mix);
  const mixed = blocks.length === 1 ? blocks[0]! : tf.concat(blocks, 3);
  const rows = tf.reshape(tf.transpose(mixed, [0, 3, 1, 2, 4]), [
    batch * time,
    numHeads * headDim,
  ]) as tf.Tensor2D;
  return linear(context, params, `${name}.o_proj`, rows, config.attentionOutputBias);
}

function feedForward(
  context: LayerContext,
  params: Params,
  name: string,
  x: tf.Tensor2D,
): tf.Tensor2D {
  const { mlpBias } = context.config;
  const gate = linear(context, params, `${name}.gate_proj`, x, mlpBias);
  const up = linear(context, params, `${name}.up_proj`, x, mlpBias);
  return linear(context, params, `${name}.down_proj`, swiGlu(gate, up), mlpBias);
}

/** Adds a block's output to the residual stream, scaled where the architecture says so. */
export function addResidual<T extends tf.Tensor>(config: ModelConfig, stream: T, block: T): T {
  const scaled = config.residualScale === 1 ? block : tf.mul(block, config.residualScale);
  return tf.add(stream, scaled) as T;
}

function decoderLayer(
  context: LayerContext,
  params: Params,
  index: number,
  stream: tf.Tensor2D,
): tf.Tensor2D {
  const { config } = context;
  const name = `model.layers.${index}`;
  const norm = (x: tf.Tensor2D, which: string) =>
    rmsNorm(x, parameter<tf.Rank.R1>(params, `${name}.${which}.weight`), config.rmsNormEps);
  const attended = attention(
    context,
    params,
    `${name}.self_attn`,
    norm(stream, "input_layernorm"),
    context.biasOf(index),
  );
  const middle = addResidual(config, stream, attended);
  const fed = feedForward(
    context,
    params,
    `${name}.mlp`,
    norm(middle, "post_attention_layernorm"),
  );
  return addResidual(config, middle, fed);
}

/** Token embeddings of flat ids: int32 [rows] -> [rows, hidden]. */
function embed(config: ModelConfig, params: Params, ids: tf.Tensor1D): tf.Tensor2D {
  const table = parameter<tf.Rank.R2>(params, "model.embed_tokens.weight");
  const stored = tf.gather(table, ids);
  const rows: tf.Tensor2D = isBfloat16(table) ? asType(stored, "float32") : stored;
  return config.embeddingScale === 1 ? rows : tf.mul(rows, config.embeddingScale);
}

/** The residual stream after the embedding and after each layer (the last one normed), for tests. */
export function allHiddenStates(
  config: ModelConfig,
  params: Params,
  ids: tf.Tensor2D,
  given: ForwardOptions = {},
): tf.Tensor3D[] {
  const [batch, time] = ids.shape;
  const stored = isBfloat16(parameter(params, "model.embed_tokens.weight"));
  const options: ForwardOptions = stored ? { computeType: "bfloat16", ...given } : given;
  const context = layerContext(config, ids.shape, options);
  const shaped = (x: tf.Tensor2D): tf.Tensor3D => tf.reshape(x, [batch, time, config.hiddenSize]);
  let stream = embed(config, params, tf.reshape(ids, [batch * time]));
  const states = [shaped(stream)];
  for (let i = 0; i < config.numLayers; i++) {
    stream = options.rematerialise
      ? rematerialisedLayer(config, params, i, stream, ids.shape, options)
      : decoderLayer(context, params, i, stream);
    if (i < config.numLayers - 1) states.push(shaped(stream));
  }
  const gain = parameter<tf.Rank.R1>(params, "model.norm.weight");
  states.push(shaped(rmsNorm(stream, gain, config.rmsNormEps)));
  return states;
}

/**
 * `checkpoint` passes gradients to its arguments only, so the layer's parameters are arguments; tables
 * and mask are made inside, because those of the forward pass are gone in the backward pass.
 */
function rematerialisedLayer(
  config: ModelConfig,
  params: Params,
  index: number,
  stream: tf.Tensor2D,
  shape: [number, number],
  options: ForwardOptions,
): tf.Tensor2D {
  const prefix = `model.layers.${index}.`;
  const names = Object.keys(params).filter((name) => name.startsWith(prefix));
  const layer = checkpoint((x: tf.Tensor, ...weights: tf.Tensor[]) => {
    const own = Object.fromEntries(names.map((name, i) => [name, weights[i]!]));
    return decoderLayer(layerContext(config, shape, options), own, index, x as tf.Tensor2D);
  });
  return layer(stream, ...names.map((name) => params[name]!)) as tf.Tensor2D;
}

/**
 * The final hidden states, after the last norm: int32 [batch, time] -> [batch, time, hidden].
 * Differentiable in `params`.
 */
export function hiddenStates(
  config: ModelConfig,
  params: Params,
  ids: tf.Tensor2D,
  options: ForwardOptions = {},
): tf.Tensor3D {
  return allHiddenStates(config, params, ids, options).at(-1)!;
}

/** [batch, time, hidden] -> [batch, time, vocabulary]: unnormalised next-token log-probabilities. */
export function logits(config: ModelConfig, params: Params, hidden: tf.Tensor3D): tf.Tensor3D {
  const [batch, time, size] = hidden.shape;
  const rows = scaledForLogits(config, tf.reshape(hidden, [batch * time, size]));
  const flat = logitsOf(rows, outputEmbedding(config, params));
  return tf.reshape(flat, [batch, time, config.vocabSize]);
}

/** The hidden state as the output embedding takes it (MiniCPM divides it). */
export function scaledForLogits<T extends tf.Tensor>(config: ModelConfig, hidden: T): T {
  return config.logitScale === 1 ? hidden : tf.mul(hidden, config.logitScale) as T;
}

/**
 * Log-probabilities of the tokens themselves: int32 [batch, time] -> [batch, time - 1]; column j is
 * log p(ids[j + 1] | ids[0..j]). The logits of a large vocabulary exist a chunk of rows at a time.
 */
export function tokenLogProbs(
  config: ModelConfig,
  params: Params,
  ids: tf.Tensor2D,
  options: ForwardOptions = {},
): tf.Tensor2D {
  return logProbsOfNext(config, params, hiddenStates(config, params, ids, options), ids);
}

/** As {@link tokenLogProbs}, from hidden states [batch, time, hidden] already computed. */
export function logProbsOfNext(
  config: ModelConfig,
  params: Params,
  hidden: tf.Tensor3D,
  ids: tf.Tensor2D,
): tf.Tensor2D {
  const [batch, time] = ids.shape;
  const states = tf.slice(hidden, [0, 0, 0], [batch, time - 1, config.hiddenSize]);
  const rows = tf.reshape(states, [batch * (time - 1), config.hiddenSize]) as tf.Tensor2D;
  const targets = tf.reshape(tf.slice(ids, [0, 1], [batch, time - 1]), [batch * (time - 1)]);
  const flat = targetLogProbs(
    scaledForLogits(config, rows),
    outputEmbedding(config, params),
    targets as tf.Tensor1D,
  );
  return tf.reshape(flat, [batch, time - 1]);
}

/** log p(targets[i]) at given hidden states: [rows, hidden] and int32 [rows] -> [rows]. */
export function logProbsAt(
  config: ModelConfig,
  params: Params,
  hidden: tf.Tensor2D,
  targets: tf.Tensor1D,
): tf.Tensor1D {
  return targetLogProbs(scaledForLogits(config, hidden), outputEmbedding(config, params), targets);
}

/** The value of each prefix, `hidden · value_head`: [batch, time, hidden] -> [batch, time]. */
export function values(params: Params, hidden: tf.Tensor3D): tf.Tensor2D {
  const [batch, time, size] = hidden.shape;
  const head = parameter<tf.Rank.R2>(params, VALUE_HEAD);
  const flat = tf.matMul(tf.reshape(hidden, [batch * time, size]), head, false, true);
  return tf.reshape(flat, [batch, time]);
}
