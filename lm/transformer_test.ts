import assert from "node:assert/strict";
import { jit, tf, useBackend } from "../xla/mod.ts";
import { targetLogProbs } from "./log_probs.ts";
import {
  type ForwardOptions,
  hiddenStates,
  initParams,
  type Params,
  rmsNorm,
  tokenLogProbs,
} from "./transformer.ts";
import { maxDifference, tinyConfig } from "./test_support.ts";

await useBackend();

const config = tinyConfig({
  vocab_size: 40,
  initializer_range: 0.3,
});
const params = initParams(config, 1);
const ids = tf.tensor2d([[3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5, 8, 9, 7, 9, 3]], undefined, "int32");

/** Mean log-probability and its gradients by name. */
async function lossAndGradients(options: ForwardOptions) {
  const names = Object.keys(params);
  const { value, grads } = jit((params: Params, ids: tf.Tensor2D) =>
    tf.valueAndGrads((...list: tf.Tensor[]) => {
      const own = Object.fromEntries(names.map((name, i) => [name, list[i]!]));
      return tf.mean(tokenLogProbs(config, own, ids, options)) as tf.Scalar;
    })(names.map((name) => params[name]!))
  )(params, ids);
  const data = await Promise.all(grads.map((grad) => grad.data<"float32">()));
  return { value: (await value.data())[0]!, grads: data };
}

Deno.test("rows of logits taken in chunks give the same numbers and gradients as all at once", async () => {
  const hidden = tf.randomNormal<tf.Rank.R2>([13, 8], 0, 1, "float32", 1);
  const weight = tf.randomNormal<tf.Rank.R2>([30, 8], 0, 1, "float32", 2);
  const targets = tf.tensor1d(Array.from({ length: 13 }, (_, i) => (i * 7) % 30), "int32");
  const slopes = tf.tensor1d(Array.from({ length: 13 }, (_, i) => i - 5));
  const run = async (maxLogits: number) => {
    const out = jit((h: tf.Tensor2D, w: tf.Tensor2D, t: tf.Tensor1D, dy: tf.Tensor1D) => {
      const values = targetLogProbs(h, w, t, maxLogits);
      const grads = tf.grads((h: tf.Tensor, w: tf.Tensor) =>
        targetLogProbs(h as tf.Tensor2D, w as tf.Tensor2D, t, maxLogits)
      )([h, w], dy);
      return [values, ...grads];
    })(hidden, weight, targets, slopes);
    return await Promise.all(out.map((x) => x.data()));
  };
  const whole = await run(1e9);
  const logSoftmax = tf.logSoftmax(tf.matMul(hidden, weight, false, true));
  const table = await logSoftmax.array() as number[][];
  const wanted = Array.from({ length: 13 }, (_, i) => table[i]![(i * 7) % 30]!);
  assert.ok(maxDifference(whole[0]!, wanted) < 1e-5);
  for (const rowsPerChunk of [1, 4, 5, 12]) {
    const parts = await run(rowsPerChunk * 30);
    for (const [i, part] of parts.entries()) assert.ok(maxDifference(part, whole[i]!) < 1e-4);
  }
});

Deno.test("the norm's gradient is that of its formula", async () => {
  const x = tf.randomNormal<tf.Rank.R2>([5, 8], 0, 2, "float32", 1);
  const w = tf.randomNormal<tf.Rank.R1>([8], 1, 0.3, "float32", 2);
  const dy = tf.randomNormal<tf.Rank.R2>([5, 8], 0, 1, "float32", 3);
  const plain = (x: tf.Tensor, w: tf.Tensor) =>
    tf.mul(tf.mul(x, tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), 1e-5))), w);
  const own = (x: tf.Tensor, w: tf.Tensor) => rmsNorm(x, w as tf.Tensor1D, 1e-5);
  assert.ok(maxDifference(await own(x, w).data(), await plain(x, w).data()) < 1e-5);
  const want = tf.grads(plain)([x, w], dy);
  const got = tf.grads(own)([x, w], dy);
  for (const [i, grad] of got.entries()) {
    assert.ok(maxDifference(await grad.data(), await want[i]!.data()) < 1e-5);
  }
});

Deno.test("a long row, attended to block by block, begins as its first tokens alone", async () => {
  const long = tf.tensor2d(
    [Array.from({ length: 200 }, (_, i) => (7 * i) % 11)],
    [1, 200],
    "int32",
  );
  const whole = tf.slice(hiddenStates(config, params, long), [0, 0, 0], [1, 150, -1]);
  const short = hiddenStates(config, params, tf.slice(long, [0, 0], [1, 150]));
  assert.ok(maxDifference(await whole.data(), await short.data()) < 1e-5);
});

Deno.test("layers computed again in the backward pass give the same gradients", async () => {
  const plain = await lossAndGradients({});
  const again = await lossAndGradients({ rematerialise: true });
  assert.ok(Math.abs(plain.value - again.value) < 1e-6);
  for (const [i, grad] of again.grads.entries()) {
    assert.ok(maxDifference(grad, plain.grads[i]!) < 1e-6);
  }
});

Deno.test("bfloat16 products stay near float32, in the loss and in every gradient", async () => {
  const plain = await lossAndGradients({});
  const low = await lossAndGradients({ computeType: "bfloat16" });
  assert.ok(Math.abs(plain.value - low.value) < 0.02, `${plain.value} and ${low.value}`);
  for (const [i, grad] of low.grads.entries()) {
    const scale = plain.grads[i]!.reduce((top, v) => Math.max(top, Math.abs(v)), 1e-3);
    assert.ok(maxDifference(grad, plain.grads[i]!) < 0.1 * scale, Object.keys(params)[i]!);
  }
});

Deno.test("initial parameters depend on the seed alone, norms are 1 and biases 0", async () => {
  const again = initParams(config, 1);
  const other = initParams(config, 2);
  const name = "model.layers.0.mlp.up_proj.weight";
  assert.deepEqual(await again[name]!.data(), await params[name]!.data());
  assert.ok(maxDifference(await other[name]!.data(), await params[name]!.data()) > 0.1);
  const { mean, variance } = tf.moments(params["model.embed_tokens.weight"]!);
  assert.ok(Math.abs((await mean.data())[0]!) < 0.05);
  assert.ok(Math.abs(Math.sqrt((await variance.data())[0]!) - config.initializerRange) < 0.03);
  assert.ok((await params["model.norm.weight"]!.data()).every((v) => v === 1));
  assert.ok((await params["model.layers.1.self_attn.q_proj.bias"]!.data()).every((v) => v === 0));
});
