import assert from "node:assert/strict";
import { jit, tf, toHost, useBackend } from "./mod.ts";
import { xlaBackend } from "./use_backend.ts";

const info = await useBackend();
const onXla = info.name === "xla";
const xlaTest = (name: string, fn: () => void | Promise<void>) =>
  Deno.test({
    name: onXla ? name : `${name} (needs the xla backend: ${info.reason})`,
    ignore: !onXla,
    fn: async () => {
      await useBackend("xla");
      await fn();
    },
  });

xlaTest("every dtype is written, kept on the device and read back", async () => {
  const cases: [number[], "float32" | "int32" | "bool"][] = [
    [[1.5, -2, 0, 3.25], "float32"],
    [[1, -2, 2 ** 31 - 1, 0], "int32"],
    [[1, 0, 0, 1], "bool"],
  ];
  for (const [values, dtype] of cases) {
    const x = tf.tensor2d(values, [2, 2], dtype);
    const y = tf.transpose(tf.transpose(x));
    assert.equal(y.dtype, dtype);
    assert.deepEqual([...y.dataSync()], values);
    assert.deepEqual([...await y.data()], values);
  }
  assert.deepEqual([...tf.zeros([0, 3]).add(1).dataSync()], []);
});

xlaTest("clones and reshapes share data, and memory balances to zero", () => {
  const before = { ...tf.memory(), data: xlaBackend()!.numDataIds() };
  const x = tf.tensor1d([1, 2, 3, 4]);
  const y = x.clone();
  const z = x.reshape([2, 2]).expandDims(0).squeeze() as tf.Tensor2D;
  assert.equal(tf.memory().numDataBuffers, before.numDataBuffers + 1);
  x.dispose();
  y.dispose();
  assert.deepEqual([...tf.matMul(z, z).dataSync()], [7, 10, 15, 22]);
  tf.disposeVariables();
  tf.tidy(() => void z.add(1).sum());
  z.dispose();
  const after = { ...tf.memory(), data: xlaBackend()!.numDataIds() };
  // Left: two reshapes on the way to z, and the product.
  assert.equal(after.numTensors, before.numTensors + 3);
  assert.equal(after.data, before.data + 2);
});

xlaTest("attributes that JSON writes alike do not share a program", () => {
  const x = tf.tensor1d([-5, 5]);
  const top = (value: number) => [...tf.clipByValue(x, -10, value).dataSync()];
  assert.deepEqual(top(Infinity), [-5, 5]);
  assert.deepEqual(top(3), [-5, 3]);
  const fill = (value: number) => tf.fill([1], value).dataSync()[0]!;
  assert.deepEqual([fill(Infinity), fill(-Infinity), fill(NaN)], [Infinity, -Infinity, NaN]);
  assert.ok(Object.is(fill(-0), -0));
});

xlaTest("strings run on the host, and are refused inside jit by the op's name", () => {
  const words = tf.tensor1d(["a", "b", "c"]);
  assert.deepEqual([...tf.slice(words, [1], [2]).dataSync()] as unknown[], ["b", "c"]);
  assert.deepEqual([...tf.equal(words, tf.tensor1d(["a", "x", "c"])).dataSync()], [1, 0, 1]);
  const f = jit((x: tf.Tensor) => tf.equal(words, words).toFloat().add(x), { name: "strings" });
  assert.throws(() => f(tf.zeros([3])), /op 'Equal' cannot be used inside jit 'strings': .*string/);
});

xlaTest("a kernel without a lowering runs on the host, and is refused inside jit", async () => {
  const boxes = tf.tensor2d([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3]]);
  const scores = tf.tensor1d([0.9, 0.8, 0.7]);
  const kept = () => tf.image.nonMaxSuppression(boxes, scores, 3, 0.5);
  assert.deepEqual([...kept().dataSync()], [0, 2]);
  await tf.ready();
  const f = jit((x: tf.Tensor) => tf.image.nonMaxSuppression(boxes, x as tf.Tensor1D, 3), {
    name: "nms",
  });
  assert.throws(() => f(scores), /op 'NonMaxSuppressionV3' cannot be used inside jit 'nms'/);
});

