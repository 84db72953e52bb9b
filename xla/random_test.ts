import assert from "node:assert/strict";
import { random, tf, useBackend } from "./mod.ts";

// Golden values: jax.random 0.10.2, default generator, on CPU.
function close(actual: ArrayLike<number>, expected: number[], tolerance: number): void {
  assert.equal(actual.length, expected.length);
  expected.forEach((e, i) => {
    const error = Math.abs(actual[i]! - e);
    assert.ok(error <= tolerance * Math.max(1, Math.abs(e)), `[${i}]: ${actual[i]} is not ${e}`);
  });
}

for (const backend of [undefined, "cpu"]) {
  const on = `on the ${backend ?? "default"} backend`;

  Deno.test(`keys, splits and folds have JAX's bits ${on}`, async () => {
    await useBackend(backend);
    const key = random.key(42);
    assert.deepEqual([...key.dataSync()], [0, 42]);
    assert.deepEqual(random.split(key, 3).map((k) => [...k.dataSync()]), [
      [1832780943, 270669613],
      [64467757, -1378843660],
      [-1829035798, 255383827],
    ]);
    assert.deepEqual([...random.foldIn(key, 7).dataSync()], [-1747954385, 1371500959]);
    assert.deepEqual([...random.foldIn(key, tf.scalar(7, "int32")).dataSync()], [
      -1747954385,
      1371500959,
    ]);
    assert.deepEqual([...random.foldIn(key, 4000000000).dataSync()], [-143122479, -2120926360]);
  });

  Deno.test(`uniform draws are bit-equal to JAX's ${on}`, async () => {
    await useBackend(backend);
    const u = random.uniform(random.key(42), [5]);
    assert.deepEqual(
      u.dataSync(),
      Float32Array.of(
        0.48870956897735596,
        0.6797971725463867,
        0.6162714958190918,
        0.5610160827636719,
        0.4506446123123169,
      ),
    );
    const v = random.uniform(random.key(7), [2, 3]);
    assert.deepEqual(v.shape, [2, 3]);
    assert.deepEqual(
      v.dataSync(),
      Float32Array.of(
        0.6740899085998535,
        0.9746168851852417,
        0.3028435707092285,
        0.4439585208892822,
        0.7308865785598755,
        0.6309295892715454,
      ),
    );
  });

  Deno.test(`normal and gumbel draws follow JAX's to rounding ${on}`, async () => {
    await useBackend(backend);
    const key = random.key(42);
    close(random.normal(key, [5]).dataSync(), [
      -0.02830461598932743,
      0.4671318531036377,
      0.2957029640674591,
      0.15354591608047485,
      -0.12403281778097153,
    ], 2e-6);
    close(random.gumbel(key, [5]).dataSync(), [
      0.3340933918952942,
      0.952019453048706,
      0.7255305647850037,
      0.5481715202331543,
      0.2268049567937851,
    ], 2e-6);
    // The largest of 20,000 draws lies in the tail's polynomial.
    const many = random.normal(random.key(1), [20000]).dataSync();
    close([Math.abs(many[9729]!)], [4.2950635], 2e-6);
  });
}

Deno.test("a seed that is not a non-negative integer is refused with its value", () => {
  assert.throws(() => random.key(-1), /non-negative integer, found -1/);
  assert.throws(() => random.key(0.5), /found 0.5/);
});

Deno.test("a tensor that is not a key is refused", async () => {
  await useBackend("cpu");
  assert.throws(() => random.uniform(tf.tensor1d([1, 2]), [3]), /int32\[2\]/);
});
