/**
 * Every family of kernels against tfjs's own cpu kernels: values at once, values inside `jit`, and
 * gradients. tfjs-core's specs (tests/conformance) go deeper; these find a broken kernel in seconds.
 */
import assert from "node:assert/strict";
import { Builder, tensor, type Value } from "../hlo/mod.ts";
import { jit, tf, useBackend } from "../mod.ts";
import { lowerings } from "./mod.ts";

type Fn = (...x: tf.Tensor[]) => tf.Tensor;

/** Deterministic values of both signs, none of them near a kink or a tie. */
function values(shape: number[], seed: number): tf.Tensor {
  const size = tf.util.sizeFromShape(shape);
  return tf.tensor(
    Float32Array.from({ length: size }, (_, i) => Math.sin(1.7 * i + seed) * 1.3 + 0.05),
    shape,
  );
}

const positive = (fn: Fn): Fn => (x) => fn(x!.abs().add(0.3));
const unit = (fn: Fn): Fn => (x) => fn(x!.mul(0.6));

/** [what, function, shapes of its arguments]. Gradients are compared where tfjs itself has one. */
const CASES: [string, Fn, number[][]][] = [
  ...([
    "abs",
    "atan",
    "asinh",
    "cos",
    "cosh",
    "elu",
    "erf",
    "exp",
    "expm1",
    "neg",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "softplus",
    "square",
    "step",
    "tan",
    "tanh",
    "floor",
    "ceil",
    "round",
    "leakyRelu",
  ] as const)
    .map((op): [string, Fn, number[][]] => [op, (x) => (tf[op] as Fn)(x!), [[3, 5]]]),
  ...(["log", "log1p", "sqrt", "rsqrt", "reciprocal"] as const)
    .map((op): [string, Fn, number[][]] => [op, positive((x) => tf[op](x!)), [[7]]]),
  ...(["acos", "asin", "atanh"] as const).map((
    op,
  ): [string, Fn, number[][]] => [op, unit((x) => tf[op](x!)), [[7]]]),
  ["acosh", (x) => tf.acosh(x!.abs().add(1.2)), [[7]]],
  ["clipByValue", (x) => tf.clipByValue(x!, -0.5, 0.5), [[3, 5]]],
  ["prelu", (x, a) => tf.prelu(x!, a!), [[3, 5], [5]]],
  ["prelu with more slopes than x", (x, a) => tf.prelu(x!, a!), [[1], [5]]],
  ["prelu with slopes of a higher rank", (x, a) => tf.prelu(x!, a!), [[1], [1, 1]]],
  ...([
    "add",
    "sub",
    "mul",
    "div",
    "maximum",
    "minimum",
    "squaredDifference",
    "atan2",
    "mod",
  ] as const).flatMap((op) =>
    [[[3, 5], [3, 5]], [[3, 5], [5]], [[3, 1], [2, 1, 5]], [[], [4]]].map((
      shapes,
    ): [string, Fn, number[][]] => [
      `${op} ${JSON.stringify(shapes)}`,
      (a, c) => (tf[op] as Fn)(a!, c!),
      shapes,
    ])
  ),
  ["pow", (a, c) => tf.pow(a!.abs().add(0.2), c!), [[3, 5], [5]]],
  ["addN", (a, c, d) => tf.addN([a!, c!, d!]), [[4], [4], [4]]],
  ["where", (a, c) => tf.where(tf.greater(a!, c!), a!, c!), [[3, 5], [3, 5]]],
  ["matMul", (a, c) => tf.matMul(a!, c!), [[3, 4], [4, 5]]],
  ["matMul transposed", (a, c) => tf.matMul(a!, c!, true, true), [[4, 3], [5, 4]]],
  ["matMul batched", (a, c) => tf.matMul(a!, c!, false, true), [[2, 3, 4], [2, 5, 4]]],
  ["matMul batch by matrix", (a, c) => tf.matMul(a!, c!), [[2, 3, 4], [1, 4, 5]]],
  ["matMul matrix by batch", (a, c) => tf.matMul(a!, c!, true), [[1, 4, 3], [2, 4, 5]]],
  ["sum", (x) => tf.sum(x!, [1], true), [[2, 3, 4]]],
  ["mean", (x) => tf.mean(x!, [0, 2]), [[2, 3, 4]]],
  ["max", (x) => tf.max(x!, 1), [[2, 3, 4]]],
  ["min", (x) => tf.min(x!), [[2, 3, 4]]],
  ["prod", (x) => tf.prod(x!, 1), [[2, 3]]],
  ["logSumExp", (x) => tf.logSumExp(x!, 1), [[3, 4]]],
  ["softmax", (x) => tf.softmax(x!), [[3, 6]]],
  ["logSoftmax", (x) => tf.logSoftmax(x!), [[3, 6]]],
  ["cumsum", (x) => tf.cumsum(x!, 1, true, true), [[3, 6]]],
  ["cumsum long", (x) => tf.cumsum(x!, 0), [[300]]],
  ["transpose", (x) => tf.transpose(x!, [2, 0, 1]), [[2, 3, 4]]],
  ["slice", (x) => tf.slice(x!, [0, 1], [2, 2]), [[3, 4]]],
  ["stridedSlice", (x) => tf.stridedSlice(x!, [2, 0], [0, 4], [-1, 2]), [[3, 4]]],
  ["concat", (a, c) => tf.concat([a!, c!], 1), [[2, 3], [2, 1]]],
  ["stack", (a, c) => tf.stack([a!, c!], 1), [[2, 3], [2, 3]]],
  ["unstack", (x) => tf.unstack(x!, 1)[1]!, [[2, 3]]],
  ["split", (x) => tf.split(x!, [1, 3], 1)[1]!, [[2, 4]]],
  ["tile", (x) => tf.tile(x!, [2, 3]), [[2, 3]]],
  ["pad", (x) => tf.pad(x!, [[1, 0], [2, 1]], 3), [[2, 3]]],
  ["mirrorPad", (x) => tf.mirrorPad(x!, [[1, 1], [2, 1]], "reflect"), [[3, 4]]],
  ["reverse", (x) => tf.reverse(x!, 1), [[2, 3]]],
  ["broadcastTo", (x) => tf.broadcastTo(x!, [2, 3]), [[3]]],
  ["gather", (x) => tf.gather(x!, tf.tensor1d([2, 0, 2], "int32"), 1), [[2, 3]]],
  ["gather batched", (x) => tf.gather(x!, tf.tensor2d([[2, 0], [1, 1]], [2, 2], "int32"), 1, 1), [[
    2,
    3,
  ]]],
  ["gatherND", (x) => tf.gatherND(x!, tf.tensor2d([[1, 2], [0, 0]], [2, 2], "int32")), [[2, 3]]],
  ["scatterND", (x) => tf.scatterND(tf.tensor2d([[1], [3], [1]], [3, 1], "int32"), x!, [5, 2]), [[
    3,
    2,
  ]]],
  ["unsortedSegmentSum", (x) => tf.unsortedSegmentSum(x!, tf.tensor1d([1, 0, 1], "int32"), 3), [[
    3,
    2,
  ]]],
  ["topk", (x) => tf.topk(x!, 2).values, [[3, 5]]],
  ["conv2d", (x, w) => tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, [2, 1], "same"), [
    [2, 5, 4, 3],
    [3, 2, 3, 2],
  ]],
  [
    "conv2d dilated",
    (x, w) => tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, 1, "valid", "NHWC", 2),
    [
      [1, 6, 6, 2],
      [2, 2, 2, 3],
    ],
  ],
  ["depthwiseConv2d", (x, w) => tf.depthwiseConv2d(x as tf.Tensor4D, w as tf.Tensor4D, 2, "same"), [
    [2, 5, 5, 3],
    [3, 3, 3, 2],
  ]],
  ["conv3d", (x, w) => tf.conv3d(x as tf.Tensor5D, w as tf.Tensor5D, 1, "same"), [[1, 3, 3, 3, 2], [
    2,
    2,
    2,
    2,
    3,
  ]]],
  [
    "conv2dTranspose",
    (x, w) => tf.conv2dTranspose(x as tf.Tensor4D, w as tf.Tensor4D, [1, 6, 6, 2], 2, "same"),
    [
      [1, 3, 3, 3],
      [3, 3, 2, 3],
    ],
  ],
  ["maxPool", (x) => tf.maxPool(x as tf.Tensor4D, 3, 2, "same"), [[2, 5, 5, 2]]],
  ["avgPool", (x) => tf.avgPool(x as tf.Tensor4D, 2, 2, "valid"), [[2, 4, 4, 2]]],
  ["resizeBilinear", (x) => tf.image.resizeBilinear(x as tf.Tensor4D, [5, 3]), [[1, 3, 4, 2]]],
  ["resizeNearestNeighbor", (x) => tf.image.resizeNearestNeighbor(x as tf.Tensor4D, [5, 3]), [[
    1,
    3,
    4,
    2,
  ]]],
  ["localResponseNormalization", (x) => tf.localResponseNormalization(x as tf.Tensor4D, 1), [[
    1,
    2,
    2,
    5,
  ]]],
  ["batchNorm", (x, m, v, o, s) => tf.batchNorm(x!, m!, v!.abs(), o!, s!), [[4, 3], [3], [3], [3], [
    3,
  ]]],
  ["spaceToBatchND", (x) => tf.spaceToBatchND(x!, [2, 2], [[0, 0], [1, 1]]), [[1, 4, 2, 3]]],
  ["batchToSpaceND", (x) => tf.batchToSpaceND(x!, [2, 2], [[0, 1], [0, 0]]), [[4, 2, 2, 3]]],
  ["depthToSpace", (x) => tf.depthToSpace(x as tf.Tensor4D, 2), [[1, 2, 2, 8]]],
  ["einsum", (a, c) => tf.einsum("bthd,bshd->bhts", a!, c!), [[2, 3, 2, 4], [2, 5, 2, 4]]],
  ["argMax", (x) => tf.argMax(x!, 1), [[3, 7]]],
  ["argMin", (x) => tf.argMin(x!, 0), [[3, 7]]],
  ["cumprod", (x) => tf.cumprod(x!, 1), [[2, 4]]],
  ["all", (x) => tf.all(tf.greater(x!, -1), 1), [[3, 4]]],
  ["any", (x) => tf.any(tf.greater(x!, 1), 1), [[3, 4]]],
  ["oneHot", (x) => tf.oneHot(x!.mul(3).toInt(), 4), [[6]]],
  ["range", () => tf.range(2, 9, 3), []],
  ["linspace", () => tf.linspace(-1, 2, 5), []],
  ["searchSorted", (x) => tf.searchSorted(tf.tensor1d([-1, 0, 1]), x!), [[6]]],
  ["bincount", (x) => tf.bincount(x!.abs().mul(4).toInt() as tf.Tensor1D, tf.tensor1d([]), 6), [[
    9,
  ]]],
  ["fft", (x) => tf.abs(tf.spectral.rfft(x!)), [[2, 8]]],
  ["depthwise dilation2d", (x, w) => tf.dilation2d(x as tf.Tensor4D, w as tf.Tensor3D, 1, "same"), [
    [1, 4, 4, 2],
    [2, 2, 2],
  ]],
  [
    "cropAndResize",
    (x) => tf.image.cropAndResize(x as tf.Tensor4D, [[0.1, 0, 0.8, 1.1]], [0], [3, 4]),
    [[1, 4, 5, 2]],
  ],
  ["rotateWithOffset", (x) => tf.image.rotateWithOffset(x as tf.Tensor4D, 0.7, 0.2), [[
    1,
    5,
    5,
    3,
  ]]],
  ["floorDiv", (a, c) => tf.floorDiv(a!.mul(7).toInt(), c!.mul(2).toInt()), [[9], [9]]],
  [
    "integer mod",
    (a, c) => tf.mod(a!.mul(7).toInt(), c!.mul(2).toInt().add(tf.scalar(5, "int32"))),
    [[9], [9]],
  ],
];

