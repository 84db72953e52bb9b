import assert from "node:assert/strict";
import { tf, useBackend } from "../xla/mod.ts";
import { parseConfig } from "./config.ts";
import { Generator } from "./generate.ts";
import { charTokenizer } from "./small_tokenizers.ts";
import { maxDifference } from "./test_support.ts";
import type { Job } from "./slots.ts";
import { addValueHead, initParams, VALUE_HEAD } from "./transformer.ts";
import { Turns } from "./turns.ts";

await useBackend();

const tokenizer = charTokenizer("0123456789+= abc\n");
const config = parseConfig({
  model_type: "qwen2",
  vocab_size: tokenizer.vocabSize,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 256,
  initializer_range: 0.4,
  tie_word_embeddings: true,
  eos_token_id: 1,
});
const model = { config, params: initParams(config, 5), tokenizer };

/** Conversations of several turns side by side; what each turn drew. */
async function converse(generator: Generator, conversations = 7, turns = 6) {
  return await Promise.all(
    Array.from({ length: conversations }, async (_, c) => {
      let promptIds = tokenizer.encode("a".repeat(1 + c) + " 12");
      const drawn = [];
      for (let turn = 0; turn < turns; turn++) {
        const request = { promptIds, seed: 100 * c + turn, maxNewTokens: 2 + (c + 3 * turn) % 7 };
        const [[one]] = await generator.generate([request]) as [[
          Awaited<
            ReturnType<Generator["generate"]>
          >[0][0],
        ]];
        drawn.push(one!);
        promptIds = [...promptIds, ...one!.ids, ...tokenizer.encode(`= ${turn}${c} `)];
      }
      return drawn;
    }),
  );
}

const sizes = { slots: 3, maxLength: 128, tokensPerDispatch: 4 };

Deno.test("turns that go on in their slot draw what whole prompts would", async () => {
  using plain = new Generator(model, sizes);
  using whole = new Generator(model, { ...sizes, whole: true });
  const resume = Turns.prototype.resume;
  let resumed = 0;
  Turns.prototype.resume = function (...args) {
    resumed++;
    return resume.apply(this, args);
  };
  let expected, found;
  try {
    [expected, found] = [await converse(plain), await converse(whole)];
  } finally {
    Turns.prototype.resume = resume;
  }
  assert.ok(resumed > 20, `${resumed} of 42 turns went on in their slot`);
  for (const [c, turns] of expected.entries()) {
    for (const [t, { ids, logProbs }] of turns.entries()) {
      assert.deepEqual(found[c]![t]!.ids, ids, `conversation ${c}, turn ${t}`);
      assert.ok(maxDifference(found[c]![t]!.logProbs, logProbs) < 1e-4);
    }
  }
});

Deno.test("values are read the same way in a slot that goes on", async () => {
  const params = { ...addValueHead(config, model.params) };
  params[VALUE_HEAD] = tf.randomNormal([1, 16], 0, 1, "float32", 3);
  const valueModel = { config, params };
  using plain = new Generator(model, { ...sizes, valueModel });
  using whole = new Generator(model, { ...sizes, valueModel, whole: true });
  const [expected, found] = [await converse(plain), await converse(whole)];
  for (const [c, turns] of expected.entries()) {
    for (const [t, { ids, values }] of turns.entries()) {
      assert.deepEqual(found[c]![t]!.ids, ids, `conversation ${c}, turn ${t}`);
      assert.equal(values!.length, ids.length + 1);
      assert.ok(maxDifference(found[c]![t]!.values!, values!) < 1e-4);
    }
  }
});

Deno.test("a slot is resumed only by what continues its sequence and still fits its ring", () => {
  const turns = new Turns(2, 16, 4);
  const job = (promptIds: number[], maxNewTokens = 2) =>
    ({ promptIds, maxNewTokens, ids: [] }) as unknown as Job;
  const first = job([1, 2, 3]);
  turns.begin(0, first, 2);
  turns.advance(2, 3, [3, 0]);
  turns.keep(0, { ...first, ids: [4, 5, 6] }, 5);
  assert.equal(turns.slotFor(job([1, 2, 3, 4, 5, 6, 7]), [0, 1]), 0);
  assert.equal(turns.slotFor(job([1, 2, 3, 4, 5]), [0, 1]), undefined, "nothing to feed");
  assert.equal(turns.slotFor(job([1, 2, 9, 4, 5, 6, 7]), [0, 1]), undefined, "another sequence");
  assert.equal(turns.slotFor(job([1, 2, 3, 4, 5, 6, 7], 20), [0, 1]), undefined, "no room");
  turns.advance(5, 9, [0, 9]);
  assert.equal(turns.slotFor(job([1, 2, 3, 4, 5, 6, 7]), [0, 1]), undefined, "overwritten soon");
});
