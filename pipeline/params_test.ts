import assert from "node:assert/strict";
import { z } from "zod";
import { UserError } from "../errors.ts";
import { applyOverrides, describeParams, listParams, parseParams } from "./params.ts";

const schema = z.object({
  steps: z.number().int().default(10).describe("optimizer steps"),
  name: z.string().default("x"),
  greedy: z.boolean().default(false),
  mode: z.enum(["fast", "slow"]).default("fast"),
  limit: z.number().nullable().default(null),
  beams: z.array(z.number()).default([1]),
  path: z.string().optional(),
  train: z.object({ rate: z.number().default(0.1), beta: z.number().default(1) }).prefault({}),
  extra: z.record(z.string(), z.number()).default({}),
  tags: z.union([z.string(), z.array(z.string())]).default("a"),
});

const set = (...overrides: string[]) =>
  parseParams(schema, applyOverrides(schema, {}, overrides), "workflow 'w'");

function refused(overrides: string[], message: RegExp) {
  assert.throws(() => set(...overrides), (error) => {
    assert(error instanceof UserError);
    assert.equal(error.exitCode, 2);
    assert.match(error.message, message);
    return true;
  });
}

Deno.test("texts are read as the schema at their path asks", () => {
  const params = set(
    "steps=20",
    "name=12",
    "greedy=true",
    "mode=slow",
    "limit=null",
    "beams=1,3,5",
    "path=/a=b",
    "train.rate=1e-4",
    "extra.anything=3",
    'tags=["x","y"]',
  );
  assert.deepEqual(params, {
    steps: 20,
    name: "12",
    greedy: true,
    mode: "slow",
    limit: null,
    beams: [1, 3, 5],
    path: "/a=b",
    train: { rate: 1e-4, beta: 1 },
    extra: { anything: 3 },
    tags: ["x", "y"],
  });
  assert.deepEqual(set('train={"beta":2}', "train.rate=3").train, { rate: 3, beta: 2 });
  assert.deepEqual(set("beams=").beams, []);
});

Deno.test("malformed texts are refused with the way out", () => {
  refused(["steps"], /--set steps: expected path=value, for example/);
  refused(["=3"], /expected path=value/);
  refused(["train..rate=3"], /the path has an empty name/);
  refused(["stesp=3"], /unknown parameter 'stesp': did you mean 'steps'\?/);
  refused(["train.bta=3"], /unknown parameter 'train.bta': did you mean 'train.beta'\?/);
  refused(["train.zzzzzz=3"], /unknown parameter 'train.zzzzzz'; known: rate, beta/);
  refused(["steps.more=3"], /'steps' holds a value, not names/);
  refused(["steps=abc"], /expected a value of type integer, got 'abc'/);
  refused(["steps="], /expected a value of type integer, got ''/);
  refused(["greedy=yes"], /expected true or false, got 'yes'/);
  refused(["mode=slwo"], /parameter 'mode': .*got "slwo"/);
  refused(["beams=[1,"], /the value is not JSON/);
  refused(["steps=1.5"], /parameter 'steps': .*got 1.5/);
});

Deno.test("unknown and wrong parameters are named by their path", () => {
  assert.throws(
    () => parseParams(schema, { train: { rat: 1, beta: "b" } }, "stage 'train'"),
    (error) => {
      const { message } = error as Error;
      assert.match(
        message,
        /stage 'train': unknown parameter 'train.rat': did you mean 'train.rate'/,
      );
      assert.match(message, /stage 'train': parameter 'train.beta': expected number.*got "b"/);
      return true;
    },
  );
});

Deno.test("parameters are described with what they mean", () => {
  const lines = describeParams(schema, set());
  assert(lines.includes("steps = 10  # optimizer steps"));
  assert(lines.includes("train.rate = 0.1"));
});

Deno.test("every parameter is listed with what it takes, its default and its meaning", () => {
  const listed = listParams(z.object({
    task: z.string(),
    rate: z.number().default(5e-6).describe("peak"),
    tags: z.array(z.enum(["a", "b"])).optional(),
    critic: z.object({ rank: z.int().default(64) }).optional().describe("an adapter"),
  }));
  assert.deepEqual(listed, [
    "task         string, needed",
    "rate         number = 5e-6   peak",
    "tags         a | b, ...",
    "critic                       an adapter",
    "critic.rank  integer = 64",
  ]);
});