interface Answer {
  values: number[];
  shape: number[];
  dtype: string;
  gradients: number[][];
}

function loss(fn: Fn): Fn {
  return (...x) => {
    const y = fn(...x);
    const weights = tf.cos(tf.range(0, y.size, 1, "float32").mul(1.1)).reshape(y.shape);
    return y.toFloat().mul(weights).sum();
  };
}

function answer(fn: Fn, shapes: number[][], withGradients: boolean, traced: boolean): Answer {
  return tf.tidy(() => {
    const inputs = shapes.map((shape, i) => values(shape, i + 0.5));
    const y = (traced ? jit(fn) : fn)(...inputs);
    const backward: (...x: tf.Tensor[]) => tf.Tensor[] = (...x) => tf.grads(loss(fn))(x);
    const gradients = withGradients ? (traced ? jit(backward) : backward)(...inputs) : [];
    return {
      values: [...y.dataSync()],
      shape: y.shape,
      dtype: y.dtype,
      gradients: gradients.map((g) => [...g.dataSync()]),
    };
  });
}

function assertClose(found: number[], expected: number[], what: string): void {
  assert.equal(found.length, expected.length, what);
  for (const [i, want] of expected.entries()) {
    const near = Object.is(found[i], want) ||
      Math.abs(found[i]! - want) <= 1e-3 * Math.max(1, Math.abs(want));
    assert.ok(near, `${what}: element ${i} is ${found[i]}, tfjs's cpu gives ${want}`);
  }
}

