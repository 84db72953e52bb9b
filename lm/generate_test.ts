import assert from "node:assert/strict";
import { jit, tf, useBackend } from "../xla/mod.ts";
import { Generator } from "./generate.ts";
import type { Generation, GenerationRequest, GenerationUpdate } from "./requests.ts";
import {
  addValueHead,
  hiddenStates,
  initParams,
  type Params,
  VALUE_HEAD,
  values,
} from "./transformer.ts";
import { Scorer } from "./score.ts";
import { charTokenizer } from "./small_tokenizers.ts";
import { maxDifference, tinyConfig } from "./test_support.ts";
import { UserError } from "../errors.ts";

await useBackend();

const tokenizer = charTokenizer("0123456789+= abc\n");
const config = tinyConfig({
  vocab_size: tokenizer.vocabSize,
  max_position_embeddings: 256,
  initializer_range: 0.4,
  eos_token_id: 1,
});
const params = initParams(config, 5);
const model = { config, params, tokenizer };
const sizes = { slots: 3, maxLength: 40, tokensPerDispatch: 8 };
const prompts = ["1+1=", "2", "12+34=", "a b c ", "9 9"].map((text) => tokenizer.encode(text));

function requests(change: Partial<GenerationRequest> = {}): GenerationRequest[] {
  return prompts.map((promptIds, i) => ({ promptIds, seed: 10 + i, maxNewTokens: 20, ...change }));
}

Deno.test("the same request gives the same ids in any batch, slot and number of slots", async () => {
  using three = new Generator(model, sizes);
  using one = new Generator(model, { ...sizes, slots: 1, tokensPerDispatch: 5 });
  const together = await three.generate(requests());
  const again = await three.generate(requests().toReversed());
  const alone = await one.generate(requests());
  const ids = (results: typeof together) => results.map(([sample]) => sample!.ids);
  assert.deepEqual(ids(again).toReversed(), ids(together));
  assert.deepEqual(ids(alone), ids(together));
});

Deno.test("samples of one request differ, and each is that of the seed and its number", async () => {
  using generator = new Generator(model, sizes);
  const [four] = await generator.generate([{ ...requests()[0]!, n: 4, stopIds: [] }]);
  const [two] = await generator.generate([{ ...requests()[0]!, n: 2, stopIds: [] }]);
  assert.equal(new Set(four!.map((sample) => sample.ids.join())).size, 4);
  assert.deepEqual(two!.map((sample) => sample.ids), four!.slice(0, 2).map((s) => s.ids));
});

Deno.test("log-probabilities equal the scorer's on the same tokens", async () => {
  using generator = new Generator(model, sizes);
  const results = await generator.generate(requests({ temperature: 0.7, topK: 5, topP: 0.9 }));
  const scored = await new Scorer({ config, params }).responses(
    results.map(([sample], i) => ({ promptIds: prompts[i]!, responseIds: sample!.ids })),
  );
  for (const [i, [sample]] of results.entries()) {
    assert.ok(maxDifference(sample!.logProbs, scored[i]!) <= 1e-5);
  }
});

Deno.test("a ring that grows with its sequences, and one that wraps, change nothing", async () => {
  const value = { config, params: addValueHead(config, initParams(config, 6)) };
  value.params[VALUE_HEAD] = tf.ones([1, config.hiddenSize]);
  const grows = { slots: 3, maxLength: 200, tokensPerDispatch: 50, valueModel: value };
  using generator = new Generator(model, grows);
  const long = requests({ stopIds: [], maxNewTokens: 150 }).slice(0, 3);
  // More requests than slots start in a ring of the last size, which wraps.
  const many = requests({ stopIds: [], maxNewTokens: 90, n: 2 });
  const results = [...await generator.generate(long), ...await generator.generate(many)];
  const again = await generator.generate(long);
  assert.deepEqual(again, results.slice(0, 3));
  const prompt = (i: number) => [...long, ...many][i]!.promptIds;
  const samples = results.flatMap((list, i) => list.map((sample) => ({ sample, i })));
  const scored = await new Scorer({ config, params }).responses(
    samples.map(({ sample, i }) => ({ promptIds: prompt(i), responseIds: sample.ids })),
  );
  for (const [k, { sample }] of samples.entries()) {
    assert.ok(maxDifference(sample.logProbs, scored[k]!) <= 1e-5, `sample ${k}`);
    assert.equal(sample.values!.length, sample.ids.length + 1);
  }
});

