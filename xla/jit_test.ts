import assert from "node:assert/strict";
import { asType, dynamicUpdateSlice, jit, scan, tf, toHost, useBackend, whileLoop } from "./mod.ts";
import { xlaBackend } from "./use_backend.ts";

await useBackend();
const onXla = xlaBackend() !== undefined;
const xlaTest = (name: string, fn: () => void | Promise<void>) =>
  Deno.test({
    name: onXla ? name : `${name} (needs the xla backend, which does not start here)`,
    ignore: !onXla,
    fn: async () => {
      await useBackend("xla");
      await fn();
    },
  });

type Layers = { w1: tf.Tensor; b1: tf.Tensor; w2: tf.Tensor };

/** One step of gradient descent on a small regression. */
function trainStep(params: Layers, x: tf.Tensor, y: tf.Tensor, rate: number) {
  const loss = (w1: tf.Tensor, b1: tf.Tensor, w2: tf.Tensor) => {
    const hidden = tf.matMul(x as tf.Tensor2D, w1 as tf.Tensor2D);
    return tf.matMul(tf.tanh(tf.add(hidden, b1)) as tf.Tensor2D, w2 as tf.Tensor2D)
      .sub(y).square().mean() as tf.Scalar;
  };
  const { value, grads } = tf.valueAndGrads(loss)([params.w1, params.b1, params.w2]);
  const [w1, b1, w2] = [params.w1, params.b1, params.w2].map((p, i) => p.sub(grads[i]!.mul(rate)));
  return { loss: value as tf.Tensor, params: { w1: w1!, b1: b1!, w2: w2! } };
}

/** Numbers that are the same on every backend. */
function ramp(shape: number[], scale: number): tf.Tensor {
  const n = shape.reduce((a, b) => a * b, 1);
  return tf.tensor(Float32Array.from({ length: n }, (_, i) => Math.sin(i * 1.7) * scale), shape);
}

async function train(steps: number, step: typeof trainStep): Promise<number[]> {
  let params: Layers = { w1: ramp([8, 16], 0.3), b1: tf.zeros([16]), w2: ramp([16, 4], 0.3) };
  const x = ramp([32, 8], 1);
  const y = tf.matMul(x as tf.Tensor2D, ramp([8, 4], 0.5) as tf.Tensor2D);
  const losses: number[] = [];
  for (let i = 0; i < steps; i++) {
    const next = step(params, x, y, 1);
    losses.push((await next.loss.data())[0]!);
    params = next.params;
  }
  return losses;
}

xlaTest("a jitted training step follows tfjs's cpu backend", async () => {
  const compiled = await train(20, jit(trainStep, { donate: [0] }));
  await useBackend("cpu");
  const reference = await train(20, trainStep);
  assert.ok(reference[19]! < reference[0]! * 0.9, "it learns");
  compiled.forEach((loss, i) => assert.ok(Math.abs(loss - reference[i]!) < 1e-5 * reference[0]!));
});

xlaTest("a function is traced once for each structure, type and static argument", () => {
  let traced = 0;
  const f = jit((x: { a: tf.Tensor; b: tf.Tensor[] }, scale: number, flag?: boolean) => {
    traced++;
    return flag ? x.a : tf.add(x.a, x.b[0]!).mul(scale);
  });
  const call = (n: number, scale: number, flag?: boolean) => {
    const tree = { a: tf.ones([n]), b: [tf.ones([n])] };
    return tf.tidy(() => [...f(tree, scale, flag).dataSync()]);
  };
  assert.deepEqual(call(2, 3), [6, 6]);
  assert.deepEqual(call(2, 3), [6, 6]);
  assert.equal(traced, 1);
  assert.deepEqual(call(3, 3), [6, 6, 6]);
  assert.deepEqual(call(3, 4), [8, 8, 8]);
  assert.deepEqual(call(3, 4, true), [1, 1, 1]);
  assert.equal(traced, 4);
});

xlaTest("results keep the structure that the function returned", async () => {
  const f = jit((x: tf.Tensor) => ({
    pair: [x.add(1), x.mul(2)],
    same: x,
    constant: tf.scalar(7),
  }));
  const host = await toHost(f(tf.tensor1d([1, 2])));
  assert.deepEqual([...host.pair[0]!], [2, 3]);
  assert.deepEqual([...host.pair[1]!], [2, 4]);
  assert.deepEqual([...host.same], [1, 2]);
  assert.deepEqual([...host.constant], [7]);
});

