import assert from "node:assert/strict";
import { tf } from "./tf.ts";
import { useBackend } from "./use_backend.ts";

await useBackend("wasm");

/** The same computation on tfjs's cpu backend. */
async function onCpu<T>(compute: () => T): Promise<T> {
  await useBackend("cpu");
  try {
    return compute();
  } finally {
    await useBackend("wasm");
  }
}

/** The values of a tensor made on the active backend, and that nothing but it was made. */
function valuesOf(make: () => tf.Tensor): number[] {
  const { numTensors, numDataBuffers } = tf.memory();
  const result = tf.tidy(make);
  const values = [...result.dataSync()];
  result.dispose();
  const after = tf.memory();
  assert.deepEqual([after.numTensors, after.numDataBuffers], [numTensors, numDataBuffers]);
  return values;
}

async function agrees(make: () => tf.Tensor, tolerance = 1e-5): Promise<void> {
  const actual = valuesOf(make);
  const expected = await onCpu(() => valuesOf(make));
  assert.equal(actual.length, expected.length);
  for (const [i, x] of actual.entries()) {
    const same = Object.is(x, expected[i]) || Math.abs(x - expected[i]!) <= tolerance;
    assert.ok(same, `element ${i}: ${x}, on cpu ${expected[i]}`);
  }
}

const ramp = (...shape: number[]) =>
  tf.range(0, tf.util.sizeFromShape(shape)).mul(0.37).sin().reshape(shape);

Deno.test("every kernel of tfjs's cpu backend is there on wasm", () => {
  const wasm = new Set(tf.getKernelsForBackend("wasm").map((kernel) => kernel.kernelName));
  const missing = tf.getKernelsForBackend("cpu").map((kernel) => kernel.kernelName)
    .filter((name) => !wasm.has(name));
  assert.deepEqual(missing, []);
});

Deno.test("the gradient of a gather adds up the rows of repeated indices", () =>
  agrees(() => {
    const indices = tf.tensor1d([2, 0, 2, 1, 2], "int32");
    const grad = tf.grad((x) => tf.gather(x, indices).mul(ramp(5, 3)).sum());
    return grad(ramp(4, 3));
  }));

Deno.test("a gather along a batch reads each row of indices in its own batch", () =>
  agrees(() =>
    tf.gather(ramp(3, 4, 2), tf.tensor2d([[1, 0], [3, 3], [2, 1]], undefined, "int32"), 1, 1)
  ));

Deno.test("segments outside the range are left out of a segment sum", () =>
  agrees(() => tf.unsortedSegmentSum(ramp(4, 2), tf.tensor1d([1, -1, 5, 1], "int32"), 2)));

Deno.test("matrix products agree with cpu for every transposition and rank", async () => {
  for (const lead of [[], [1], [3]]) {
    for (const transposeA of [false, true]) {
      for (const transposeB of [false, true]) {
        await agrees(() => {
          const a = transposeA ? ramp(...lead, 7, 5) : ramp(...lead, 5, 7);
          const b = transposeB ? ramp(...lead, 6, 7) : ramp(...lead, 7, 6);
          return tf.matMul(a, b, transposeA, transposeB);
        });
      }
    }
  }
});

Deno.test("products of integer matrices, which wasm refuses, run on the host", () =>
  agrees(() => tf.matMul(tf.range(0, 6, 1, "int32").reshape([2, 3]), tf.ones([3, 2], "int32"))));

Deno.test("every number but zero is true, fractions and multiples of 256 too", () => {
  const floats = () => tf.tensor1d([0, 0.5, -0.25, 256, NaN]).toBool();
  assert.deepEqual(valuesOf(floats), [0, 1, 1, 1, 1]);
  const integers = () => tf.tensor1d([0, 1, -1, 512], "int32").toBool();
  assert.deepEqual(valuesOf(integers), [0, 1, 1, 1]);
});

Deno.test("complex numbers pass through the backend", () =>
  agrees(() => {
    const x = tf.complex(ramp(8), ramp(8).add(1));
    return tf.real(tf.spectral.ifft(tf.spectral.fft(x.mul(x)))).add(tf.abs(x));
  }));

Deno.test("a clone shares its data and outlives the original", () => {
  const x = tf.tensor1d([1, 2, 3]);
  const { numDataBuffers } = tf.memory();
  const copy = x.clone();
  assert.equal(tf.memory().numDataBuffers, numDataBuffers);
  x.dispose();
  assert.deepEqual([...copy.dataSync()], [1, 2, 3]);
  copy.dispose();
  assert.equal(tf.memory().numDataBuffers, numDataBuffers - 1);
});

Deno.test("what the cpu kernel refuses too is an error, and leaves nothing behind", () => {
  const x = tf.zeros([2, 2]);
  const outside = tf.tensor1d([2], "int32");
  const before = tf.engine().backend.numDataIds();
  assert.throws(() => x.slice([0, 1], [2, 2]), /slice/i);
  assert.throws(() => tf.gather(x, outside), /not in \[0, 1\]/);
  assert.equal(tf.engine().backend.numDataIds(), before);
  tf.dispose([x, outside]);
});