Deno.test("a value model reads every prefix, from the prompt to the whole sequence", async () => {
  const value: Params = addValueHead(config, initParams(config, 6));
  value[VALUE_HEAD] = tf.randomNormal([1, config.hiddenSize], 0, 1, "float32", 3);
  using generator = new Generator(model, { ...sizes, valueModel: { config, params: value } });
  // Ends by token, by length and by a stop string that spans tokens.
  const batch = [...requests({ n: 2 }), ...requests({ stopIds: [], stop: ["1 ", "ab", "="] })];
  const results = await generator.generate(batch);
  const read = jit((params: Params, ids: tf.Tensor2D) =>
    values(params, hiddenStates(config, params, ids))
  );
  for (const [i, samples] of results.entries()) {
    for (const sample of samples) {
      assert.equal(sample.values!.length, sample.ids.length + 1);
      const { promptIds } = batch[i]!;
      // Padding on the right changes nothing before it, and one length needs one program.
      const ids = new Int32Array(sizes.maxLength);
      ids.set([...promptIds, ...sample.ids]);
      const all = await read(value, tf.tensor2d(ids, [1, ids.length], "int32")).data<"float32">();
      const want = all.slice(promptIds.length - 1, promptIds.length + sample.ids.length);
      const scale = want.reduce((top, v) => Math.max(top, Math.abs(v)), 1);
      const difference = maxDifference(sample.values!, want) / scale;
      assert.ok(difference <= 1e-5, `values of request ${i} differ by ${difference}`);
    }
  }
});

Deno.test("generation ends at an end token, which is kept in ids and left out of text", async () => {
  using generator = new Generator(model, sizes);
  const results = (await generator.generate(requests({ n: 8 }))).flat();
  const stopped = results.filter((sample) => sample.finish === "stop");
  assert.ok(stopped.length > 0 && stopped.length < results.length, "both endings occur");
  for (const sample of results) {
    const end = sample.ids.indexOf(tokenizer.eosId);
    assert.equal(end, sample.finish === "stop" ? sample.ids.length - 1 : -1);
    assert.equal(sample.text, tokenizer.decode(sample.ids, { skipSpecialTokens: true }));
    assert.ok(!sample.text.includes("<eos>"));
    if (sample.finish === "length") assert.equal(sample.ids.length, 20);
  }
});

Deno.test("a stop string ends the text with its last token, however the tokens cut it", async () => {
  using generator = new Generator(model, sizes);
  const free = (await generator.generate(requests({ n: 6, stopIds: [] }))).flat();
  for (const stop of [["1"], ["a", "+"], ["12", "b "]]) {
    const cut = (await generator.generate(requests({ n: 6, stopIds: [], stop }))).flat();
    for (const [i, sample] of cut.entries()) {
      const text = free[i]!.text;
      const ends = stop.filter((s) => text.includes(s)).map((s) => text.indexOf(s) + s.length);
      const end = ends.length === 0 ? text.length : Math.min(...ends);
      assert.equal(sample.text, text.slice(0, end));
      assert.equal(sample.finish, ends.length === 0 ? "length" : "stop");
      assert.equal(sample.logProbs.length, sample.ids.length);
    }
  }
});

Deno.test("temperature 0 ignores seed, top-k 1 equals it, and both mix with random requests", async () => {
  using generator = new Generator(model, sizes);
  const greedy = await generator.generate(requests({ temperature: 0, seed: 1 }));
  const other = await generator.generate(requests({ temperature: 0, seed: 2 }));
  const topOne = await generator.generate(requests({ topK: 1 }));
  const mixed = await generator.generate([
    ...requests({ temperature: 0 }),
    ...requests({ temperature: 1.5, topP: 0.8 }),
  ]);
  const ids = (results: typeof greedy) => results.map(([sample]) => sample!.ids);
  assert.deepEqual(ids(other), ids(greedy));
  assert.deepEqual(ids(topOne), ids(greedy));
  assert.deepEqual(ids(mixed).slice(0, prompts.length), ids(greedy));
});

Deno.test("nothing is left on the device after a generator is disposed", async () => {
  const before = tf.memory().numTensors;
  {
    using generator = new Generator(model, sizes);
    await generator.generate(requests());
    const during = tf.memory().numTensors;
    await generator.generate(requests());
    assert.equal(tf.memory().numTensors, during);
  }
  assert.equal(tf.memory().numTensors, before);
});

