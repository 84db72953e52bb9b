import assert from "node:assert/strict";
import fc from "fast-check";
import { bucketLengths, collate, planEpoch } from "./batches.ts";
import type { Trajectory } from "./trajectory.ts";

const lengths = fc.array(fc.integer({ min: 2, max: 120 }), { minLength: 1, maxLength: 80 });

Deno.test("buckets hold every length, in order, at most as many as asked for", () => {
  fc.assert(fc.property(lengths, fc.integer({ min: 1, max: 5 }), (all, count) => {
    const buckets = bucketLengths(all, { count });
    assert.ok(buckets.length <= count);
    assert.ok(buckets.at(-1)! >= Math.max(...all) && buckets.at(-1)! < Math.max(...all) + 8);
    assert.deepEqual(buckets, [...new Set(buckets)].sort((a, b) => a - b));
  }));
});

Deno.test("buckets waste no more than any other choice of as many", () => {
  const waste = (all: number[], buckets: number[]) =>
    all.reduce((sum, l) => sum + buckets.find((b) => b >= l)!, 0);
  fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1 }), (all) => {
    const top = Math.max(...all);
    const best = waste(all, bucketLengths(all, { count: 2, multiple: 1 }));
    for (let other = 1; other <= top; other++) assert.ok(best <= waste(all, [other, top]));
  }));
});

Deno.test("a sequence longer than the model can see is refused", () => {
  assert.throws(() => bucketLengths([5, 90], { maxLength: 64 }), /90 tokens, more than the 64/);
  assert.deepEqual(bucketLengths([61], { maxLength: 62 }), [62]);
});

Deno.test("an epoch holds every sequence once, in an order that seed and epoch decide", () => {
  fc.assert(fc.property(
    lengths,
    fc.integer({ min: 1, max: 9 }),
    fc.constantFrom(1, 3),
    fc.nat(),
    (all, batchSize, window, seed) => {
      const options = { batchSize, window, seed, epoch: 0 };
      const plan = planEpoch(all, options);
      assert.deepEqual(plan.flat().sort((a, b) => a - b), [...all.keys()]);
      assert.ok(plan.slice(0, -1).every((batch) => batch.length === batchSize));
      assert.deepEqual(plan, planEpoch(all, options));
    },
  ));
  const many = Array.from({ length: 64 }, (_, i) => 2 + i % 7);
  const order = (seed: number, epoch: number) => planEpoch(many, { batchSize: 4, seed, epoch });
  assert.notDeepEqual(order(0, 0), order(0, 1));
  assert.notDeepEqual(order(0, 0), order(1, 0));
});

const item = (promptIds: number[], responseIds: number[], more: Partial<Trajectory> = {}) => ({
  version: 1 as const,
  query: "q",
  prompt: "",
  promptIds,
  responseIds,
  stepEnds: [responseIds.length - 1],
  reward: 1 as const,
  source: "test",
  ...more,
});

Deno.test("columns of the masks are those that predict actions; weights are means of means", () => {
  const items = [
    item([9, 9], [1, 2, 3, 4], {
      actionMask: [1, 0, 1, 1],
      stepEnds: [0, 3],
      refLogProbs: [-1, -2, -3, -4],
    }),
    item([8], [5, 6], { reward: 0 }),
  ];
  const [token] = collate(items, { padId: 0, buckets: [4, 6, 8] });
  assert.equal(token!.time, 6);
  assert.equal(token!.tokens, 9);
  assert.deepEqual([...token!.ids], [9, 9, 1, 2, 3, 4, 8, 5, 6, 0, 0, 0]);
  const third = Math.fround(1 / 6);
  const expected = [0, third, 0, third, third, 0.25, 0.25, 0, 0, 0];
  assert.deepEqual([...token!.actionWeights], expected);
  assert.deepEqual([...token!.stateWeights], expected);
  assert.deepEqual([...token!.rewards], [1, 0]);
  assert.deepEqual([...token!.refLogProbs], [0, -1, -2, -3, -4, 0, 0, 0, 0, 0]);
  const [step] = collate(items, { padId: 0, buckets: [8], level: "step" });
  assert.deepEqual([...step!.actionWeights].filter((w) => w > 0).length, 5);
  assert.deepEqual([...step!.stateWeights], [0, 0.25, 0, 0.25, 0, 0, 0, 0.5, 0, 0, 0, 0, 0, 0]);
});

Deno.test("micro-batches have the shape asked for and carry the whole batch's weights", () => {
  fc.assert(fc.property(
    fc.array(fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 6 })), {
      minLength: 1,
      maxLength: 9,
    }),
    fc.integer({ min: 1, max: 4 }),
    fc.constantFrom("sequence" as const, "token" as const),
    (sizes, microBatch, normalisation) => {
      const items = sizes.map(([p, r]) => item(Array(p).fill(1), Array(r).fill(2)));
      const batches = collate(items, { padId: 0, buckets: [6, 10], microBatch, normalisation });
      assert.equal(batches.length, Math.ceil(items.length / microBatch));
      const sum = (of: (b: typeof batches[0]) => Iterable<number>) =>
        batches.flatMap((b) => [...of(b)]).reduce((a, b) => a + b, 0);
      assert.ok(batches.every((b) => b.rows === microBatch));
      for (const weights of ["stateWeights", "actionWeights"] as const) {
        assert.ok(Math.abs(sum((b) => b[weights]) - 1) < 1e-5);
      }
    },
  ));
});