const reference = new Map<string, Answer>();
await useBackend("cpu");
for (const [name, fn, shapes] of CASES) {
  let want: Answer;
  try {
    want = answer(fn, shapes, true, false);
  } catch {
    want = answer(fn, shapes, false, false);
  }
  reference.set(name, want);
}
const withGradients = [...reference.values()].filter((want) => want.gradients.length > 0).length;
const { name: backend } = await useBackend("xla");

for (const [name, fn, shapes] of CASES) {
  Deno.test(`${name} gives what tfjs's cpu gives, in jit too`, async () => {
    assert.equal(backend, "xla");
    await useBackend("xla");
    const want = reference.get(name)!;
    for (const traced of [false, true]) {
      const found = answer(fn, shapes, want.gradients.length > 0, traced);
      const how = traced ? `${name} in jit` : name;
      assert.deepEqual(found.shape, want.shape, how);
      assert.equal(found.dtype, want.dtype, how);
      assertClose(found.values, want.values, how);
      for (const [i, gradient] of want.gradients.entries()) {
        assertClose(found.gradients[i]!, gradient, `${how}, gradient ${i}`);
      }
    }
  });
}

Deno.test("most of these cases compare gradients too", () => {
  assert.ok(withGradients >= 90, `${withGradients} of ${CASES.length}`);
});

