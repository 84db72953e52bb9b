import assert from "node:assert/strict";
import { paddedLength, Scorer } from "./score.ts";
import { tinyConfig } from "./test_support.ts";
import { initParams, type Params, tokenLogProbs } from "./transformer.ts";
import { jit, tf, useBackend } from "../xla/mod.ts";
import { UserError } from "../errors.ts";

await useBackend();

const config = tinyConfig({
  vocab_size: 19,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-6,
  rope_theta: 10000,
});

/** Sequences of many lengths with tokens that repeat no pattern. */
function sequencesOf(lengths: number[]): number[][] {
  return lengths.map((length, s) => Array.from({ length }, (_, i) => (7 * s + i * i + 3) % 19));
}

Deno.test("every sequence gets the log-probabilities it has alone, in the order given", async () => {
  const params = initParams(config, 1);
  const sequences = sequencesOf([5, 40, 2, 33]);
  const batched = await new Scorer({ config, params }, { batchSize: 2 }).sequences(sequences);
  const logProbs = jit((p: Params, ids: tf.Tensor2D) => tokenLogProbs(config, p, ids));
  for (const [i, ids] of sequences.entries()) {
    const alone = logProbs(params, tf.tensor2d([ids], undefined, "int32"));
    const want = await alone.data();
    alone.dispose();
    assert.equal(batched[i]!.length, ids.length - 1);
    for (const [j, x] of batched[i]!.entries()) assert.ok(Math.abs(x - want[j]!) < 1e-5);
  }
  tf.dispose(params);
});

Deno.test("a response is scored given its prompt, token by token", async () => {
  const params = initParams(config, 2);
  const [whole] = sequencesOf([12]);
  const scorer = new Scorer({ config, params });
  const [response] = await scorer.responses([
    { promptIds: whole!.slice(0, 5), responseIds: whole!.slice(5) },
  ]);
  const [all] = await scorer.sequences([whole!]);
  assert.deepEqual(response, Array.from(all!.slice(4)));
  tf.dispose(params);
});

Deno.test("what the model cannot see is refused with the sequence and the bound", async () => {
  const params = initParams(config, 3);
  const scorer = new Scorer({ config, params });
  const refused = (ids: number[], pattern: RegExp) =>
    assert.rejects(scorer.sequences([[1, 2], ids]), (error: unknown) => {
      assert.ok(error instanceof UserError);
      assert.match(error.message, pattern);
      return true;
    });
  await refused(Array(65).fill(1), /sequence 1: it has 65 tokens, expected 2 to 64/);
  await refused([1], /sequence 1: it has 1 tokens/);
  await refused([1, 19], /sequence 1: token 19 is none of the model's 0 to 18/);
  tf.dispose(params);
});

Deno.test("padded lengths grow by a third or a half, so that few programs serve all lengths", () => {
  assert.deepEqual([1, 32, 33, 48, 49, 64, 65, 97, 500].map(paddedLength), [
    32,
    32,
    48,
    48,
    64,
    64,
    96,
    128,
    512,
  ]);
});

Deno.test("calls with any lengths and counts share a few programs", async () => {
  const params = initParams(config, 4);
  const scorer = new Scorer({ config, params }, { batchSize: 8 });
  for (const count of [1, 3, 8, 21, 50]) {
    const lengths = Array.from({ length: count }, (_, i) => 2 + (i * 13 + count) % 63);
    const scores = await scorer.sequences(sequencesOf(lengths));
    assert.deepEqual(scores.map((x) => x.length), lengths.map((length) => length - 1));
  }
  // 32, 48 and 64 columns; 1, 2, 4 and 8 rows.
  assert.ok(scorer.programs > 3 && scorer.programs <= 12, `${scorer.programs} programs`);
  const before = scorer.programs;
  await scorer.sequences(sequencesOf(Array.from({ length: 63 }, (_, i) => i + 2)));
  assert.ok(scorer.programs <= 12, `${scorer.programs} programs, ${before} before`);
  tf.dispose(params);
});
