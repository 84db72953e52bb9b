import assert from "node:assert/strict";
import { z } from "zod";
import { UserError } from "../errors.ts";
import { defineTask, getTask, tasks } from "./mod.ts";

const capitals = defineTask({
  name: "capitals",
  description: "capital cities",
  params: z.object({ count: z.int().positive().default(1) }),
  *queries(split, { count }) {
    for (let i = 0; i < count; i++) {
      yield { id: `${split}/${i}`, question: "Capital of France?", gold: "Paris" };
    }
  },
  prompt: (query) => query.question,
  messages: (query) => [{ role: "user", content: query.question }],
  grade: (query, text) => {
    const correct = text.trim() === query.gold;
    return { correct, extracted: text.trim(), reason: correct ? "equal" : "different" };
  },
  stepDelimiters: ["\n"],
  alphabet: () => "abc",
});

Deno.test("a task of a few lines hands out queries and grades, with defaults for its parameters", async () => {
  const [query, ...rest] = await capitals.queries("test");
  assert.equal(query!.id, "test/0");
  assert.equal(rest.length, 0);
  assert.equal((await capitals.queries("test", { count: 3 })).length, 3);
  assert.equal((await capitals.grade(query!, "Paris\n")).correct, true);
});

Deno.test("a task without worked solutions says so when asked for them", async () => {
  assert.equal(capitals.hasDemonstrations, false);
  await assert.rejects(capitals.demonstrations("train"), /'capitals' has no worked solutions/);
});

Deno.test("tasks are found by name, and a slip of the hand gets the nearest one", () => {
  for (const [name, task] of tasks) assert.equal(getTask(name), task);
  assert.throws(() => getTask("arithmetics"), (error) => {
    assert.ok(error instanceof UserError && error.exitCode === 2);
    assert.match(error.message, /unknown task 'arithmetics': did you mean 'arithmetic'\?/);
    return true;
  });
});
