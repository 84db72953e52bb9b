/**
 * Training and search with a real, tiny transformer: gradients that do not depend on padding, batch
 * order or the cut into micro-batches, and values that search reads as training wrote them.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  addValueHead,
  type GenerationRequest,
  Generator,
  hiddenStates,
  initParams,
  tokenLogProbs,
  VALUE_HEAD,
  values,
} from "../lm/mod.ts";
import { leavesOf, tf, toHost, useBackend } from "../xla/mod.ts";
import { collate, type CollateOptions } from "./batches.ts";
import type { Models } from "./gradients.ts";
import { languageNetworks } from "./networks.ts";
import { beamSearch } from "./search.ts";
import { assertClose, randomTrajectories, tinyConfig as config } from "./test_support.ts";
import { type Level, levels } from "./objectives/mod.ts";
import { oreoObjective, type OreoObjectiveOptions } from "./oreo_objective.ts";
import { pack, type PackShapes } from "./packing.ts";
import { objectiveGradients, upload } from "./trainer_programs.ts";
import { oreoStepPeak, trainOreo } from "./trainer_oreo.ts";
import { trainSft } from "./trainer_sft.ts";
import type { Trajectory } from "./trajectory.ts";

await useBackend();

const networks = languageNetworks(config);
const policy = initParams(config, 1);
const value = { ...addValueHead(config, policy), [VALUE_HEAD]: tf.ones([1, 16]).mul(0.1) };

const reference = initParams(config, 2);

/** Gradients of OREO's joint objective, summed over micro-batches, as one flat array. */
async function gradientOf(
  items: Trajectory[],
  options: Partial<CollateOptions> & { shapes?: PackShapes },
  level: Level,
  more: OreoObjectiveOptions = {},
) {
  const settings = { level, beta: 0.3, alpha: 0.1, ...more };
  const objective = oreoObjective("oreo", networks, settings);
  const models: Models = { policy, value };
  const states: "token" | "step" = level === "step" ? "step" : "token";
  const given = { padId: 0, buckets: [16], level: states, ...options };
  const { shapes } = given;
  const batches = shapes === undefined ? collate(items, given) : pack(items, { ...given, shapes });
  let total: Float64Array | undefined;
  for (const batch of batches) {
    const flat = tf.tidy(() => {
      const inputs = { models, constants: { reference }, memory: {} };
      const { grads } = objectiveGradients(objective, inputs, upload(batch));
      return tf.concat(leavesOf(grads).map((g) => g.flatten()));
    });
    const host = await flat.data();
    total ??= new Float64Array(host.length);
    host.forEach((x, i) => total![i]! += x);
  }
  return total!;
}

for (const level of levels) {
  Deno.test(`padding, batch order and micro-batches do not change the ${level}-level gradient`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(1000), fc.integer({ min: 1, max: 3 }), async (seed, microBatch) => {
        const items = randomTrajectories(5, seed);
        const expected = await gradientOf(items, {}, level);
        const scale = Math.max(...expected.map(Math.abs));
        const within = { absolute: 1e-5 * Math.max(1, scale) };
        const changes = {
          "more padding": gradientOf(items, { buckets: [24] }, level),
          "another order": gradientOf([...items].reverse(), {}, level),
          "micro-batches": gradientOf(items, { microBatch, buckets: [8, 16] }, level),
          "another padding token": gradientOf(items, { padId: 5 }, level),
        };
        for (const [what, changed] of Object.entries(changes)) {
          assertClose(await changed, expected, within, what);
        }
      }),
      { numRuns: 4 },
    );
  });
}

const packings: PackShapes[] = [
  { time: 16, most: 3, rows: [2, 4], sequences: 2, columns: 16, share: 0.5 },
  { time: 40, most: 2, rows: [1, 2, 3], sequences: 6, columns: 12, share: 0.9 },
  { time: 16, most: 8, rows: [8], sequences: 8, columns: 24, share: 1 },
];

for (const level of levels) {
  Deno.test(`packing several sequences into a row does not change the ${level}-level gradient`, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(1000),
        fc.constantFrom(...packings),
        fc.constantFrom(
          {},
          { kl: "exactReverse" as const },
          { importanceSampling: true, clipLogRatios: 1 },
        ),
        async (seed, shapes, more) => {
          const items = randomTrajectories(6, seed);
          const expected = await gradientOf(items, {}, level, more);
          const scale = Math.max(...expected.map(Math.abs));
          const packed = await gradientOf(items, { shapes }, level, more);
          assertClose(packed, expected, { absolute: 1e-5 * Math.max(1, scale) }, "packed");
        },
      ),
      { numRuns: 3 },
    );
  });
}

