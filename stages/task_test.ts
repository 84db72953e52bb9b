import assert from "node:assert/strict";
import type { ModelConfig } from "../lm/mod.ts";
import { answerLimits } from "./task.ts";

const model = (maxPositions: number) => ({ config: { maxPositions } as ModelConfig });
const prompts = [3, 8].map((length) => ({ ids: new Array<number>(length).fill(1) }));
const queries = ["a", "b"].map((id) => ({ id, question: "", gold: "1" }));

Deno.test("an answer may have as many tokens as asked for where the model sees that far", () => {
  assert.deepEqual(answerLimits(model(100), queries, prompts, 5), {
    limits: [5, 5],
    maxLength: 13,
  });
});

Deno.test("an answer ends where the model's positions do", () => {
  assert.deepEqual(answerLimits(model(10), queries, prompts, 5), { limits: [5, 2], maxLength: 10 });
});

Deno.test("a prompt that leaves no room for an answer is told by its query", () => {
  assert.throws(
    () => answerLimits(model(8), queries, prompts, 5),
    /query 'b' has 8 tokens.*the model sees 8/,
  );
});