Deno.test("an impossible request is refused with its number, the value and the bound", async () => {
  using generator = new Generator(model, sizes);
  const refused = (change: Partial<GenerationRequest>, pattern: RegExp) =>
    assert.rejects(
      generator.generate([requests()[0]!, { ...requests()[1]!, ...change }]),
      (error) => {
        assert.ok(error instanceof UserError);
        assert.match(error.message, pattern);
        return true;
      },
    );
  await refused({ promptIds: [] }, /request 1: the prompt has no tokens/);
  await refused({ promptIds: [999] }, /request 1: token 999 is not in the vocabulary of 19/);
  await refused({ maxNewTokens: 60 }, /1 prompt tokens and 60 new ones do not fit maxLength 40/);
  await refused({ temperature: NaN }, /temperature must be 0 or more, found NaN/);
  await refused({ topP: 0 }, /topP must be in \(0, 1\], found 0/);
  await refused({ topK: 1.5 }, /topK must be a non-negative integer, found 1.5/);
  await refused({ seed: -1 }, /seed must be a non-negative integer, found -1/);
  await refused({ n: 0 }, /n must be a positive integer, found 0/);
  await refused({ minP: 2 }, /minP must be in \[0, 1\], found 2/);
  await refused({ repetitionPenalty: 0 }, /repetitionPenalty must be positive, found 0/);
  await refused({ stop: [""] }, /a stop string is empty/);
  assert.throws(() => new Generator(model, { slots: 0 }), /slots must be a positive integer/);
});

Deno.test("an aborted signal stops generation", async () => {
  using generator = new Generator(model, sizes);
  const signal = AbortSignal.abort(new Error("enough"));
  await assert.rejects(generator.generate(requests(), { signal }), /enough/);
});

Deno.test("calls made while others run share the slots and get what they would get alone", async () => {
  using generator = new Generator(model, { ...sizes, tokensPerDispatch: 4 });
  using open = new Generator(model, { ...sizes, tokensPerDispatch: 4, open: true });
  const ids = (results: Generation[][]) => results.map(([sample]) => sample!.ids);
  const alone = ids(await generator.generate(requests()));
  for (const shared of [generator, open]) {
    const calls: Promise<Generation[][]>[] = [];
    // Each call starts another when its first tokens come.
    const ask = (i: number) => {
      calls[i] = shared.generate([requests()[i]!], {
        onTokens: () => {
          if (i + 1 < prompts.length && calls[i + 1] === undefined) ask(i + 1);
        },
      });
    };
    ask(0);
    for (let i = 0; i < prompts.length; i++) {
      assert.deepEqual(ids(await calls[i]!), [alone[i]]);
    }
  }
});

Deno.test("tokens are reported as they come, the finish with the last of them", async () => {
  using generator = new Generator(model, sizes);
  const updates: GenerationUpdate[] = [];
  const results = await generator.generate(requests({ n: 2 }), {
    onTokens: (update) => updates.push(update),
  });
  for (const [request, samples] of results.entries()) {
    for (const [sample, { ids, logProbs, finish }] of samples.entries()) {
      const own = updates.filter((u) => u.request === request && u.sample === sample);
      assert.deepEqual(own.flatMap((update) => update.ids), ids);
      assert.deepEqual(own.flatMap((update) => update.logProbs), logProbs);
      assert.deepEqual(
        own.map((update) => update.finish),
        own.map((_, i) => i === own.length - 1 ? finish : undefined),
      );
    }
  }
});

Deno.test("an aborted call ends, and the others go on", async () => {
  using generator = new Generator(model, { ...sizes, tokensPerDispatch: 2 });
  const alone = await generator.generate(requests({ stopIds: [] }));
  const stop = new AbortController();
  const first = generator.generate(requests({ stopIds: [] }), {
    signal: stop.signal,
    onTokens: () => stop.abort(new Error("no more")),
  });
  const second = generator.generate(requests({ stopIds: [] }));
  await assert.rejects(first, /no more/);
  assert.deepEqual(await second, alone);
});

Deno.test("a repetition penalty counts prompt and new tokens, min-p leaves the likely ones", async () => {
  using generator = new Generator(model, sizes);
  const greedy = { temperature: 0, stopIds: [], maxNewTokens: 16 };
  const [plain] = await generator.generate([{ ...requests()[0]!, ...greedy }]);
  const [varied] = await generator.generate([
    { ...requests()[0]!, ...greedy, repetitionPenalty: 1e6 },
  ]);
  // With such a penalty nothing comes twice while there is something new, of positive score at least.
  const distinct = (ids: readonly number[]) => new Set(ids).size;
  assert.ok(distinct(varied![0]!.ids) > distinct(plain![0]!.ids));
  const first = varied![0]!.ids[0]!;
  assert.ok(!requests()[0]!.promptIds.includes(first), "the prompt's tokens are penalised");
  const [likely] = await generator.generate([{ ...requests()[0]!, minP: 1, stopIds: [] }]);
  const [best] = await generator.generate([
    { ...requests()[0]!, temperature: 0, stopIds: [] },
  ]);
  assert.deepEqual(likely![0]!.ids, best![0]!.ids);
});
