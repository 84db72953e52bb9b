import assert from "node:assert/strict";
import { jit, tf, useBackend } from "../xla/mod.ts";
import { compareNext } from "./compare.ts";
import { parseConfig } from "./config.ts";

await useBackend();

const config = parseConfig({
  architectures: ["Qwen2ForCausalLM"],
  model_type: "qwen2",
  vocab_size: 11,
  hidden_size: 8,
  intermediate_size: 8,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 2,
  max_position_embeddings: 8,
  rms_norm_eps: 1e-6,
  tie_word_embeddings: false,
  hidden_act: "silu",
});

const wave = (rows: number, columns: number, seed: number) =>
  tf.tensor2d(
    Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(1.7 * i + seed)),
    [rows, columns],
  );
const [hidden, weight] = [wave(7, 8, 1), wave(11, 8, 2)];
const [otherHidden, otherWeight] = [wave(7, 8, 3), wave(11, 8, 4)];
const targets = tf.tensor1d([3, 0, 10, 5, 5, 7, 1], "int32");
const weights = wave(3, 7, 5);

/** The definitions, term by term, with tfjs's own gradients. */
function plainly(h: tf.Tensor2D, w: tf.Tensor2D, reverse: boolean): tf.Tensor2D {
  const p = tf.logSoftmax(tf.matMul(h, w, false, true)) as tf.Tensor;
  const q = tf.logSoftmax(tf.matMul(otherHidden, otherWeight, false, true)) as tf.Tensor;
  const hot = tf.oneHot(targets, 11).toFloat();
  const divergence = reverse ? q.exp().mul(q.sub(p)) : p.exp().mul(p.sub(q));
  return tf.stack([p.mul(hot).sum(1), q.mul(hot).sum(1), divergence.sum(1)]) as tf.Tensor2D;
}

function compared(h: tf.Tensor2D, w: tf.Tensor2D, reverse: boolean, maxLogits?: number) {
  const { logProbs, referenceLogProbs, divergence } = compareNext(
    config,
    { params: { "lm_head.weight": w }, hidden: h },
    { params: { "lm_head.weight": otherWeight }, hidden: otherHidden },
    targets,
    { reverse, ...(maxLogits === undefined ? {} : { maxLogits }) },
  );
  return tf.stack([logProbs, referenceLogProbs, divergence]) as tf.Tensor2D;
}

/** Values and the gradients of a weighted sum of the rows that have one, on the host. */
function measured(f: (h: tf.Tensor2D, w: tf.Tensor2D) => tf.Tensor2D): number[][] {
  const run = jit((h: tf.Tensor2D, w: tf.Tensor2D, by: tf.Tensor2D) => {
    const counted = tf.tensor2d([[1], [0], [1]]);
    const sum = (h: tf.Tensor, w: tf.Tensor) =>
      f(h as tf.Tensor2D, w as tf.Tensor2D).mul(by).mul(counted).sum() as tf.Scalar;
    return [f(h, w), ...tf.grads(sum)([h, w])];
  });
  return run(hidden, weight, weights).map((x) => [...x.dataSync()]);
}

for (const reverse of [false, true]) {
  Deno.test(`two models compare as their definitions say, ${reverse ? "reversed, " : ""}in chunks too`, () => {
    const expected = measured((h, w) => plainly(h, w, reverse));
    for (const maxLogits of [undefined, 33, 1]) {
      const found = measured((h, w) => compared(h, w, reverse, maxLogits));
      for (const [k, values] of expected.entries()) {
        for (const [i, value] of values.entries()) {
          const near = Math.abs(found[k]![i]! - value) < 1e-5;
          assert.ok(near, `${maxLogits} ${k}[${i}]: ${found[k]![i]}, not ${value}`);
        }
      }
    }
  });
}
