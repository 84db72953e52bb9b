/** Where tokens stand: rotary embeddings (Su et al. 2021) and the causal mask. */
import { tf } from "../xla/mod.ts";
import type { ModelConfig } from "./config.ts";

/** Added to a score to hide it. Finite, so that a row that sees nothing gives numbers, not NaN. */
export const HIDDEN_SCORE = -1e30;

/** An int32 scalar: a plain number in an operation would make an integer tensor float. */
export const int = (value: number): tf.Scalar => tf.scalar(value, "int32");

/** Cosines and sines, broadcastable to [batch, time, heads, headDim / 2]. */
export interface RotaryTables {
  cos: tf.Tensor;
  sin: tf.Tensor;
}

/** The rotation's angle per position of each of the headDim / 2 pairs, in radians, float32. */
export function inverseFrequencies(config: ModelConfig): Float32Array {
  const { rope, headDim } = config;
  const plain = Float32Array.from(
    { length: headDim / 2 },
    (_, i) => 1 / Math.fround(rope.theta ** (2 * i / headDim)),
  );
  switch (rope.type) {
    case "default":
      return plain;
    case "linear":
      return plain.map((f) => f / rope.factor);
    case "llama3": {
      // Llama 3.1: low frequencies are slowed by `factor`, high ones kept, those between blended.
      const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = rope;
      return plain.map((frequency) => {
        const wavelength = 2 * Math.PI / frequency;
        if (wavelength < originalMaxPositions / highFreqFactor) return frequency;
        if (wavelength > originalMaxPositions / lowFreqFactor) return frequency / factor;
        const smooth = (originalMaxPositions / wavelength - lowFreqFactor) /
          (highFreqFactor - lowFreqFactor);
        return (1 - smooth) * frequency / factor + smooth * frequency;
      });
    }
    default:
      return rope satisfies never;
  }
}

/** Host tables of shape [count, headDim / 2] for positions 0..count-1. */
function rotaryRows(
  config: ModelConfig,
  count: number,
): { cos: Float32Array; sin: Float32Array } {
  const frequencies = inverseFrequencies(config);
  const half = frequencies.length;
  const cos = new Float32Array(count * half);
  const sin = new Float32Array(count * half);
  for (let position = 0; position < count; position++) {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(position * frequencies[i]!);
      cos[position * half + i] = Math.cos(angle);
      sin[position * half + i] = Math.sin(angle);
    }
  }
  return { cos, sin };
}

/**
 * Tables for rows of `time` tokens. The queries' carry the attention's 1 / sqrt(headDim), which saves
 * a pass over the scores. Without `positions` (int32 [batch, time]) token i stands at i.
 */
export function rotaryTables(
  config: ModelConfig,
  time: number,
  positions?: tf.Tensor2D,
): { query: RotaryTables; key: RotaryTables } {
  const half = config.headDim / 2;
  let cos: tf.Tensor;
  let sin: tf.Tensor;
  if (positions === undefined) {
    const rows = rotaryRows(config, time);
    cos = tf.tensor(rows.cos, [time, 1, half]);
    sin = tf.tensor(rows.sin, [time, 1, half]);
  } else {
    const [batch] = positions.shape;
    const at = tf.reshape(tf.cast(positions, "float32"), [batch, time, 1, 1]);
    const angles = tf.mul(at, tf.tensor1d(inverseFrequencies(config)));
    cos = tf.cos(angles);
    sin = tf.sin(angles);
  }
  return { query: scaledTables({ cos, sin }, config.headDim ** -0.5), key: { cos, sin } };
}

function scaledTables({ cos, sin }: RotaryTables, scale: number): RotaryTables {
  return { cos: tf.mul(cos, scale), sin: tf.mul(sin, scale) };
}

/** Rotates pairs (i, i + headDim / 2) of the last axis, as Hugging Face checkpoints expect. */
export function rotate<T extends tf.Tensor>(x: T, tables: RotaryTables): T {
  const turn = (v: tf.Tensor, cos: tf.Tensor, sin: tf.Tensor, sign: 1 | -1) => {
    const half = v.shape.at(-1)! / 2;
    const begin = v.shape.map(() => 0);
    const size = [...v.shape.slice(0, -1), half];
    const a = tf.slice(v, begin, size);
    const b = tf.slice(v, [...begin.slice(0, -1), half], size);
    const cross = tf.mul(b, sin);
    const back = tf.mul(a, sin);
    return sign === 1
      ? tf.concat([tf.sub(tf.mul(a, cos), cross), tf.add(tf.mul(b, cos), back)], -1)
      : tf.concat([tf.add(tf.mul(a, cos), cross), tf.sub(tf.mul(b, cos), back)], -1);
  };
  // The rotation's transpose is the rotation back. Only tables are saved: they outlive the forward
  // pass's scope that way.
  const rotation = tf.customGrad((input, save) => {
    (save as tf.GradSaveFunc)([tables.cos, tables.sin]);
    return {
      value: turn(input as tf.Tensor, tables.cos, tables.sin, 1),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => [turn(dy, saved[0]!, saved[1]!, -1)],
    };
  });
  return rotation(x) as T;
}

/**
 * 0 where a query may look and {@link HIDDEN_SCORE} where not, broadcastable to
 * [batch, kvHeads, groups, time, time]. A query sees itself and what stands before it, at most
 * `window - 1` tokens back, no padding, and nothing of another segment.
 */
export function causalBias(
  time: number,
  window: number | null,
  attentionMask?: tf.Tensor2D,
  segments?: tf.Tensor2D,
): tf.Tensor {
  const steps = tf.range(0, time, 1, "int32");
  const query = tf.reshape(steps, [time, 1]);
  const key = tf.reshape(steps, [1, time]);
  let visible: tf.Tensor = tf.lessEqual(key, query);
  if (window !== null) visible = tf.logicalAnd(visible, tf.greater(key, tf.sub(query, window)));
  if (attentionMask !== undefined) {
    const present = tf.cast(tf.reshape(attentionMask, [-1, 1, 1, 1, time]), "bool");
    visible = tf.logicalAnd(visible, present);
  }
  if (segments !== undefined) {
    const own = tf.equal(
      tf.reshape(segments, [-1, 1, 1, time, 1]),
      tf.reshape(segments, [-1, 1, 1, 1, time]),
    );
    visible = tf.logicalAnd(visible, own);
  }
  return tf.mul(tf.sub(1, tf.cast(visible, "float32")), HIDDEN_SCORE);
}