xlaTest("data of another backend moves here when used", async () => {
  await useBackend("cpu");
  const x = tf.tensor1d([1, 2, 3]);
  const shared = x.clone();
  await useBackend("xla");
  assert.deepEqual([...x.add(1).dataSync()], [2, 3, 4]);
  x.dispose();
  assert.deepEqual([...jit((t: tf.Tensor) => t.mul(2))(shared).dataSync()], [2, 4, 6]);
  shared.dispose();
  const y = tf.tensor1d([4, 5]).add(1);
  await useBackend("cpu");
  assert.deepEqual([...y.add(1).dataSync()], [6, 7]);
});

xlaTest("no kernel of a small model leaks data, by tfjs's own check", () => {
  tf.env().set("IS_TEST", true);
  try {
    const w = tf.variable(tf.randomNormal([4, 3]));
    const x = tf.randomNormal([5, 4]);
    const loss = () =>
      tf.oneHot(tf.tensor1d([0, 1, 2, 0, 1], "int32"), 3)
        .mul(tf.softmax(tf.matMul(x as tf.Tensor2D, w as tf.Tensor as tf.Tensor2D)).log())
        .sum().neg() as tf.Scalar;
    const optimizer = tf.train.adam(0.1);
    const first = loss().dataSync()[0]!;
    for (let i = 0; i < 10; i++) optimizer.minimize(loss, false, [w]);
    assert.ok(loss().dataSync()[0]! < first);
    w.dispose();
    optimizer.dispose();
  } finally {
    tf.env().set("IS_TEST", false);
  }
});

xlaTest("numbers of eager kernels agree with tfjs's cpu backend", async () => {
  const compute = () => {
    const x = tf.tensor2d([[0.5, -1, 2], [3, 0.25, -0.75]]);
    return {
      softmax: tf.softmax(x),
      norm: tf.norm(x),
      top: tf.topk(x, 2).indices,
      sorted: tf.cumsum(x, 1),
      variance: tf.moments(x, [1]).variance,
      joined: tf.concat([x, x.neg()], 0).slice([1, 0], [2, 2]),
    };
  };
  const ours = await toHost(compute());
  await useBackend("cpu");
  const theirs = await toHost(compute());
  for (const name of Object.keys(ours) as (keyof typeof ours)[]) {
    ours[name].forEach((value, i) => assert.ok(Math.abs(value - theirs[name][i]!) < 1e-6, name));
  }
});

Deno.test("an unknown backend is refused with the known ones", async () => {
  await assert.rejects(
    () => useBackend("gpu"),
    /unknown backend 'gpu': .*Known: xla, .*or a path to a PJRT plugin/,
  );
  await assert.rejects(() => useBackend("/nowhere/plugin.so"), /\/nowhere\/plugin.so/);
});

Deno.test("the same functions run on tfjs's wasm backend", async () => {
  assert.equal((await useBackend("wasm")).name, "wasm");
  const f = jit((x: tf.Tensor) => tf.matMul(x as tf.Tensor2D, x as tf.Tensor2D).sum());
  assert.equal(f(tf.ones([4, 4])).dataSync()[0], 64);
});

xlaTest(
  "a product that is a program of its own is right in every size and orientation",
  async () => {
    const product = (m: number, k: number, n: number, ta: boolean, tb: boolean) => {
      const wave = (shape: [number, number]) =>
        tf.tensor2d(
          Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => Math.sin(i * 0.7)),
          shape,
        );
      const [a, b] = [wave(ta ? [k, m] : [m, k]), wave(tb ? [n, k] : [k, n])];
      return jit((x: tf.Tensor2D, y: tf.Tensor2D) => tf.matMul(x, y, ta, tb))(a, b);
    };
    for (const [m, k, n] of [[128, 128, 128], [100, 130, 70], [65, 128, 129], [3, 700, 700]]) {
      for (const ta of [false, true]) {
        for (const tb of [false, true]) {
          await useBackend("xla");
          const ours = product(m!, k!, n!, ta, tb);
          assert.deepEqual(ours.shape, [m, n]);
          const values = ours.dataSync();
          await useBackend("cpu");
          const reference = product(m!, k!, n!, ta, tb).dataSync();
          values.forEach((value, i) => assert.ok(Math.abs(value - reference[i]!) < 1e-3));
        }
      }
    }
  },
);
