import assert from "node:assert/strict";
import { z } from "zod";
import { applyOverrides, describeParams, parseParams } from "../pipeline/mod.ts";
import { withDefaults, withDefaultsByCase } from "./defaults.ts";

const schema = z.object({
  path: z.string().optional(),
  epochs: z.number().default(1).describe("passes"),
  beams: z.array(z.number()).default([1, 3]),
  shape: z.object({ hidden: z.int().default(128), layers: z.int().default(3) }).prefault({}),
});

Deno.test("withDefaults changes the fields it names and leaves the others", () => {
  const changed = withDefaults(schema, { epochs: 5, beams: [7], shape: { hidden: 64 } });
  assert.deepEqual(changed.parse({}), { epochs: 5, beams: [7], shape: { hidden: 64, layers: 3 } });
});

Deno.test("a nested default still holds where another field of the same object is given", () => {
  const changed = withDefaults(schema, { shape: { hidden: 64, layers: 2 } });
  assert.deepEqual(changed.parse({ shape: { layers: 9 } }).shape, { hidden: 64, layers: 9 });
});

const byCase = withDefaultsByCase(
  schema,
  { fresh: { epochs: 5, shape: { hidden: 64 } }, loaded: { beams: [2] } },
  ({ path }) => path === undefined ? "fresh" : "loaded",
);

Deno.test("withDefaultsByCase takes the defaults of the case that the parameters are", () => {
  assert.deepEqual(byCase.parse({}), {
    epochs: 5,
    beams: [1, 3],
    shape: { hidden: 64, layers: 3 },
  });
  assert.deepEqual(byCase.parse({ path: "x" }), {
    path: "x",
    epochs: 1,
    beams: [2],
    shape: { hidden: 128, layers: 3 },
  });
});

Deno.test("withDefaultsByCase leaves what was given in every case", () => {
  const given = { epochs: 9, beams: [4], shape: { hidden: 8, layers: 1 } };
  assert.deepEqual(byCase.parse(given), given);
  assert.deepEqual(byCase.parse({ ...given, path: "x" }), { ...given, path: "x" });
});

Deno.test("parameters by case are set, checked and described like any other", () => {
  const set = applyOverrides(byCase, {}, ["shape.hidden=32", "beams=1,5"]);
  const params = parseParams(byCase, set, "a test");
  assert.deepEqual(params.shape, { hidden: 32, layers: 3 });
  assert.deepEqual(params.beams, [1, 5]);
  assert.throws(() => parseParams(byCase, { epochs: "many" }, "a test"), /'epochs'.*got "many"/);
  assert.throws(() => parseParams(byCase, { epoch: 1 }, "a test"), /did you mean 'epochs'/);
  assert.ok(describeParams(byCase, params).includes("epochs = 5  # passes"));
});
