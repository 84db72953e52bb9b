import assert from "node:assert/strict";
import fc from "fast-check";
import { balance, deduplicate, statistics } from "./balance.ts";

const graded = fc.array(
  fc.record({ query: fc.constantFrom("a", "b", "c", "d"), reward: fc.constantFrom(0 as const, 1) }),
  { maxLength: 60 },
);
const limits = fc.record({
  maxCorrect: fc.integer({ min: 1, max: 5 }),
  maxWrong: fc.integer({ min: 0, max: 5 }),
  seed: fc.nat(),
});

Deno.test("balancing keeps at most n correct and n wrong, correct no more than wrong but at least one", () => {
  fc.assert(fc.property(graded, limits, (all, options) => {
    const kept = balance(all, options);
    const count = (from: typeof all, query: string, reward: 0 | 1) =>
      from.filter((t) => t.query === query && t.reward === reward).length;
    for (const query of ["a", "b", "c", "d"]) {
      const [wrong, correct] = [count(kept, query, 0), count(kept, query, 1)];
      assert.equal(wrong, Math.min(options.maxWrong, count(all, query, 0)));
      assert.equal(
        correct,
        Math.min(options.maxCorrect, Math.max(1, wrong), count(all, query, 1)),
      );
    }
  }));
});

Deno.test("balancing keeps the order and is decided by the seed alone", () => {
  fc.assert(fc.property(graded, limits, (all, options) => {
    const numbered = all.map((t, i) => ({ ...t, i }));
    const kept = balance(numbered, options).map((t) => t.i);
    assert.deepEqual(kept, [...kept].sort((a, b) => a - b));
    assert.deepEqual(kept, balance(numbered, options).map((t) => t.i));
  }));
});

Deno.test("another seed keeps other trajectories", () => {
  const all = Array.from({ length: 40 }, (_, i) => ({ query: "a", reward: (i % 2) as 0 | 1, i }));
  const kept = (seed: number) => balance(all, { seed }).map((t) => t.i);
  assert.notDeepEqual(kept(1), kept(2));
});

Deno.test("duplicates are the same response to the same query", () => {
  const t = (query: string, ...responseIds: number[]) => ({ query, responseIds });
  assert.deepEqual(
    deduplicate([t("a", 1, 2), t("a", 1, 2), t("b", 1, 2), t("a", 12), t("a", 1, 2)]),
    [t("a", 1, 2), t("b", 1, 2), t("a", 12)],
  );
});

Deno.test("statistics count queries without a correct and without a wrong trajectory", () => {
  const t = (query: string, reward: 0 | 1) => ({ query, reward });
  assert.deepEqual(statistics([t("a", 1), t("a", 0), t("b", 0), t("c", 1), t("c", 1)]), {
    queries: 3,
    trajectories: 5,
    correct: 3,
    wrong: 2,
    unsolved: 1,
    mastered: 1,
  });
});
