/** Many steps of a small program: nothing grows, on the device, in tfjs's books, or in the process. */
import assert from "node:assert/strict";
import { jit, tf, useBackend } from "./mod.ts";
import { xlaBackend } from "./use_backend.ts";

const { name } = await useBackend();
const ignore = name !== "xla";
const MIB = 2 ** 20;

interface Books {
  tensors: number;
  buffers: number;
  bytes: number;
  data: number;
}

const books = (): Books => {
  const { numTensors, numDataBuffers, numBytes } = tf.memory();
  return {
    tensors: numTensors,
    buffers: numDataBuffers,
    bytes: numBytes,
    data: xlaBackend()!.numDataIds(),
  };
};

/** Runs `step` in parts; the process may not grow from the first part's end to the last's. */
function endures(steps: number, step: () => void, wait: () => void): void {
  const part = steps / 10;
  const run = () => {
    for (let i = 0; i < part; i++) step();
    wait();
  };
  run();
  const before = books();
  const sizes = Array.from({ length: 9 }, () => {
    run();
    return Deno.memoryUsage().rss;
  });
  assert.deepEqual(books(), before);
  const grown = (sizes.at(-1)! - sizes[0]!) / MIB;
  const kept = sizes.map((size) => (size / MIB).toFixed(0)).join(", ");
  assert.ok(grown < 24, `the process grew by ${grown.toFixed(1)} MiB: ${kept}`);
}

Deno.test({
  name: "10,000 steps of a compiled program leave memory as it was",
  ignore,
  fn: () => {
    const step = jit((s: { w: tf.Tensor; m: tf.Tensor }, x: tf.Tensor) => {
      const loss = (w: tf.Tensor) => tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D).square().mean();
      const gradient = tf.grad(loss)(s.w);
      const m = s.m.mul(0.9).add(gradient.mul(0.1));
      return { state: { w: s.w.sub(m.mul(0.01)), m }, loss: loss(s.w) };
    }, { donate: [0] });
    let state = { w: tf.ones([32, 32]) as tf.Tensor, m: tf.zeros([32, 32]) as tf.Tensor };
    endures(10_000, () => {
      const x = tf.fill([8, 32], 0.1);
      const next = step(state, x);
      x.dispose();
      next.loss.dispose();
      state = next.state;
    }, () => void state.w.dataSync());
    tf.dispose(state);
  },
});

Deno.test({
  name: "5,000 rounds of operations outside jit, with uploads and reads, leave memory as it was",
  ignore,
  fn: () => {
    const w = tf.ones([16, 16]);
    endures(5_000, () => {
      tf.tidy(() => {
        const x = tf.tensor2d(new Float32Array(16 * 16).fill(0.5), [16, 16]);
        void tf.matMul(x, w).relu().dataSync();
      });
    }, () => {});
    w.dispose();
  },
});
