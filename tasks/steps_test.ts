import assert from "node:assert/strict";
import fc from "fast-check";
import { splitSteps, stepEnds } from "./steps.ts";

Deno.test("a step keeps its line break; an empty line is a step; the rest is a step", () => {
  assert.deepEqual(splitSteps("a\n\nb", ["\n"]), ["a\n", "\n", "b"]);
  assert.deepEqual(splitSteps("a\nb\n", ["\n"]), ["a\n", "b\n"]);
  assert.deepEqual(splitSteps("", ["\n"]), []);
});

Deno.test("several delimiters cut where any of them ends", () => {
  assert.deepEqual(splitSteps("x=1. So $y$.$ then", ["\n", ". ", ".$ "]), [
    "x=1. ",
    "So $y$.$ ",
    "then",
  ]);
});

Deno.test("steps joined are the text, and each but the last ends in a delimiter", () => {
  const text = fc.string({ unit: fc.constantFrom("a", "\n", ".", " ", "$") });
  fc.assert(fc.property(text, (text) => {
    const delimiters = ["\n", ". ", ".$ "];
    const steps = splitSteps(text, delimiters);
    assert.equal(steps.join(""), text);
    for (const step of steps.slice(0, -1)) {
      assert.ok(delimiters.some((delimiter) => step.endsWith(delimiter)));
    }
  }));
});

Deno.test("token step ends fall on the tokens that hold the delimiters", () => {
  assert.deepEqual(stepEnds(["a", "\n", "b", "\n", "####", " 4", ""], ["\n"]), [1, 3, 6]);
  assert.deepEqual(stepEnds(["a\nb", "c\n", "d"], ["\n"]), [0, 1, 2]);
  assert.deepEqual(stepEnds(["a\n\n\nb"], ["\n"]), [0]);
  assert.deepEqual(stepEnds(["a", "\n", ""], ["\n"]), [2]);
  assert.deepEqual(stepEnds([], ["\n"]), []);
});

Deno.test("a delimiter spread over two tokens ends its step at the second", () => {
  assert.deepEqual(stepEnds(["x.", " y", " z"], [". "]), [1, 2]);
});
