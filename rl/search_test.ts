import assert from "node:assert/strict";
import type { Generation, GenerationRequest } from "../lm/mod.ts";
import { beamSearch, bestOfK, type ValuedGenerator } from "./search.ts";

/** Tokens 1 to 3 are steps, 0 ends the response; a response has three steps, then the end. */
const end = 0;

/**
 * A generator whose proposals are every step in turn, whose V is a table by prefix, and which keeps the
 * requests that it was given.
 */
class TableGenerator implements ValuedGenerator {
  readonly maxLength = 8;
  readonly rounds: GenerationRequest[][] = [];

  constructor(readonly value: (prefix: readonly number[]) => number) {}

  generate(requests: readonly GenerationRequest[]): Promise<Generation[][]> {
    this.rounds.push([...requests]);
    return Promise.resolve(
      requests.map((request) =>
        Array.from({ length: request.n ?? 1 }, (_, i): Generation => {
          const prefix = request.promptIds.slice(1);
          const next = prefix.length === 3 ? end : 1 + (i + (request.seed ?? 0)) % 3;
          const whole = [...prefix, next];
          // V after the end token is noise that search must not read.
          const last = next === end ? 99 : this.value(whole);
          const finish = next !== end && request.maxNewTokens === 1 ? "length" : "stop";
          return {
            ids: [next],
            text: "",
            logProbs: [0],
            values: [this.value(prefix), last],
            finish,
          };
        })
      ),
    );
  }
}

const problem = { promptIds: [7], seed: 1 };

Deno.test("beams as wide as the tree find the response with the highest V", async () => {
  const value = (prefix: readonly number[]) => Math.sin(prefix.reduce((h, x) => h * 5 + x, 1));
  const generator = new TableGenerator(value);
  const [found] = await beamSearch(generator, [problem], { beams: 27, endIds: [end] });
  const leaves = [1, 2, 3].flatMap((a) =>
    [1, 2, 3].flatMap((b) => [1, 2, 3].map((c) => [a, b, c]))
  );
  const best = leaves.reduce((x, y) => value(y) > value(x) ? y : x);
  assert.deepEqual(found!.ids, [...best, end]);
  assert.equal(found!.value, value(best));
  assert.deepEqual(found!.values, [[], best.slice(0, 1), best.slice(0, 2), best].map(value));
  assert.deepEqual(found!.stepEnds, [0, 1, 2, 3]);
  assert.equal(found!.finish, "stop");
});

Deno.test("narrow beams drop what looks worse early", async () => {
  // Step 1 looks bad and leads to the best end; B = 1 cannot see that, whatever it proposes.
  const value = (prefix: readonly number[]) =>
    prefix.length < 3 ? (prefix[0] === 1 ? 0 : 0.5) : prefix[0] === 1 ? 1 : 0.4;
  const search = (beams: number) =>
    beamSearch(new TableGenerator(value), [problem], { beams, proposals: 3, endIds: [end] });
  assert.notEqual((await search(1))[0]!.ids[0], 1);
  assert.equal((await search(9))[0]!.ids[0], 1);
});

Deno.test("each round proposes B steps for each of B beams, B squared at the start, without repeats", async () => {
  const generator = new TableGenerator((prefix) => prefix.length);
  await beamSearch(generator, [problem], { beams: 2, endIds: [end], temperature: 0.7, topK: 4 });
  assert.deepEqual(generator.rounds.map((round) => round.map((r) => r.n)), [
    [4],
    [2, 2],
    [2, 2],
    [2, 2],
  ]);
  for (const [i, round] of generator.rounds.entries()) {
    const prompts = round.map((r) => r.promptIds.join());
    assert.equal(new Set(prompts).size, prompts.length);
    assert.ok(round.every((r) => r.promptIds.length === i + 1 && r.temperature === 0.7));
    assert.ok(round.every((r) => r.topK === 4 && r.stop![0] === "\n" && r.stopIds![0] === end));
  }
  const seeds = generator.rounds.flat().map((r) => r.seed);
  assert.equal(new Set(seeds).size, seeds.length);
});

Deno.test("problems advance together and do not affect each other", async () => {
  const value = (prefix: readonly number[]) => Math.sin(prefix.reduce((h, x) => h * 5 + x, 1));
  const problems = [1, 2, 3].map((seed) => ({ promptIds: [7], seed }));
  const options = { beams: 3, endIds: [end] };
  const generator = new TableGenerator(value);
  const together = await beamSearch(generator, problems, options);
  assert.equal(generator.rounds.length, 4);
  for (const [i, p] of problems.entries()) {
    assert.deepEqual(await beamSearch(new TableGenerator(value), [p], options), [together[i]]);
  }
});

Deno.test("a response that is cut off ranks below one that ends, and is the answer only alone", async () => {
  const generator = new TableGenerator(() => 1);
  const [cut] = await beamSearch(generator, [problem], {
    beams: 2,
    maxNewTokens: 2,
    endIds: [end],
  });
  assert.equal(cut!.finish, "length");
  assert.equal(cut!.ids.length, 2);
  const mixed: ValuedGenerator = {
    maxLength: 8,
    generate: () =>
      Promise.resolve([[
        { ids: [1, 2], text: "", logProbs: [0, 0], values: [0, 0, 5], finish: "length" },
        { ids: [3, end], text: "", logProbs: [0, 0], values: [0, 0.1, 99], finish: "stop" },
      ]]),
  };
  const [ended] = await beamSearch(mixed, [problem], { beams: 2, endIds: [end] });
  assert.deepEqual(ended!.ids, [3, end]);
});

Deno.test("an aborted search stops", async () => {
  const controller = new AbortController();
  const reason = new Error("stopped by the test");
  const generator: ValuedGenerator = {
    maxLength: 8,
    generate: (_, options) => {
      options?.signal?.throwIfAborted();
      return Promise.reject(new Error("the signal was not handed on"));
    },
  };
  controller.abort(reason);
  const search = beamSearch(generator, [problem], {
    beams: 2,
    endIds: [end],
    signal: controller.signal,
  });
  await assert.rejects(search, reason);
});

Deno.test("best of K takes the action whose end has the highest V", async () => {
  const generator = new TableGenerator((prefix) => prefix.at(-1) === 2 ? 0.9 : 0.1);
  const [action] = await bestOfK(generator, [problem], { k: 3, endIds: [end] });
  assert.deepEqual(action!.ids, [2]);
  assert.equal(action!.value, 0.9);
  const finished = { promptIds: [7, 1, 1, 2], seed: 0 };
  const [last] = await bestOfK(generator, [finished], { k: 2, endIds: [end] });
  assert.deepEqual([last!.ids, last!.value], [[end], 0.9]);
});

Deno.test("a generator without a value model is refused", async () => {
  const generator: ValuedGenerator = {
    maxLength: 8,
    generate: () => Promise.resolve([[{ ids: [1], text: "", logProbs: [0], finish: "stop" }]]),
  };
  const search = beamSearch(generator, [problem], { beams: 1, endIds: [end] });
  await assert.rejects(search, /needs a generator with a value model/);
});
