import assert from "node:assert/strict";
import { tf, toHost, useBackend } from "../xla/mod.ts";
import { gradientsOf } from "./gradients.ts";
import { decaysByName, defaultWarmup } from "./optimizer.ts";

await useBackend();

Deno.test("warm-up takes three percent of the steps, rounded up", () => {
  assert.deepEqual([1, 33, 34, 100, 1000].map(defaultWarmup), [1, 1, 2, 3, 30]);
});

Deno.test("biases and norms do not decay, everything else does", () => {
  const names = ["lm_head.weight", "q_proj.bias", "input_layernorm.weight", "model.norm.weight"];
  assert.deepEqual(names.map(decaysByName), [true, false, false, false]);
});

Deno.test("a parameter that the loss does not reach gets a gradient of zeros", async () => {
  const p = { used: tf.tensor1d([3]), unused: tf.tensor1d([1, 2]) };
  const { grads, kept } = gradientsOf(() => {
    const square = p.used.square();
    return { loss: square.sum() as tf.Scalar, kept: [square] };
  }, { p });
  const host = await toHost({ used: grads.p!.used!, unused: grads.p!.unused!, kept: kept[0]! });
  assert.deepEqual([...host.used], [6]);
  assert.deepEqual([...host.unused], [0, 0]);
  assert.deepEqual([...host.kept!], [9]);
});