xlaTest("a closed-over tensor is an argument, and outlives its disposal", () => {
  const table = ramp([100], 1);
  const expected = table.dataSync().slice();
  const f = jit((x: tf.Tensor) => tf.add(x, table));
  const x = tf.zeros([100]);
  assert.deepEqual(f(x).dataSync(), expected);
  table.dispose();
  assert.deepEqual(f(x).dataSync(), expected);
});

xlaTest("a closed-over variable is read anew at each call", () => {
  const v = tf.variable(tf.tensor1d([1, 2]));
  const f = jit((x: tf.Tensor) => tf.mul(x, v));
  const x = tf.tensor1d([10, 10]);
  assert.deepEqual([...f(x).dataSync()], [10, 20]);
  v.assign(tf.tensor1d([3, 4]));
  assert.deepEqual([...f(x).dataSync()], [30, 40]);
  v.dispose();
});

xlaTest("a donated argument is gone, and using it names the argument", () => {
  const f = jit((state: { m: tf.Tensor }, x: tf.Tensor) => ({ m: state.m.add(x) }), {
    name: "accumulate",
    donate: [0],
  });
  const state = { m: tf.ones([4]) };
  const next = f(state, tf.ones([4]));
  assert.deepEqual([...next.m.dataSync()], [2, 2, 2, 2]);
  assert.ok(state.m.isDisposed);
  const named = /argument 0\.m of jit 'accumulate' \(float32\[4\]\) was donated/;
  assert.throws(() => state.m.dataSync(), named);
  assert.throws(() => tf.add(state.m, 1), named);
  assert.throws(() => f(state, tf.ones([4])), named);
});

xlaTest("donation copies where another tensor shares the data", () => {
  const f = jit((x: tf.Tensor) => x.mul(2), { donate: [0] });
  const x = tf.tensor1d([1, 2]);
  const same = x.clone();
  assert.deepEqual([...f(x).dataSync()], [2, 4]);
  assert.deepEqual([...same.dataSync()], [1, 2]);
  const g = jit((a: tf.Tensor, b: tf.Tensor) => a.add(b), { donate: [0] });
  const y = tf.tensor1d([5, 6]);
  assert.deepEqual([...g(y, y).dataSync()], [10, 12]);
});

xlaTest("reading a traced value names the op that made it", () => {
  const f = jit((x: tf.Tensor) => tf.mul(x, x.exp().dataSync()[0]!), { name: "reads" });
  assert.throws(() => f(tf.ones([2])), /reading a traced value.*float32\[2\].*'Exp'.*jit 'reads'/);
  assert.deepEqual([...tf.add(tf.ones([1]), 1).dataSync()], [2], "the backend works on");
});

xlaTest("a traced value that escapes its function is named when used", () => {
  let stolen: tf.Tensor | undefined;
  jit((x: tf.Tensor) => {
    stolen = tf.keep(x.neg());
    return x;
  }, { name: "leaks" })(tf.ones([2]));
  assert.throws(() => tf.add(stolen!, 1), /float32\[2\] made by 'Neg'.*trace of 'leaks'/);
  assert.throws(
    () => jit((x: tf.Tensor) => x.add(stolen!))(tf.ones([2])),
    /trace of 'leaks'.*return it/,
  );
  stolen!.dispose();
});

xlaTest("a value of a loop's body that escapes the body is named when used", () => {
  let inner: tf.Tensor | undefined;
  const f = jit((x: tf.Tensor) => {
    whileLoop((s) => tf.less(s.sum(), 10), (s) => inner = tf.keep(s.add(1)), x);
    return inner!.add(1);
  });
  assert.throws(() => f(tf.zeros([2])), /made by 'Add'.*outside of it/);
});

xlaTest("arguments that are neither tensors nor static are refused", () => {
  const f = jit((_: unknown) => tf.scalar(1), { name: "f" });
  assert.throws(() => f(new Date()), /jit 'f': argument 0 holds an object of Date/);
  assert.throws(() => f(tf.tensor1d(["a"])), /argument 0 is a string tensor/);
  const g = jit((x: tf.Tensor) => ({ x, n: 3 }) as unknown as tf.Tensor, { name: "g" });
  assert.throws(() => g(tf.ones([1])), /result of jit 'g'\.n must be a tensor, found the number 3/);
});

xlaTest("a gradient around a jitted function and one inside agree", () => {
  const f = (x: tf.Tensor) => x.square().mul(x).sum() as tf.Scalar;
  const x = tf.tensor1d([1, 2, 3]);
  assert.deepEqual([...tf.grad(jit(f))(x).dataSync()], [3, 12, 27]);
  assert.deepEqual([...jit(tf.grad(f))(x).dataSync()], [3, 12, 27]);
});

