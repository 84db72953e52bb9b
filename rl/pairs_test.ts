import assert from "node:assert/strict";
import fc from "fast-check";
import { mismatched, preferencePairs } from "./pairs.ts";
import type { Trajectory } from "./trajectory.ts";

const item = (query: string, reward: 0 | 1, id: number): Trajectory => ({
  version: 1,
  query,
  prompt: query,
  promptIds: [query.length],
  responseIds: [id, id],
  stepEnds: [1],
  reward,
  source: "test",
});

Deno.test("pairs are different, of one query, right before wrong, and at most so many a query", () => {
  fc.assert(
    fc.property(fc.nat(6), fc.nat(6), fc.integer({ min: 1, max: 40 }), (right, wrong, maxPairs) => {
      const items = [
        ...Array.from({ length: right }, (_, i) => item("a", 1, i)),
        ...Array.from({ length: wrong }, (_, i) => item("a", 0, 10 + i)),
        item("b", 1, 20),
      ];
      const pairs = preferencePairs(items, { maxPairs, seed: 3 });
      assert.equal(pairs.length, Math.min(maxPairs, right * wrong));
      const names = pairs.map(({ chosen, rejected }) => {
        assert.deepEqual([chosen.query, chosen.reward, rejected.reward], ["a", 1, 0]);
        return `${chosen.responseIds} ${rejected.responseIds}`;
      });
      assert.equal(new Set(names).size, names.length);
    }),
  );
});

Deno.test("trajectories take part in pairs about equally often", () => {
  const items = [
    ...[0, 1].map((i) => item("a", 1, i)),
    ...[2, 3, 4, 5].map((i) => item("a", 0, i)),
  ];
  const pairs = preferencePairs(items, { maxPairs: 4, seed: 0 });
  assert.equal(new Set(pairs.map((p) => p.rejected)).size, 4);
  assert.equal(new Set(pairs.map((p) => p.chosen)).size, 2);
});

Deno.test("a mismatched twin has the own prompt and the response to another query, cut to fit", () => {
  const items = [item("a", 1, 1), item("a", 0, 2), item("bb", 0, 3), item("ccc", 1, 4)];
  const others = mismatched(items, { seed: 0, maxLength: 2 });
  others.forEach((other, i) => {
    const own = items[i]!;
    assert.deepEqual(other.promptIds, own.promptIds);
    const origin = items.find((t) => t.responseIds[0] === other.responseIds[0])!;
    assert.notEqual(origin.query, own.query);
    assert.equal(other.responseIds.length, 1);
  });
});
