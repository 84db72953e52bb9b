/**
 * Known decision processes, solved exactly by soft value iteration: OREO at each level and DQO must find
 * the soft-optimal value and policy of one, and of any other these must be where nothing moves them.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { jit, leavesOf, tf, toHost, useBackend } from "../xla/mod.ts";
import { collate } from "./batches.ts";
import { gradientsOf } from "./gradients.ts";
import {
  chosenLogProbs,
  dqoLoss,
  type Level,
  levels,
  nextTokenDistributions,
} from "./objectives/mod.ts";
import { oreoObjective } from "./oreo_objective.ts";
import {
  adamInit,
  type AdamState,
  adamStep,
  adamUpdate,
  cosineRate,
  type NamedTensors,
} from "./optimizer.ts";
import { assertClose } from "./test_support.ts";
import {
  initialTables,
  prefixCount,
  prefixIndex,
  responses,
  tableNetworks,
  type Tables,
  trajectory,
} from "./test_tables.ts";
import { objectiveGradients, upload } from "./trainer_programs.ts";
import { trainOreo } from "./trainer_oreo.ts";
import type { Trajectory } from "./trajectory.ts";

await useBackend();

const tables: Tables = { actions: 2, horizon: 3 };
const beta = 0.5;
/** Chance of success of each response, in quarters; the data hold each response four times. */
const quarters = [1, 3, 0, 2, 4, 1, 2, 3];
const dataOf = (quarters: readonly number[]): Trajectory[] =>
  responses(tables).flatMap((response, leaf) =>
    [0, 1, 2, 3].map((i) => trajectory(response, i < quarters[leaf]! ? 1 : 0))
  );
const data = dataOf(quarters);

/** For the step level: a step of two tokens, and one of one. */
const inSteps = (items: Trajectory[]) => items.map((item) => ({ ...item, stepEnds: [1, 2] }));
/** Whether V of the prefix counts: at step level those within a step are no states. */
const isState = (prefix: number, level: Level) => level !== "step" || prefix === 0 || prefix > 2;

/**
 * V*(s) = β log Σ_a π_ref(a|s) exp(V*(s·a) / β) with V* of a whole response its chance of success, and
 * π*(a|s) = π_ref(a|s) exp((V*(s·a) − V*(s)) / β), by prefix.
 */
function softOptimal(reference: Float32Array, chances: readonly number[], beta: number) {
  const { actions, horizon } = tables;
  const values = new Float64Array(prefixCount(tables));
  const policy = new Float64Array(prefixCount(tables) * actions);
  const visit = (prefix: number[]): number => {
    const at = prefixIndex(tables, prefix);
    if (prefix.length === horizon) {
      const leaf = prefix.reduce((index, action) => index * actions + action, 0);
      return chances[leaf]! / 4;
    }
    const weights = Array.from(
      { length: actions },
      (_, a) => Math.exp(reference[at * actions + a]!),
    );
    const total = weights.reduce((sum, w) => sum + w, 0);
    const scaled = weights.map((w, a) => w / total * Math.exp(visit([...prefix, a]) / beta));
    const partition = scaled.reduce((sum, w) => sum + w, 0);
    scaled.forEach((w, a) => policy[at * actions + a] = w / partition);
    return values[at] = beta * Math.log(partition);
  };
  visit([]);
  return { values, policy };
}

const inner = prefixCount({ ...tables, horizon: tables.horizon - 1 });

async function assertSoftOptimal(
  learned: { policy: tf.Tensor; value: tf.Tensor },
  reference: tf.Tensor,
  level: Level = "token",
) {
  const expected = softOptimal(await reference.data() as Float32Array, quarters, beta);
  const host = await toHost({
    policy: tf.softmax(learned.policy as tf.Tensor2D),
    value: learned.value,
  });
  const within = { absolute: 0.01 };
  const probabilities = inner * tables.actions;
  assertClose(
    host.policy.slice(0, probabilities),
    expected.policy.slice(0, probabilities),
    within,
    "policy",
  );
  const states = [...Array(inner).keys()].filter((prefix) => isState(prefix, level));
  const at = (values: ArrayLike<number>) => states.map((prefix) => values[prefix]!);
  assertClose(at(host.value), at(expected.values), within, "V");
}

for (const level of levels) {
  Deno.test(`OREO at ${level} level finds the soft-optimal value and policy`, async () => {
    const { policy, value } = initialTables(tables);
    const result = await trainOreo({
      networks: tableNetworks(tables),
      policy,
      value,
      trajectories: level === "step" ? inSteps(data) : data,
    }, {
      level,
      beta,
      alpha: 0,
      policyLearningRate: 0.05,
      valueLearningRate: 0.05,
      batchSize: data.length,
      steps: 600,
      reportEvery: 100,
      adam: { maxGradNorm: Infinity },
      seed: 0,
      padId: 0,
      maxLength: 4,
      buckets: 1,
    });
    await assertSoftOptimal(
      { policy: result.policy.table!, value: result.value.table! },
      policy.table!,
      level,
    );
  });
}

