import assert from "node:assert/strict";
import { jit, makeMesh, shard, tf, useBackend, whileLoop } from "./mod.ts";
import { xlaBackend } from "./use_backend.ts";

const info = await useBackend(undefined, { cpuDevices: 4 });
const onXla = info.name === "xla";
const meshTest = (name: string, fn: () => void | Promise<void>) =>
  Deno.test({
    name: onXla ? name : `${name} (needs the xla backend, which does not start here)`,
    ignore: !onXla,
    fn: async () => {
      await useBackend("xla");
      await fn();
    },
  });

function wave(shape: number[], seed = 0): tf.Tensor {
  const size = tf.util.sizeFromShape(shape);
  return tf.tensor(Float32Array.from({ length: size }, (_, i) => Math.sin(i * 0.7 + seed)), shape);
}

function close(found: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-5): void {
  assert.equal(found.length, expected.length);
  for (let i = 0; i < found.length; i++) {
    const near = Math.abs(found[i]! - expected[i]!) <= tolerance;
    assert.ok(near, `element ${i}: ${found[i]}, not ${expected[i]}`);
  }
}

meshTest("a tensor over a mesh reads back as it was, in every dtype", async () => {
  assert.equal(info.devices, 4);
  const mesh = makeMesh({ data: 2, model: 2 });
  for (const spec of [["data", "model"], ["data"], [null, "model"], [["model", "data"]], []]) {
    for (const dtype of ["float32", "int32", "bool"] as const) {
      const x = wave([4, 6]).mul(3).cast(dtype);
      const y = shard(x, mesh, spec);
      assert.deepEqual(y.shape, [4, 6]);
      assert.equal(y.dtype, dtype);
      assert.deepEqual(y.dataSync(), x.dataSync());
      assert.deepEqual(await y.data(), x.dataSync());
    }
  }
  const z = shard(tf.complex(wave([4]), wave([4], 1)), mesh, ["data"]);
  assert.deepEqual(tf.imag(z).dataSync(), wave([4], 1).dataSync());
});

meshTest("a compiled product over a mesh is the product on one device", () => {
  const mesh = makeMesh({ data: 2, model: 2 });
  const f = jit((x: tf.Tensor2D, w: tf.Tensor2D) => tf.relu(tf.matMul(x, w)).add(0.5));
  const [x, w] = [wave([8, 6]) as tf.Tensor2D, wave([6, 4], 1) as tf.Tensor2D];
  const expected = f(x, w).dataSync();
  for (
    const [xs, ws] of [
      [["data"], []],
      [["data"], [null, "model"]],
      [["data", "model"], ["model"]],
      [[null, "data"], ["data", "model"]],
      [[["data", "model"]], []],
    ] as const
  ) {
    close(f(shard(x, mesh, xs), shard(w, mesh, ws)).dataSync(), expected);
  }
});

meshTest("arguments that are not on the mesh are copied to all of its devices", () => {
  const mesh = makeMesh({ data: 4 });
  const table = wave([8, 3], 2);
  const v = tf.variable(wave([3], 3));
  const f = jit((x: tf.Tensor, y: tf.Tensor) => x.mul(y).add(table).sub(v));
  const [x, y] = [wave([8, 3]), wave([3], 1)];
  const expected = f(x, y).dataSync();
  close(f(shard(x, mesh, ["data"]), y).dataSync(), expected);
  v.assign(wave([3], 4));
  close(f(shard(x, mesh, ["data"]), y).dataSync(), f(x, y).dataSync());
  v.dispose();
});

