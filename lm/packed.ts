/**
 * A model's weights as generation multiplies by them. In float32 they are copied, those of one
 * input together; in bfloat16 they stay what they are in the checkpoint, so that a large model is
 * on the device once; in int8 each row is rounded to whole numbers and a factor.
 */
import {
  asType,
  type Int8Matrix,
  isBfloat16,
  matMulInt8,
  matMulRows,
  quantizeRows,
  tf,
} from "../xla/mod.ts";
import type { ModelConfig } from "./config.ts";
import { mergedWeight } from "./lora.ts";
import { outputEmbedding, parameter, type Params, VALUE_HEAD } from "./transformer.ts";

/** What generation keeps its weights as, and multiplies in. */
export type PackedType = "float32" | "bfloat16" | "int8";

export const packedTypes: readonly PackedType[] = ["float32", "bfloat16", "int8"];

/** Matrices that take the same input; a pytree whose form says which type it is. */
type Matrices =
  /** One for all, [out, in]. */
  | { float32: tf.Tensor2D }
  /** Each by itself, [out, in]. */
  | { bfloat16: tf.Tensor2D[] }
  /** One for all, [out, in]. */
  | { int8: Int8Matrix };

type PackedLinear = {
  matrices: Matrices;
  /** [out] of all matrices together, absent where the architecture has none. */
  bias: tf.Tensor[];
};

type PackedLayer = {
  attentionNorm: tf.Tensor1D;
  queryKeyValue: PackedLinear;
  /** Query and key norms, where the architecture has them. */
  headNorms: tf.Tensor1D[];
  output: PackedLinear;
  feedForwardNorm: tf.Tensor1D;
  gateUp: PackedLinear;
  down: PackedLinear;
};

/** A model's weights arranged for decoding; a pytree for `jit`. */
export type PackedModel = {
  embedding: tf.Tensor2D;
  layers: PackedLayer[];
  finalNorm: tf.Tensor1D;
  /** To the vocabulary, or to the one value of a value model. */
  head: Matrices;
};

function packMatrices(weights: tf.Tensor2D[], type: PackedType): Matrices {
  switch (type) {
    case "float32":
      return { float32: asType(tf.concat2d(weights, 0), "float32") };
    case "bfloat16":
      return { bfloat16: weights.map((w) => isBfloat16(w) ? tf.clone(w) : asType(w, "bfloat16")) };
    case "int8":
      return { int8: quantizeRows(tf.concat2d(weights, 0)) };
    default:
      throw new RangeError(`no weights of type '${type satisfies never}'`);
  }
}

/**
 * Packs parameters. The tensors are the caller's: in float32 new ones, else partly other names of the
 * parameters' own. Run it under `jit` (float32 only) or `tidy`.
 */
export function packModel(
  config: ModelConfig,
  params: Params,
  head: "logits" | "value",
  type: PackedType,
): PackedModel {
  const copy = (name: string) => asType(parameter<tf.Rank.R1>(params, name), "float32");
  const pack = (names: string[], bias: boolean): PackedLinear => ({
    matrices: packMatrices(names.map((name) => mergedWeight(params, name, config.lora)), type),
    bias: bias ? [tf.concat1d(names.map((name) => copy(`${name}.bias`)))] : [],
  });
  const layers = Array.from({ length: config.numLayers }, (_, i): PackedLayer => {
    const layer = `model.layers.${i}`;
    const attention = `${layer}.self_attn`;
    return {
      attentionNorm: copy(`${layer}.input_layernorm.weight`),
      queryKeyValue: pack(
        ["q", "k", "v"].map((part) => `${attention}.${part}_proj`),
        config.queryKeyValueBias,
      ),
      headNorms: config.queryKeyNorm
        ? [copy(`${attention}.q_norm.weight`), copy(`${attention}.k_norm.weight`)]
        : [],
      output: pack([`${attention}.o_proj`], config.attentionOutputBias),
      feedForwardNorm: copy(`${layer}.post_attention_layernorm.weight`),
      gateUp: pack([`${layer}.mlp.gate_proj`, `${layer}.mlp.up_proj`], config.mlpBias),
      down: pack([`${layer}.mlp.down_proj`], config.mlpBias),
    };
  });
  return {
    embedding: tf.clone(parameter<tf.Rank.R2>(params, "model.embed_tokens.weight")),
    layers,
    finalNorm: copy("model.norm.weight"),
    // A value is one number a token: nothing to save, and worth its digits.
    head: head === "value"
      ? packMatrices([parameter<tf.Rank.R2>(params, VALUE_HEAD)], "float32")
      : packMatrices([outputEmbedding(config, params)], type),
  };
}

/** `x · [each matrix]` in float32; one tensor where the matrices are kept as one. */
function multiply(x: tf.Tensor2D, matrices: Matrices): tf.Tensor2D[] {
  if ("float32" in matrices) return [matMulRows(x, matrices.float32)];
  if ("int8" in matrices) return [matMulInt8(x, matrices.int8)];
  const low = asType(x, "bfloat16");
  return matrices.bfloat16.map((w) => asType(tf.matMul(low, w, false, true), "float32"));
}

/** The outputs of the matrices packed together, [rows, width] each, biases added. */
export function products(
  x: tf.Tensor2D,
  { matrices, bias }: PackedLinear,
  widths: readonly number[],
): tf.Tensor2D[] {
  const parts = multiply(x, matrices);
  const add = (part: tf.Tensor2D, from: number, to: number): tf.Tensor2D => {
    if (bias.length === 0) return part;
    const whole = bias[0]!.size === to - from;
    return tf.add(part, whole ? bias[0]! : tf.slice(bias[0]!, [from], [to - from]));
  };
  if (parts.length === 1 && widths.length > 1) {
    const together = add(parts[0]!, 0, parts[0]!.shape[1]);
    let at = 0;
    return widths.map((width) => {
      const part = tf.slice(together, [0, at], [x.shape[0], width]);
      at += width;
      return part;
    });
  }
  let at = 0;
  return parts.map((part, i) => add(part, at, at += widths[i]!));
}

/** Hidden states [rows, hidden] times the head: [rows, vocabulary] or [rows, 1]. */
export function headProduct(x: tf.Tensor2D, { head }: PackedModel): tf.Tensor2D {
  return multiply(x, head)[0]!;
}
