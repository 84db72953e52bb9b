import assert from "node:assert/strict";
import type { GraphNode } from "./graph.ts";
import { withOwnPaths } from "./own_paths.ts";

const own = new URL(import.meta.url).pathname;
const stage = { outputs: { content: {} } };
const nodes: Record<string, object> = {
  data: { importPath: "my data/gsm8k", stage },
  file: { importPath: own, stage },
  renamed: { importPath: own, stage: { outputs: { content: { file: "lines.jsonl" } } } },
  sft: {},
};
const node = {
  inputs: new Map<string, unknown>([
    ["data", { node: "data", output: "content" }],
    ["policy", { node: "sft", output: "policy" }],
    ["files", [{ node: "sft", output: "policy" }, { node: "file", output: "content" }, {
      node: "renamed",
      output: "content",
    }]],
  ]),
} as unknown as GraphNode;
const told = (text: string) =>
  withOwnPaths(text, node, "/w (1)/inputs", (id) => nodes[id] as GraphNode | undefined);

Deno.test("a message names the folder that the user gave, not the copy that the stage read", () => {
  assert.equal(
    told("no '#### n' in /w (1)/inputs/data/train.jsonl, line 3; see '/w (1)/inputs/data'"),
    "no '#### n' in my data/gsm8k/train.jsonl, line 3; see 'my data/gsm8k'",
  );
});

Deno.test("an imported file is named as it was given", () => {
  assert.equal(told("in /w (1)/inputs/files/1/own_paths_test.ts:7"), `in ${own}:7`);
  assert.equal(told("in /w (1)/inputs/files/2/lines.jsonl:7"), `in ${own}:7`);
  assert.equal(told("/w (1)/inputs/files/2 holds no model"), `${own} holds no model`);
});

Deno.test("what other stages made and paths that only look alike stay as they are", () => {
  const text = "/w (1)/inputs/policy/model.safetensors /w (1)/inputs/data2/x /w 1/inputs/data";
  assert.equal(told(text), text);
});
