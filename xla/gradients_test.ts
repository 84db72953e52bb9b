import assert from "node:assert/strict";
import { jit, tf, useBackend } from "./mod.ts";

const { name: backend } = await useBackend();

type Fn = (...x: tf.Tensor[]) => tf.Tensor;

const indices = () => tf.tensor2d([[1, 2], [0, 0], [1, 0]], [3, 2], "int32");

/** [what, function, shapes of its arguments]. */
const CASES: [string, Fn, number[][]][] = [
  ["einsum of a matrix product", (a, b) => tf.einsum("ij,jk->ik", a!, b!), [[2, 3], [3, 4]]],
  ["einsum of attention", (a, b) => tf.einsum("bthd,bshd->bhts", a!, b!), [
    [2, 3, 2, 4],
    [2, 5, 2, 4],
  ]],
  ["einsum of a dot product", (a, b) => tf.einsum("i,i->", a!, b!), [[5], [5]]],
  ["einsum of an outer product", (a, b) => tf.einsum("i,j->ij", a!, b!), [[3], [4]]],
  ["einsum of a diagonal of dots", (a, b) => tf.einsum("bi,bi->b", a!, b!), [[2, 3], [2, 3]]],
  ["einsum that sums a label of one term", (a, b) => tf.einsum("ij,ik->k", a!, b!), [[2, 3], [
    2,
    4,
  ]]],
  ["einsum of one transposed term", (a) => tf.einsum("bij->bji", a!), [[2, 3, 4]]],
  ["einsum of one summed term", (a) => tf.einsum("ij->i", a!), [[2, 3]]],
  ["einsum of one term to a scalar", (a) => tf.einsum("ij->", a!), [[2, 3]]],
  ["gatherND", (x) => tf.gatherND(x!, indices()), [[2, 3]]],
  ["scatterND", (x) => tf.scatterND(indices(), x!, [2, 3]), [[3]]],
  ["tensorScatterUpdate", (x, y) => tf.tensorScatterUpdate(x!, indices(), y!), [[2, 3], [3]]],
  ["stridedSlice", (x) => tf.stridedSlice(x!, [2, 0], [0, 4], [-1, 2]), [[3, 4]]],
  ["topk", (x) => tf.topk(x!, 2).values, [[3, 5]]],
  ["cumprod", (x) => tf.cumprod(x!, 1), [[2, 4]]],
  ["cumprod of all before", (x) => tf.cumprod(x!, 0, true), [[4, 2]]],
  ["cumprod from the end", (x) => tf.cumprod(x!, 1, true, true), [[2, 4]]],
  ["cumsum of an inner axis", (x) => tf.cumsum(x!, 1), [[2, 3, 3, 3]]],
  ["cumsum from the end", (x) => tf.cumsum(x!, 0, true, true), [[3, 2, 4]]],
  ["unstack of one", (x) => tf.unstack(x!, 0)[0]!, [[1, 3]]],
  ["unstack of several", (x) => tf.unstack(x!, 1)[1]!, [[2, 3]]],
  ["squaredDifference, broadcast", (a, b) => tf.squaredDifference(a!, b!), [[2, 3], [3]]],
  ["squaredDifference of a scalar", (a, b) => tf.squaredDifference(a!, b!), [[], [4]]],
  ["flipLeftRight", (x) => tf.image.flipLeftRight(x as tf.Tensor4D), [[1, 2, 3, 2]]],
  ["depthToSpace", (x) => tf.depthToSpace(x as tf.Tensor4D, 2), [[1, 2, 2, 8]]],
  ["diag", (x) => tf.diag(x!), [[4]]],
  ["where by a comparison", (a, b) => tf.where(tf.greater(a!, b!), a!, tf.mul(b!, 2)), [[6], [6]]],
  [
    "where by comparisons joined",
    (a) => tf.where(tf.logicalNot(tf.logicalOr(tf.less(a!, -0.5), tf.lessEqual(0.5, a!))), a!, 0),
    [[9]],
  ],
];

function values(shape: number[], seed: number): Float32Array {
  const size = tf.util.sizeFromShape(shape);
  return Float32Array.from({ length: size }, (_, i) => Math.sin(1.7 * i + seed) * 1.3 + 0.05);
}

/** A scalar that weighs every element differently. */
function loss(fn: Fn): Fn {
  return (...x) => {
    const y = fn(...x);
    const weights = tf.cos(tf.range(0, y.size, 1, "float32").mul(1.1)).reshape(y.shape);
    return y.mul(weights).sum();
  };
}

/** Central differences, element by element. */
function numeric(fn: Fn, shapes: number[][], data: Float32Array[], input: number): number[] {
  const at = (i: number, shift: number) =>
    tf.tidy(() => {
      const moved = data.map((x, k) => k === input ? x.map((v, j) => j === i ? v + shift : v) : x);
      return loss(fn)(...moved.map((x, k) => tf.tensor(x, shapes[k]))).dataSync()[0]!;
    });
  const step = 1e-2;
  return Array.from(data[input]!, (_, i) => (at(i, step) - at(i, -step)) / (2 * step));
}

function analytic(fn: Fn, shapes: number[][], data: Float32Array[], traced: boolean): number[][] {
  return tf.tidy(() => {
    const gradients = (...x: tf.Tensor[]) => tf.grads(loss(fn))(x);
    const inputs = data.map((x, k) => tf.tensor(x, shapes[k]));
    return (traced ? jit(gradients) : gradients)(...inputs).map((g, k) => {
      assert.deepEqual(g.shape, shapes[k]);
      return [...g.dataSync()];
    });
  });
}

for (const [name, fn, shapes] of CASES) {
  Deno.test(`the gradient of ${name} is the slope of its values`, async () => {
    const data = shapes.map((shape, i) => values(shape, i + 0.5));
    await useBackend("cpu");
    const slopes = shapes.map((_, i) => numeric(fn, shapes, data, i));
    const found = { cpu: analytic(fn, shapes, data, false) } as Record<string, number[][]>;
    if (backend === "xla") {
      await useBackend("xla");
      found.xla = analytic(fn, shapes, data, false);
      found["xla in jit"] = analytic(fn, shapes, data, true);
    }
    for (const [where, gradients] of Object.entries(found)) {
      slopes.flat().forEach((want, i) => {
        const got = gradients.flat()[i]!;
        assert.ok(
          Math.abs(got - want) < 5e-3 * Math.max(1, Math.abs(want)),
          `${where}: ${got}, not ${want}`,
        );
      });
    }
  });
}

Deno.test("the gradient of a product with a zero in it is not lost to a division", async () => {
  await useBackend("cpu");
  const gradient = tf.grad((x) => tf.cumprod(x).sum())(tf.tensor1d([2, 0, 3]));
  assert.deepEqual([...gradient.dataSync()], [1, 8, 0]);
});
