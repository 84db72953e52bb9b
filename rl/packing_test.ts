import assert from "node:assert/strict";
import fc from "fast-check";
import { collate, planEpoch } from "./batches.ts";
import { pack, packedParts, packRows, packShapes } from "./packing.ts";
import { uniforms } from "./shuffle.ts";
import { lengthOf, type Trajectory } from "./trajectory.ts";

const lengths = fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 60 });

Deno.test("rows hold every sequence once and none is over-full", () => {
  fc.assert(fc.property(lengths, fc.integer({ min: 30, max: 90 }), (all, time) => {
    const rows = packRows(all, time);
    assert.deepEqual(rows.flat().sort((a, b) => a - b), [...all.keys()]);
    assert.ok(rows.every((row) => row.reduce((sum, i) => sum + all[i]!, 0) <= time));
    const least = Math.ceil(all.reduce((a, b) => a + b, 0) / time);
    assert.ok(rows.length <= Math.ceil(least * 3 / 2) + 1, `${rows.length} rows, ${least} needed`);
  }));
  assert.throws(() => packRows([9], 8), /9 tokens fits no row of 8/);
});

/** Trajectories as people have them: a prompt and a response of very different lengths. */
function trajectories(count: number, seed: string): Trajectory[] {
  const random = uniforms(seed);
  const ids = (n: number) => Array.from({ length: n }, () => 1 + Math.floor(random() * 9));
  return Array.from({ length: count }, () => ({
    version: 1,
    query: "q",
    prompt: "",
    promptIds: ids(20 + Math.floor(random() * 80)),
    responseIds: ids(Math.ceil(60 * Math.exp(0.6 * Math.sqrt(12) * (random() - 0.5)))),
    stepEnds: [0],
    reward: random() < 0.5 ? 1 : 0,
    source: "test",
  }));
}

Deno.test("two epochs of ordinary lengths pack with under 10 % padding in a handful of shapes", () => {
  for (const [batchSize, microBatch] of [[128, 128], [128, 32], [64, 16]] as const) {
    const items = trajectories(1024, `${batchSize}`);
    const all = items.map(lengthOf);
    const batches = [0, 1].map((epoch) =>
      planEpoch(all, { batchSize, seed: 1, epoch, window: 1 }).map((b) => b.map((i) => items[i]!))
    );
    const shapes = packShapes(batches[0]!, { microBatch, items });
    const packed = batches.flat().flatMap((b) => pack(b, { padId: 0, shapes }));
    const room = packed.reduce((sum, b) => sum + b.rows * b.time, 0);
    const tokens = packed.reduce((sum, b) => sum + b.tokens, 0);
    const padding = 1 - tokens / room;
    assert.equal(tokens, 2 * all.reduce((a, b) => a + b, 0));
    assert.ok(padding < 0.1, `${batchSize} in ${microBatch}: padding ${padding}`);
    const kinds = new Set(packed.map((b) => `${b.rows} ${b.layout!.at.length}`));
    assert.ok(kinds.size <= 6, `${[...kinds]}`);
  }
});

Deno.test("what the objectives read is what padded rows give, from the last prompt token on", () => {
  fc.assert(fc.property(fc.nat(1000), fc.integer({ min: 1, max: 5 }), (seed, microBatch) => {
    const items = trajectories(6, `${seed}`).map((t, i): Trajectory => ({
      ...t,
      refLogProbs: t.responseIds.map((_, j) => -i - j / 100),
      stepEnds: [0, t.responseIds.length - 1],
    }));
    const longest = Math.max(...items.map(lengthOf));
    const together = seed % 2 === 0 ? 1 : 2;
    const shapes = packShapes([items], { microBatch, together, items });
    const settings = { padId: 0, level: "step" as const };
    const [padded] = collate(items, { ...settings, microBatch: 6, buckets: [longest] });
    const parts = packedParts(items, { ...shapes, together })
      .map((rows) => rows.flat().sort((a, b) => a - b));
    assert.deepEqual(parts.flat().sort((a, b) => a - b), [...items.keys()]);
    if (together === 2) {
      const pairs = (part: number[]) =>
        part.every((i, n) => n % 2 === 1 || (i % 2 === 0 && part[n + 1] === i + 1));
      assert.ok(parts.every(pairs), "twins stay together");
    }
    for (const [p, batch] of pack(items, { ...settings, shapes, together }).entries()) {
      const layout = batch.layout!;
      for (const [n, i] of parts[p]!.entries()) {
        const first = items[i]!.promptIds.length - 1;
        assert.equal(batch.rewards[n], padded!.rewards[i]);
        for (let c = 0; c < items[i]!.responseIds.length; c++) {
          const [at, there] = [n * batch.columns + c, i * padded!.columns + first + c];
          for (const name of ["actionWeights", "stateWeights", "refLogProbs"] as const) {
            assert.equal(batch[name][at], padded![name][there], name);
          }
          const slot = layout.columns[at]!;
          const place = layout.at[slot]!;
          assert.equal(layout.sources[slot], at);
          assert.equal(layout.slots[place], slot);
          assert.equal(layout.positions[place], first + c);
          assert.equal(layout.targets[slot], items[i]!.responseIds[c]);
          assert.equal(layout.segments[place], layout.segments[place + 1]);
        }
      }
    }
  }));
});
