import assert from "node:assert/strict";
import { copyPart, meshOf, meshText, partOf, shardingOf } from "./mesh.ts";

const mesh = meshOf({ data: 2, model: 2 }, 4);

Deno.test("a mesh and its shardings print as Shardy writes them", () => {
  assert.equal(meshText(mesh), `<["data"=2, "model"=2]>`);
  assert.equal(shardingOf(mesh, ["data"], [4, 3]).text, `[{"data"}, {}]`);
  assert.equal(shardingOf(mesh, [null, ["data", "model"]], [4, 8]).text, `[{}, {"data", "model"}]`);
  assert.equal(shardingOf(mesh, [], []).text, "[]");
});

Deno.test("a sharding that cannot be is refused with what is wrong", () => {
  assert.throws(() => shardingOf(mesh, ["date"], [4]), /no axis 'date', only data, model/);
  assert.throws(
    () => shardingOf(mesh, ["data"], [3]),
    /dimension 0 of 3 does not fall into 2 equal/,
  );
  assert.throws(() => shardingOf(mesh, ["data", "data"], [4, 4]), /axis 'data' is used twice/);
  assert.throws(() => shardingOf(mesh, ["data", null], [4]), /more dimensions than the tensor/);
  assert.throws(() => meshOf({ data: 8 }, 4), /takes 8 devices, there are 4.*XLA_CPU_DEVICES=8/);
  assert.throws(() => meshOf({ data: 0 }, 4), /axis 'data' of size 0/);
});

Deno.test("the parts of a tensor put together are the tensor", () => {
  const cases = [
    { shape: [4, 6], spec: ["data", "model"] },
    { shape: [4, 6], spec: [null, "data"] },
    { shape: [2, 4, 3], spec: [null, ["model", "data"]] },
    { shape: [8], spec: [["data", "model"]] },
    { shape: [], spec: [] },
  ];
  for (const { shape, spec } of cases) {
    const size = shape.reduce((a, b) => a * b, 1);
    const whole = Float32Array.from({ length: size }, (_, i) => i + 1);
    const sharding = shardingOf(mesh, spec, shape);
    const again = new Float32Array(size);
    for (let device = 0; device < mesh.size; device++) {
      const part = partOf(sharding, shape, device);
      const data = new Float32Array(part.sizes.reduce((a, b) => a * b, 1));
      copyPart(whole, shape, part, data, "out");
      copyPart(again, shape, part, data, "in");
    }
    assert.deepEqual(again, whole, JSON.stringify(spec));
  }
});

Deno.test("the first axis of a mesh changes slowest", () => {
  const parts = [0, 1, 2, 3].map((d) =>
    partOf(shardingOf(mesh, ["data", "model"], [4, 4]), [4, 4], d)
  );
  assert.deepEqual(parts.map((part) => part.starts), [[0, 0], [0, 2], [2, 0], [2, 2]]);
  assert.deepEqual(parts[0]!.sizes, [2, 2]);
});
