import assert from "node:assert/strict";
import {
  asType,
  fromBfloat16,
  isBfloat16,
  jit,
  matMulInt8,
  matMulPairs,
  matMulRows,
  quantizeRows,
  tf,
  useBackend,
} from "./mod.ts";

/** Rows of very different size, one of zeros. */
const ROWS = [[1, -2, 0.5, 4], [100, -3, 7, 50], [0, 0, 0, 0]];

for (const backend of [undefined, "cpu"]) {
  const on = `on the ${backend ?? "default"} backend`;

  Deno.test(`the bits of bfloat16 make a tensor that reads and computes as float32 ${on}`, async () => {
    await useBackend(backend);
    const bits = Uint16Array.of(0x3f80, 0xc000, 0x4049, 0x0000);
    const x = fromBfloat16(bits, [2, 2]);
    bits.fill(0);
    assert.deepEqual([...x.dataSync()], [1, -2, 3.140625, 0]);
    assert.deepEqual([...tf.add(x, tf.scalar(1)).dataSync()].slice(0, 2), [2, -1]);
    assert.equal(isBfloat16(x), backend === undefined);
    assert.equal(isBfloat16(asType(x, "float32")), false);
    assert.throws(() => fromBfloat16(bits, [3]), /4 numbers do not fill shape \[3\]/);
  });

  Deno.test(`rows become whole numbers up to 127 and a factor ${on}`, async () => {
    await useBackend(backend);
    const { values, scales } = quantizeRows(tf.tensor2d(ROWS));
    assert.deepEqual([...values.dataSync()], [32, -64, 16, 127, 127, -4, 9, 64, 0, 0, 0, 0]);
    const factors = [...scales.dataSync()];
    for (const [i, want] of [4 / 127, 100 / 127, 0].entries()) {
      assert.ok(Math.abs(factors[i]! - want) < 1e-7 * 100);
    }
  });

  Deno.test(`int8 products are within the rounding of both sides ${on}`, async () => {
    await useBackend(backend);
    const x = tf.randomNormal<tf.Rank.R2>([5, 96], 0, 1, "float32", 1);
    const w = tf.randomNormal<tf.Rank.R2>([40, 96], 0, 1, "float32", 2);
    const exact = tf.matMul(x, w, false, true).dataSync<"float32">();
    const product = jit((x: tf.Tensor2D, w: tf.Tensor2D) => matMulInt8(x, quantizeRows(w)));
    const got = product(x, w);
    assert.deepEqual(got.shape, [5, 40]);
    const error = got.dataSync<"float32">().reduce((sum, y, i) => sum + (y - exact[i]!) ** 2, 0) /
      exact.length;
    const size = exact.reduce((sum, y) => sum + y ** 2, 0) / exact.length;
    // Each side's rounding is uniform in half a step of about 3 / 127: together 1 % of a product.
    assert.ok(error < 4e-4 * size, `relative error ${Math.sqrt(error / size)}`);
    assert.ok(error > 0);
  });
}

Deno.test("products of bfloat16 are summed in float32", async () => {
  await useBackend();
  const ones = asType(tf.ones<tf.Rank.R2>([1, 1000]), "bfloat16");
  const product = jit((x: tf.Tensor2D) => asType(tf.matMul(x, x, false, true), "float32"));
  // 1000 is not among bfloat16's sums of ones, which stop growing at 256.
  assert.equal(product(ones).dataSync()[0], 1000);
});

Deno.test("a few rows times a matrix is the plain product, alone and in a program", async () => {
  await useBackend();
  const x = tf.randomNormal<tf.Rank.R2>([3, 20], 0, 1, "float32", 1);
  const w = tf.randomNormal<tf.Rank.R2>([11, 20], 0, 1, "float32", 2);
  const want = tf.matMul(x, w, false, true).dataSync();
  for (const product of [matMulRows(x, w), jit(matMulRows)(x, w)]) {
    assert.deepEqual(product.shape, [3, 11]);
    for (const [i, y] of product.dataSync().entries()) assert.ok(Math.abs(y - want[i]!) < 1e-5);
  }
});

Deno.test("pairs of small matrices have their plain products, whatever the number of rows", async () => {
  await useBackend();
  for (const rows of [1, 2, 3]) {
    const a = tf.randomNormal<tf.Rank.R4>([3, 2, rows, 5], 0, 1, "float32", 1);
    const b = tf.randomNormal<tf.Rank.R4>([3, 2, 5, 7], 0, 1, "float32", 2);
    const want = tf.matMul(a, b).dataSync();
    const product = jit(matMulPairs)(a, b);
    assert.deepEqual(product.shape, [3, 2, rows, 7]);
    for (const [i, y] of product.dataSync().entries()) assert.ok(Math.abs(y - want[i]!) < 1e-5);
  }
});