xlaTest("a jitted function inside another becomes part of it", () => {
  const double = jit((x: tf.Tensor) => x.mul(2));
  const f = jit((x: tf.Tensor) => double(double(x)).add(1));
  assert.deepEqual([...f(tf.tensor1d([1, 2])).dataSync()], [5, 9]);
});

xlaTest("gradients work inside a loop's body, and through a loop they are refused", () => {
  const descend = jit((x: tf.Tensor) =>
    whileLoop(
      (s) => tf.greater(s.square().sum(), 1e-4),
      (s) => s.sub(tf.grad((t) => t.square().sum() as tf.Scalar)(s).mul(0.25)),
      x,
    )
  );
  for (const value of descend(tf.tensor1d([3, -2])).dataSync()) assert.ok(Math.abs(value) < 0.01);
  const through = (x: tf.Tensor) =>
    whileLoop((s) => tf.less(s.sum(), 10), (s) => s.mul(2), x).sum() as tf.Scalar;
  assert.throws(() => tf.grad(through)(tf.ones([2])), /no reverse-mode derivative/);
  assert.throws(() => jit(tf.grad(through))(tf.ones([2])), /no reverse-mode derivative/);
  const closing = (x: tf.Tensor) =>
    scan((c: tf.Tensor) => [c.add(x.sum()), c], tf.scalar(0) as tf.Tensor, 3)[0] as tf.Scalar;
  assert.throws(() => jit(tf.grad(closing))(tf.ones([2])), /no reverse-mode derivative/);
});

xlaTest("bfloat16 computes in bfloat16, reads as float32 and passes float32 gradients", () => {
  const x = tf.tensor1d([1.001, 2.002, 3.003]);
  const half = asType(x, "bfloat16");
  assert.equal(half.dtype, "float32");
  assert.deepEqual([...half.dataSync()], [1, 2, 3]);
  const product = tf.mul(half, half);
  assert.deepEqual([...product.dataSync()], [1, 4, 9]);
  assert.deepEqual([...asType(product, "float32").dataSync()], [1, 4, 9]);
  const gradient = jit(tf.grad((t) => asType(asType(t, "bfloat16").square(), "float32").sum()))(x);
  assert.deepEqual([...gradient.dataSync()], [2, 4, 6]);
});

xlaTest("thousands of steps leave tensors, data and memory as they were", () => {
  const step = jit((s: { x: tf.Tensor; n: tf.Tensor }) => ({
    x: s.x.mul(0.999).add(tf.sin(s.n)),
    n: s.n.add(1),
  }), { donate: [0] });
  let state = { x: tf.ones([256, 256]) as tf.Tensor, n: tf.scalar(0) as tf.Tensor };
  const run = (steps: number) => {
    for (let i = 0; i < steps; i++) state = step(state);
    state.n.dataSync();
  };
  run(500);
  const before = { ...tf.memory(), data: xlaBackend()!.numDataIds(), rss: Deno.memoryUsage().rss };
  run(4000);
  const after = { ...tf.memory(), data: xlaBackend()!.numDataIds(), rss: Deno.memoryUsage().rss };
  assert.equal(after.numTensors, before.numTensors);
  assert.equal(after.numDataBuffers, before.numDataBuffers);
  assert.equal(after.numBytes, before.numBytes);
  assert.equal(after.data, before.data);
  // A state kept by mistake would be 256 KiB a step, 1 GiB in all.
  assert.ok(after.rss - before.rss < 64 * 2 ** 20, `grew by ${(after.rss - before.rss) >> 20} MiB`);
});

xlaTest("a loop on the device writes one row of a large cache in place", () => {
  // 64 MiB a copy: 500 copies would take seconds, 500 rows take milliseconds.
  const [rows, width, steps] = [4096, 4096, 500];
  const fill = jit((cache: tf.Tensor2D) =>
    scan(
      (c: tf.Tensor, i) => {
        const row = tf.fill([1, width], 1).mul(i.toFloat());
        return [dynamicUpdateSlice(c, row, [i, 0]), i];
      },
      cache as tf.Tensor,
      steps,
    )[0], { donate: [0] });
  let cache = fill(tf.zeros([rows, width]));
  cache.dataSync();
  const start = performance.now();
  cache = fill(cache as tf.Tensor2D);
  const last = cache.slice([steps - 1, 0], [1, 2]).dataSync();
  const seconds = (performance.now() - start) / 1000;
  assert.deepEqual([...last], [steps - 1, steps - 1]);
  assert.ok(seconds < 2, `${steps} updates took ${seconds.toFixed(2)} s`);
});