/** The ops a kernel comes to, in order. */
function opsOf(
  kernel: string,
  inputs: Record<string, number[]>,
  attrs: Record<string, unknown>,
): string[] {
  const b = new Builder();
  const args = Object.entries(inputs).map((
    [key, shape],
  ): [string, Value] => [key, b.argument(tensor(shape, "f32"))]);
  const result = lowerings.get(kernel)!(b, Object.fromEntries(args), attrs);
  return [...b.module([result].flat()).matchAll(/= "?(?:stablehlo|chlo)\.(\w+)/g)].map((match) =>
    match[1]!
  );
}

Deno.test("matrix products are one dot_general, whatever is transposed or batched", () => {
  const product = (a: number[], c: number[], transposeA: boolean, transposeB: boolean) =>
    opsOf("BatchMatMul", { a, b: c }, { transposeA, transposeB });
  assert.deepEqual(product([3, 4], [4, 5], false, false), ["dot_general"]);
  assert.deepEqual(product([4, 3], [5, 4], true, true), ["dot_general"]);
  assert.deepEqual(product([2, 3, 4], [2, 5, 4], false, true), ["dot_general"]);
  assert.deepEqual(product([2, 8, 4], [4, 5], false, false), ["dot_general"]);
});

Deno.test("attention's einsum is one dot_general, without a transpose", () => {
  assert.deepEqual(
    opsOf("Einsum", { 0: [2, 3, 4, 5], 1: [2, 6, 4, 5] }, { equation: "bthd,bshd->bhts" }),
    ["dot_general"],
  );
});

Deno.test("broadcasting is one op and never a tile", () => {
  assert.deepEqual(opsOf("Add", { a: [2, 1, 4], b: [3, 1] }, {}), [
    "broadcast_in_dim",
    "broadcast_in_dim",
    "add",
  ]);
});
