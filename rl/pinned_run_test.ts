/**
 * A pinned run: fifty steps of OREO on a tiny transformer with the losses and gradient norms that they
 * had, and the same run in every way that must not change it: packed, rematerialised, in micro-batches,
 * over several devices.
 */
import assert from "node:assert/strict";
import { addValueHead, initParams, VALUE_HEAD } from "../lm/mod.ts";
import { tf, useBackend } from "../xla/mod.ts";
import { languageNetworks } from "./networks.ts";
import { assertClose, randomTrajectories, tinyConfig } from "./test_support.ts";
import { disposeModels } from "./trainer.ts";
import { type OreoOptions, trainOreo } from "./trainer_oreo.ts";

const backend = await useBackend(undefined, { cpuDevices: 4 });

const config = { ...tinyConfig, numLayers: 1 };
const policy = initParams(config, 1);
const value = { ...addValueHead(config, policy), [VALUE_HEAD]: tf.ones([1, 16]).mul(0.1) };
const trajectories = randomTrajectories(24, 0);

const traced = ["value_loss", "policy_loss", "kl", "value_grad_norm", "policy_grad_norm"];

/** What `traced` are after each step. */
async function run(more: Partial<OreoOptions> = {}, rematerialise = false): Promise<number[][]> {
  const trace: number[][] = [];
  const result = await trainOreo({
    networks: languageNetworks(config, { rematerialise }),
    policy,
    value,
    trajectories,
  }, {
    beta: 0.1,
    alpha: 0.01,
    policyLearningRate: 3e-3,
    valueLearningRate: 3e-3,
    batchSize: 8,
    steps: 50,
    seed: 0,
    padId: 0,
    maxLength: 32,
    buckets: 1,
    window: 1,
    devices: 1,
    onMetrics: (_, metrics) => trace.push(traced.map((name) => metrics[name]!)),
    ...more,
  });
  disposeModels({ policy: result.policy, value: result.value });
  return trace;
}

/** What `traced` were in the pinned run, by step. */
const pinned: Record<number, number[]> = {
  10: [0.152986, 0.152986, 0.0977444, 0.999327, 0.161209],
  20: [0.0657672, 0.0657672, 0.235664, 0.677125, 0.106874],
  30: [0.0240554, 0.0240554, 0.341257, 0.280148, 0.0588742],
  40: [0.0329051, 0.0329051, 0.417832, 0.220058, 0.0585042],
  50: [0.0288762, 0.0288762, 0.342243, 0.196187, 0.0429243],
};

let first: Promise<number[][]> | undefined;
/** The run as it is pinned: padded, whole batches, one device. */
const plain = () => first ??= run();

Deno.test("a pinned run of 50 steps has the losses and gradient norms that it had", async () => {
  const trace = await plain();
  assert.equal(trace.length, 50);
  for (const [step, expected] of Object.entries(pinned)) {
    const within = { absolute: 1e-5, relative: 1e-3 };
    assertClose(trace[Number(step) - 1]!, expected, within, `[${traced}] of step ${step}`);
  }
});

/**
 * How far every figure of every step may be from the plain run's. The differences are those of sums
 * taken in another order; fifty steps on, they were at most 2e-5 of a figure.
 */
const tolerance = { absolute: 1e-6, relative: 1e-4 };

const variants: Record<string, { options: Partial<OreoOptions>; rematerialise?: boolean }> = {
  "layers computed again in the backward pass": { options: {}, rematerialise: true },
  "packed rows": { options: { packing: {} } },
  "gradients accumulated over two micro-batches": { options: { microBatch: 4 } },
  "gradients accumulated over four micro-batches": { options: { microBatch: 2 } },
  "two devices": { options: { devices: 2 } },
  "four devices": { options: { devices: 4 } },
  "all of it: four devices, packed rows, micro-batches, layers computed again": {
    options: { devices: 4, packing: {}, microBatch: 4 },
    rematerialise: true,
  },
};

for (const [name, { options, rematerialise }] of Object.entries(variants)) {
  const lacking = (options.devices ?? 1) > backend.devices;
  Deno.test({
    name: `each step of the pinned run is the same with ${name}` +
      (lacking ? ` (needs more devices than the ${backend.name} backend's one)` : ""),
    ignore: lacking,
    fn: async () => {
      const expected = await plain();
      for (const [i, found] of (await run(options, rematerialise)).entries()) {
        assertClose(found, expected[i]!, tolerance, `[${traced}] of step ${i + 1}`);
      }
    },
  });
}