meshTest("donated arguments keep their place, and are gone afterwards", () => {
  const mesh = makeMesh({ data: 4 });
  const step = jit((s: { w: tf.Tensor }, x: tf.Tensor) => ({ w: s.w.mul(0.5).add(x.sum(0)) }), {
    name: "step",
    donate: [0],
  });
  const first = { w: shard(tf.ones([8, 3]), mesh, ["data"]) };
  const x = shard(wave([4, 3]), mesh, ["data"]);
  const before = { ...tf.memory(), data: xlaBackend()!.numDataIds() };
  let state = first;
  for (let i = 0; i < 5; i++) state = step(state, x) as typeof first;
  assert.throws(() => first.w.dataSync(), /argument 0\.w of jit 'step'.*donated/);
  const entry = xlaBackend()!.entryOf(state.w.dataId);
  assert.equal(entry.shards?.sharding.text, `[{"data"}, {}]`);
  assert.equal(entry.shards?.buffers.length, 4);
  assert.equal(tf.memory().numTensors, before.numTensors);
  assert.equal(xlaBackend()!.numDataIds(), before.data);
  let expected = { w: tf.ones([8, 3]) as tf.Tensor };
  for (let i = 0; i < 5; i++) expected = step(expected, wave([4, 3]));
  close(state.w.dataSync(), expected.w.dataSync());
  assert.equal(step.memoryPlan(state, x)!.aliased, 2 * 3 * 4, "a quarter on each device, in place");
});

meshTest("shard inside a function says how a result lies, and gradients pass it", () => {
  const mesh = makeMesh({ data: 4 });
  const f = jit((x: tf.Tensor) => shard(x.square(), mesh, [null, "data"]));
  const y = f(wave([2, 8]));
  assert.equal(xlaBackend()!.entryOf(y.dataId).shards?.sharding.text, `[{}, {"data"}]`);
  close(y.dataSync(), wave([2, 8]).square().dataSync());
  const loss = (x: tf.Tensor) => shard(x.square(), mesh, [null, "data"]).sum() as tf.Scalar;
  close(jit(tf.grad(loss))(wave([2, 8])).dataSync(), wave([2, 8]).mul(2).dataSync());
  close(tf.grad(loss)(wave([2, 8])).dataSync(), wave([2, 8]).mul(2).dataSync());
});

meshTest("a loop on the device runs over a mesh", () => {
  const mesh = makeMesh({ data: 4 });
  const f = jit((x: tf.Tensor) =>
    whileLoop((s) => tf.less(s.i, 5), (s) => ({ i: s.i.add(1), x: s.x.mul(1.5) }), {
      i: tf.scalar(0) as tf.Tensor,
      x,
    })
  );
  close(f(shard(wave([8]), mesh, ["data"])).x.dataSync(), wave([8]).mul(1.5 ** 5).dataSync());
});

meshTest("operations outside jit take tensors over a mesh, by way of one device", () => {
  const mesh = makeMesh({ data: 4 });
  const x = shard(wave([8, 2]), mesh, ["data"]);
  close(tf.matMul(x as tf.Tensor2D, tf.ones([2, 1])).dataSync(), wave([8, 2]).sum(1).dataSync());
  close(x.reshape([4, 4]).sum(0).dataSync(), wave([4, 4]).sum(0).dataSync());
  close(jit((t: tf.Tensor) => t.neg())(x.reshape([16])).dataSync(), wave([16]).neg().dataSync());
});

meshTest("tensors on two meshes in one function are refused", () => {
  const f = jit((x: tf.Tensor, y: tf.Tensor) => x.add(y), { name: "two" });
  const [a, b] = [makeMesh({ data: 2 }), makeMesh({ data: 4 })];
  assert.throws(() => f(shard(wave([4]), a, []), shard(wave([4]), b, [])), /jit 'two'.*two meshes/);
});

meshTest("a mesh larger than the backend is refused with what to set", () => {
  assert.throws(() => makeMesh({ data: 8 }), /takes 8 devices, there are 4.*XLA_CPU_DEVICES=8/);
});

Deno.test("on other backends a mesh of one device changes nothing", async () => {
  await useBackend("cpu");
  const mesh = makeMesh({ data: 1 });
  assert.deepEqual([...shard(tf.tensor1d([1, 2]), mesh, ["data"]).dataSync()], [1, 2]);
  assert.throws(() => makeMesh({ data: 2 }), /there are 1/);
});
