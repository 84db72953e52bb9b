import assert from "node:assert/strict";
import { deviceMemory, jit, OutOfMemoryError, tf, useBackend } from "./mod.ts";
import { bytesText, checkFits, MEMORY_LIMIT, memoryLimit, parseBytes, planText } from "./memory.ts";
import { Programs } from "./programs.ts";
import { xlaBackend } from "./use_backend.ts";

await useBackend();
const client = xlaBackend()?.client;
const memoryTest = (name: string, fn: () => void) =>
  Deno.test({
    name: client === undefined ? `${name} (no plugin here)` : name,
    ignore: client === undefined,
    fn,
  });

function withLimit<R>(limit: string, run: () => R): R {
  Deno.env.set(MEMORY_LIMIT, limit);
  try {
    return run();
  } finally {
    Deno.env.delete(MEMORY_LIMIT);
  }
}

const plan = { arguments: 3 * 2 ** 30, outputs: 2 ** 30, aliased: 2 ** 30, temporary: 0, code: 0 };

Deno.test("amounts of memory are read and written in binary units", () => {
  assert.equal(parseBytes("6GiB"), 6 * 2 ** 30);
  assert.equal(parseBytes(" 1.5 MiB "), 1.5 * 2 ** 20);
  assert.equal(parseBytes("1000"), 1000);
  assert.equal(bytesText(1.5 * 2 ** 30), "1.50 GiB");
  assert.equal(bytesText(200 * 2 ** 20), "200 MiB");
  assert.equal(bytesText(12), "12 bytes");
  for (const bad of ["", "much", "-1GiB", "6 GB/s", "1TiB2"]) {
    assert.throws(
      () => parseBytes(bad),
      /XLA_MEMORY_LIMIT: '.*' is no amount of memory; write e\.g/,
    );
  }
});

Deno.test("a plan says what it is made of, and donated memory once", () => {
  assert.equal(
    planText(plan),
    "3.00 GiB (arguments 3.00 GiB, results 1.00 GiB, 1.00 GiB of them in donated memory, temporary 0 bytes, code 0 bytes)",
  );
});

Deno.test("a program that does not fit is named with what it wants, what there is and what lowers it", () => {
  checkFits("step", plan, undefined);
  checkFits("step", plan, 3 * 2 ** 30);
  assert.throws(() => checkFits("step", plan, 2 ** 31, "a smaller microBatch"), (error: Error) => {
    assert.ok(error instanceof OutOfMemoryError);
    assert.equal(error.exitCode, 1);
    assert.equal(error.program, "step");
    assert.equal(error.wanted, 3 * 2 ** 30);
    assert.match(error.message, /^out of memory: 'step' wants 3\.00 GiB \(.*\) on a device/);
    assert.match(error.message, /there are 2\.00 GiB\. What lowers it: a smaller microBatch$/);
    return true;
  });
});

memoryTest("the limit is the machine's memory, or less where it is set", () => {
  const machine = memoryLimit(client!)!;
  assert.ok(machine > 2 ** 28 && machine <= Deno.systemMemoryInfo().total);
  assert.equal(withLimit("64MiB", () => memoryLimit(client!)), 2 ** 26);
  assert.equal(withLimit("999999GiB", () => memoryLimit(client!)), machine);
  assert.throws(() => withLimit("lots", () => memoryLimit(client!)), /'lots' is no amount/);
});

memoryTest("a program larger than the set limit is refused before it runs", () => {
  const text =
    `module @m { func.func public @main(%a: tensor<1024x1024xf32>) -> tensor<1024x1024xf32> {
  %0 = stablehlo.add %a, %a : tensor<1024x1024xf32>
  return %0 : tensor<1024x1024xf32> } }`;
  const get = () =>
    new Programs(client!, "plugin", undefined).get(text, "double", { hint: "less" });
  assert.equal(get().memoryPlan().arguments, 2 ** 22);
  assert.throws(
    () => withLimit("6MiB", get),
    /'double' wants 8\.00 MiB \(arguments 4\.00 MiB, results 4\.00 MiB.*there are 6\.00 MiB.*: less$/,
  );
  withLimit("9MiB", get);
});

memoryTest("an absurd allocation is an error that names the program, and work goes on", () => {
  const absurd = jit((x: tf.Tensor) => x.add(tf.fill([2_000_000, 1_000_000], 1)), {
    name: "absurd",
    memoryHint: "a smaller table",
  });
  assert.throws(
    () => absurd(tf.scalar(1)),
    /'absurd' wants 7451 GiB .*there are .*What lowers it: a smaller table/,
  );
  assert.throws(
    () => tf.fill([2_000_000, 1_000_000], 1),
    /out of memory: 'Fill' wants 7451 GiB/,
  );
  assert.deepEqual([...tf.add(tf.ones([2]), 1).dataSync()], [2, 2]);
});

memoryTest("what the device itself refuses gets the same message", () => {
  const text = `module @m { func.func public @main(%a: tensor<f32>) -> tensor<900000x1000000xf32> {
  %0 = stablehlo.broadcast_in_dim %a, dims = [] : (tensor<f32>) -> tensor<900000x1000000xf32>
  return %0 : tensor<900000x1000000xf32> } }`;
  const executable = client!.compile(text, "huge");
  const x = client!.bufferFromHost(Float32Array.of(1), "f32", []);
  assert.throws(() => executable.call([x]), /running huge: RESOURCE_EXHAUSTED/);
  executable.onExhausted = (_, cause) => new OutOfMemoryError("huge", { detail: cause.detail });
  assert.throws(
    () => executable.call([x]),
    /'huge' wants more memory on a device \(the device says: Out of memory allocating 3600000000000/,
  );
});

memoryTest("a compiled function shows its plan before it runs", () => {
  let runs = 0;
  const f = jit((x: tf.Tensor, w: tf.Tensor) => {
    runs++;
    return tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D);
  }, { donate: [0] });
  const [x, w] = [tf.ones([64, 64]), tf.ones([64, 64])];
  const plan = f.memoryPlan(x, w)!;
  assert.equal(plan.arguments, 2 * 64 * 64 * 4);
  assert.equal(plan.outputs, 64 * 64 * 4);
  assert.equal(plan.aliased, 64 * 64 * 4);
  assert.ok(!x.isDisposed, "nothing ran");
  const traced = runs;
  assert.equal(f(x, w).dataSync()[0], 64);
  assert.equal(runs, traced, "it was compiled already");
});

Deno.test("device memory is reported on every backend", async () => {
  for (const name of ["cpu", ...(client === undefined ? [] : ["xla"])]) {
    await useBackend(name);
    const before = deviceMemory();
    const x = tf.ones([1024]);
    assert.equal(before.length, client === undefined || name === "cpu" ? 1 : client.devices.length);
    assert.equal(deviceMemory()[0]!.inUse, before[0]!.inUse + 4096);
    x.dispose();
  }
  await useBackend("cpu");
  assert.equal(jit((x: tf.Tensor) => x).memoryPlan(tf.scalar(1)), undefined);
});