Deno.test("observation tokens get no loss: what follows the last action changes nothing", async () => {
  const [item] = randomTrajectories(1, 3);
  const responseIds = [2, 3, 4, 5, 6];
  const actionMask: (0 | 1)[] = [1, 1, 1, 0, 0];
  const of = (tail: number[]) =>
    gradientOf(
      [{ ...item!, responseIds: [...responseIds.slice(0, 3), ...tail], actionMask, stepEnds: [4] }],
      {},
      "token",
    );
  assert.deepEqual(await of([5, 6]), await of([9, 10]));
});

Deno.test("reference log-probabilities in the data stand for the reference model", async () => {
  const trajectories = randomTrajectories(6, 5).map(({ actionMask: _, ...t }) => t);
  const padded = trajectories.map(({ promptIds, responseIds }) =>
    Array.from({ length: 16 }, (_, i) => [...promptIds, ...responseIds][i] ?? 0)
  );
  const ids = tf.tensor2d(padded, undefined, "int32");
  const all = await tf.tidy(() => tokenLogProbs(config, reference, ids)).array();
  const scored = trajectories.map((t, i) => {
    const start = t.promptIds.length - 1;
    return { ...t, refLogProbs: all[i]!.slice(start, start + t.responseIds.length) };
  });
  const run = async (kl: "exact" | "k3") => {
    const { metrics } = await trainOreo(
      { networks, policy, value, reference, trajectories: scored },
      { kl, beta: 0.3, alpha: 0.5, batchSize: 6, steps: 1, seed: 0, padId: 0, maxLength: 32 },
    );
    return metrics;
  };
  const [exact, k3] = [await run("exact"), await run("k3")];
  for (const name of ["value_loss", "policy_loss", "kl_k3", "value_grad_norm"]) {
    assertClose([k3[name]!], [exact[name]!], { absolute: 1e-5, relative: 1e-4 }, name);
  }
  assert.equal(k3.kl, k3.kl_k3);
  assert.notEqual(exact.kl, exact.kl_k3);
});

Deno.test("rematerialisation plans less memory for a step", () => {
  const trajectories = randomTrajectories(8, 6);
  const peak = (rematerialise: boolean) =>
    oreoStepPeak(
      { networks: languageNetworks(config, { rematerialise }), policy, value, trajectories },
      { batchSize: 8, steps: 1, seed: 0, padId: 0, maxLength: 32 },
    );
  const [plain, again] = [peak(false), peak(true)];
  // Other backends plan no memory.
  assert.equal(again === undefined, tf.getBackend() !== "xla");
  if (plain !== undefined) assert.ok(again! < 0.9 * plain, `${again} of ${plain} bytes`);
});

Deno.test("SFT brings a transformer to repeat its demonstrations", async () => {
  const demonstrations = [[2, 3, 4, 5, 1], [6, 7, 8, 9, 1]].map((responseIds, i) => ({
    promptIds: [10 + i],
    responseIds,
  }));
  const { policy: trained, metrics } = await trainSft(networks.policy, policy, demonstrations, {
    learningRate: 1e-2,
    steps: 80,
    batchSize: 2,
    seed: 0,
    padId: 0,
    maxLength: 32,
  });
  assert.ok(metrics.loss! < 0.05, `loss ${metrics.loss}`);
  using generator = new Generator({ config, params: trained }, { slots: 2, maxLength: 16 });
  const answers = await generator.generate(
    demonstrations.map(({ promptIds }) => ({ promptIds, temperature: 0 })),
  );
  assert.deepEqual(answers.map(([a]) => a!.ids), demonstrations.map((d) => d.responseIds));
});

Deno.test("beam search ranks by the values that the value model computes for training", async () => {
  const problems = [3, 4, 5].map((id) => ({ promptIds: [id, 6], seed: id }));
  const search = async () => {
    using generator = new Generator({ config, params: policy }, {
      slots: 8,
      maxLength: 24,
      valueModel: { config, params: value },
    });
    // Without a tokenizer there are no stop strings: tokens 1 and 2 stand for the end and a line break.
    const stepwise = {
      maxLength: 24,
      generate: (requests: readonly GenerationRequest[]) =>
        generator.generate(requests.map(({ stop: _, ...r }) => ({ ...r, stopIds: [1, 2] }))),
    };
    return await beamSearch(stepwise, problems, { beams: 3, maxNewTokens: 20, endIds: [1] });
  };
  const results = await search();
  assert.deepEqual(results, await search());
  for (const [i, result] of results.entries()) {
    const ids = [...problems[i]!.promptIds, ...result.ids];
    const host = await toHost({
      v: tf.tidy(() =>
        values(value, hiddenStates(config, value, tf.tensor2d([ids], undefined, "int32")))
      ),
    });
    const start = problems[i]!.promptIds.length - 1;
    const expected = host.v.slice(start, start + result.ids.length);
    assertClose(result.values, expected, { absolute: 1e-4 }, `values of problem ${i}`);
    if (result.finish === "stop") {
      assertClose([result.value], [expected.at(-1)!], { absolute: 1e-4 }, "value at the end");
    }
  }
});
