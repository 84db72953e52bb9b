import assert from "node:assert/strict";
import {
  checkpoint,
  dynamicSlice,
  dynamicUpdateSlice,
  jit,
  scan,
  stopGradient,
  tf,
  useBackend,
  whileLoop,
} from "./mod.ts";

for (const backend of [undefined, "cpu"]) {
  const on = `on the ${backend ?? "default"} backend`;
  const at = (i: number) => tf.scalar(i, "int32");

  Deno.test(`dynamicSlice clamps its start and has a gradient ${on}`, async () => {
    await useBackend(backend);
    const x = tf.tensor2d([[1, 2, 3], [4, 5, 6]]);
    assert.deepEqual([...dynamicSlice(x, [at(1), 1], [1, 2]).dataSync()], [5, 6]);
    assert.deepEqual([...dynamicSlice(x, [at(9), at(9)], [1, 2]).dataSync()], [5, 6]);
    const g = tf.grad((t) => dynamicSlice(t, [at(0), at(1)], [2, 2]).square().sum())(x);
    assert.deepEqual([...g.dataSync()], [0, 4, 6, 0, 10, 12]);
    assert.throws(() => dynamicSlice(x, [0], [1, 1]), /needs 2 starts, found 1/);
    assert.throws(() => dynamicSlice(x, [0, 0], [3, 1]), /do not fit/);
  });

  Deno.test(`dynamicUpdateSlice replaces a window and has both gradients ${on}`, async () => {
    await useBackend(backend);
    const x = tf.tensor2d([[1, 2, 3], [4, 5, 6]]);
    const u = tf.tensor2d([[7, 8]]);
    assert.deepEqual([...dynamicUpdateSlice(x, u, [at(1), at(1)]).dataSync()], [1, 2, 3, 4, 7, 8]);
    assert.deepEqual([...dynamicUpdateSlice(x, u, [at(-3), 0]).dataSync()], [7, 8, 3, 4, 5, 6]);
    const [gx, gu] = tf.grads((a, b) => dynamicUpdateSlice(a, b, [at(0), at(1)]).square().sum())(
      [x, u],
    );
    assert.deepEqual([...gx!.dataSync()], [2, 0, 0, 8, 10, 12]);
    assert.deepEqual([...gu!.dataSync()], [14, 16]);
    const ints = tf.tensor1d([1, 2, 3], "int32");
    const out = dynamicUpdateSlice(ints, tf.tensor1d([9], "int32"), [at(2)]);
    assert.equal(out.dtype, "int32");
    assert.deepEqual([...out.dataSync()], [1, 2, 9]);
    assert.throws(() => dynamicUpdateSlice(ints, tf.tensor1d([9]), [0]), /update is float32/);
  });

  Deno.test(`stopGradient passes the value and no gradient ${on}`, async () => {
    await useBackend(backend);
    const x = tf.tensor1d([1, 2, 3]);
    const g = tf.grad((t) => t.mul(stopGradient(t.square())).sum())(x);
    assert.deepEqual([...g.dataSync()], [1, 4, 9]);
  });

  Deno.test(`checkpoint changes no value and no gradient ${on}`, async () => {
    await useBackend(backend);
    const f = (a: tf.Tensor, b: tf.Tensor) => a.mul(b).tanh().mul(a);
    const x = [tf.tensor1d([0.1, 0.2, 0.3]), tf.tensor1d([1, 2, 3])];
    const plain = tf.grads((a, b) => f(a, b).sum())(x);
    const step = jit((a: tf.Tensor, b: tf.Tensor) =>
      tf.grads((a, b) => checkpoint(f)(a, b).sum())([a, b])
    );
    for (const g of [tf.grads((a, b) => checkpoint(f)(a, b).sum())(x), step(x[0]!, x[1]!)]) {
      for (const i of [0, 1]) {
        const [p, q] = [plain[i]!.dataSync(), g[i]!.dataSync()];
        p.forEach((v, k) => assert.ok(Math.abs(v - q[k]!) < 1e-6));
      }
    }
  });

  Deno.test(`whileLoop and scan give the same in and out of jit ${on}`, async () => {
    await useBackend(backend);
    const collatz = (n: tf.Tensor) =>
      whileLoop(
        (s) => tf.notEqual(s.n, at(1)),
        (s) => ({
          n: tf.where(
            tf.equal(tf.mod(s.n, at(2)), at(0)),
            tf.floorDiv(s.n, at(2)),
            s.n.mul(at(3)).add(at(1)),
          ),
          steps: s.steps.add(at(1)),
        }),
        { n, steps: at(0) as tf.Tensor },
      ).steps;
    assert.equal(collatz(at(27)).dataSync()[0], 111);
    assert.equal(jit(collatz)(at(27)).dataSync()[0], 111);
    const cumulative = (x: tf.Tensor) =>
      scan(
        (c: tf.Tensor, i) => {
          const next = c.add(dynamicSlice(x, [i], [1]).reshape([]));
          return [next, { sum: next, twice: next.mul(2) }];
        },
        tf.scalar(0) as tf.Tensor,
        4,
      );
    const x = tf.tensor1d([1, 2, 3, 4]);
    for (const [last, rows] of [cumulative(x), jit(cumulative)(x)]) {
      assert.equal(last.dataSync()[0], 10);
      assert.deepEqual([...rows.sum.dataSync()], [1, 3, 6, 10]);
      assert.deepEqual([...rows.twice.dataSync()], [2, 6, 12, 20]);
    }
  });

  Deno.test(`a loop body that changes a type is refused with both types ${on}`, async () => {
    await useBackend(backend);
    assert.throws(
      () =>
        whileLoop((s) => tf.less(s, 3), () => tf.ones([2]) as tf.Tensor, tf.scalar(0) as tf.Tensor),
      /float32\[\] into float32\[2\]/,
    );
  });

  Deno.test(`loops, slices and jit leave no tensor behind ${on}`, async () => {
    await useBackend(backend);
    const x = tf.tensor1d([1, 2, 3]);
    const double = jit((t: tf.Tensor) => ({ y: t.mul(2), same: t }));
    tf.dispose(double(x));
    const before = tf.memory().numTensors;
    const r = double(x);
    const w = whileLoop((s) => tf.less(s.sum(), 100), (s) => s.mul(2), x as tf.Tensor);
    const d = dynamicUpdateSlice(x, tf.tidy(() => dynamicSlice(x, [at(0)], [1])), [1]);
    assert.equal(tf.memory().numTensors, before + 5, "two results, a loop, a slice and its update");
    tf.dispose([r, w, d]);
    assert.deepEqual([...x.dataSync()], [1, 2, 3]);
  });
}