Deno.test("DQO finds the soft-optimal value and policy", async () => {
  const { policy, value } = initialTables(tables);
  const networks = tableNetworks(tables);
  const ids = tf.tensor2d(data.map((t) => [0, ...t.responseIds]), undefined, "int32");
  const [batch, time] = ids.shape;
  const mask = tf.ones([batch, time - 1]) as tf.Tensor2D;
  const rewards = tf.tensor1d(data.map((t) => t.reward));
  const refLogProbs = networks.policy.logProbs(policy, ids);
  const step = jit((params: NamedTensors, state: AdamState, scalars: tf.Tensor1D) => {
    const { grads } = gradientsOf(() => {
      const logits = networks.policy.logits({ table: params.policy! }, ids);
      const values = networks.value.values({ table: params.value! }, ids);
      const loss = dqoLoss({
        values: values.slice([0, 0], [batch, time - 1]),
        logRatios: chosenLogProbs(nextTokenDistributions(logits), ids).sub(refLogProbs),
        actionMask: mask,
        stateMask: mask,
        rewards,
        beta,
      });
      return { loss, kept: [] };
    }, { params });
    return adamUpdate(params, grads.params!, state, scalars);
  });
  let params: NamedTensors = { policy: policy.table!, value: value.table! };
  let state = adamInit(params);
  for (let i = 0; i < 600; i++) {
    const rate = cosineRate(i, { totalSteps: 600, learningRate: 0.05 });
    ({ params, state } = step(params, state, adamStep(i + 1, rate)));
  }
  await assertSoftOptimal({ policy: params.policy!, value: params.value! }, policy.table!);
});

/** A process: rewards, what the reference does, the temperature, and a place beside the optimum. */
const processes = fc.record({
  chances: fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 8, maxLength: 8 }),
  reference: fc.array(fc.integer({ min: -10, max: 10 }), { minLength: 30, maxLength: 30 }),
  beta: fc.constantFrom(0.1, 0.5, 2),
  /** The prefix whose value, or whose first action's logit, is moved. */
  moved: fc.integer({ min: 0, max: inner - 1 }),
});

for (
  const [method, level] of [...levels.map((l) => ["oreo", l] as const), ["dqo", "token"] as const]
) {
  const name = method === "dqo" ? "DQO" : `OREO at ${level} level`;
  Deno.test(`${name} rests at the soft optimum of any process, and nowhere beside it`, async () => {
    const networks = tableNetworks(tables);
    await fc.assert(
      fc.asyncProperty(processes, async ({ chances, reference, beta, moved }) => {
        const table = Float32Array.from(reference, (x) => x / 10);
        const optimum = softOptimal(table, chances, beta);
        const count = prefixCount(tables);
        const objective = oreoObjective(method, networks, { level, beta, alpha: 0 });
        const states = level === "step" ? "step" : "token";
        const items = level === "step" ? inSteps(dataOf(chances)) : dataOf(chances);
        const [batch] = collate(items, { padId: 0, buckets: [4], level: states });
        /** The longest gradient entry of each model where logits and values are these. */
        const slope = async (logits: Float64Array, values: Float64Array) => {
          const grads = tf.tidy(() => {
            const models = {
              policy: { table: tf.tensor2d(Float32Array.from(logits), [count, 2]) },
              value: { table: tf.tensor2d(Float32Array.from(values), [count, 1]) },
            };
            const constants = { reference: { table: tf.tensor2d(table, [count, 2]) } };
            const inputs = { models, constants, memory: {} };
            return objectiveGradients(objective, inputs, upload(batch!)).grads;
          });
          const host = await toHost({ policy: grads.policy!.table!, value: grads.value!.table! });
          leavesOf(grads).forEach((tensor) => tensor.dispose());
          const longest = (xs: ArrayLike<number>) => Math.max(...Array.from(xs, Math.abs));
          return { policy: longest(host.policy), value: longest(host.value) };
        };
        const logits = optimum.policy.map((p) => Math.log(p > 0 ? p : 1));
        const rest = await slope(logits, optimum.values);
        assert.ok(rest.policy < 3e-6 && rest.value < 3e-6, JSON.stringify(rest));

        const values = optimum.values.slice();
        values[moved]! += 0.1;
        const { value } = await slope(logits, values);
        assert.equal(value > 1e-4, isState(moved, level), `V of prefix ${moved}: ${value}`);
        logits[2 * moved]! += 1;
        const beside = await slope(logits, optimum.values);
        // At response level the first state's equation alone moves the policy.
        assert.ok(beside.policy > 1e-6 && beside.policy > 3 * rest.policy, JSON.stringify(beside));
      }),
      { numRuns: 12, seed: 1 },
    );
  });
}
