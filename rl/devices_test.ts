/**
 * Training over several devices, here of XLA's CPU plugin: what a run leaves for another number of
 * devices, what each device holds, and rows that do not divide. That every step's figures are those of
 * one device is in `pinned_run_test.ts`.
 */
import assert from "node:assert/strict";
import { addValueHead, initParams } from "../lm/mod.ts";
import { tf, toHost, useBackend } from "../xla/mod.ts";
import { languageNetworks } from "./networks.ts";
import { assertClose, randomTrajectories, tinyConfig, withFolder } from "./test_support.ts";
import { initialTables, responses, tableNetworks, trajectory } from "./test_tables.ts";
import { disposeModels } from "./trainer.ts";
import { type OreoOptions, oreoStepPeak, trainOreo } from "./trainer_oreo.ts";
import { trainDpo, trainKto } from "./trainer_preference.ts";

const backend = await useBackend(undefined, { cpuDevices: 4 });

function deviceTest(name: string, fn: () => void | Promise<void>): void {
  const ignore = backend.devices < 4;
  const why = ` (needs four devices, the ${backend.name} backend has ${backend.devices})`;
  Deno.test({ name: ignore ? name + why : name, ignore, fn });
}

const config = { ...tinyConfig, numLayers: 1 };
const networks = languageNetworks(config);
const policy = initParams(config, 1);
const value = addValueHead(config, policy);
const trajectories = randomTrajectories(13, 0);

const options: OreoOptions = {
  beta: 0.1,
  policyLearningRate: 3e-3,
  valueLearningRate: 3e-3,
  batchSize: 5,
  steps: 9,
  warmupSteps: 1,
  reportEvery: 1,
  seed: 0,
  padId: 0,
  maxLength: 32,
  buckets: 1,
};

async function start(more: Partial<OreoOptions>) {
  const result = await trainOreo({ networks, policy, value, trajectories }, {
    ...options,
    ...more,
  });
  const host = await toHost({ policy: result.policy, value: result.value });
  disposeModels({ policy: result.policy, value: result.value });
  return host;
}

type Trained = Awaited<ReturnType<typeof start>>;

/** Rounding alone parts the two: Adam's steps are 3e-3 for each, whatever the gradient's size. */
function assertSame(found: Trained, expected: Trained, what: string): void {
  for (const model of ["policy", "value"] as const) {
    for (const [name, x] of Object.entries(expected[model])) {
      assertClose(found[model][name]!, x, { absolute: 1e-4 }, `${what}: ${model} ${name}`);
    }
  }
}

/** Runs until the device has done `steps`, as a process that dies then. */
async function stopped(steps: number, more: Partial<OreoOptions>): Promise<void> {
  const reason = new Error("stopped by the test");
  const onMetrics = (step: number) => {
    if (step === steps) throw reason;
  };
  await assert.rejects(start({ ...more, onMetrics }), reason);
}

const kept = { emaDecay: 0.9, klTarget: { target: 0.01 } };

for (
  const [shared, changes] of [
    [kept, [[4, 2], [2, 1], [1, 4], [4, 4]]],
    [{ packing: {} }, [[4, 2]]],
  ] as const
) {
  deviceTest(
    `a run begun on some devices ends on others as on one (${Object.keys(shared)})`,
    async () => {
      const expected = await start({ ...shared, devices: 1 });
      const whole = await start({ ...shared, devices: 4 });
      assertSame(whole, expected, "4 devices");
      for (const [from, to] of changes) {
        await withFolder(async (folder) => {
          const more = { ...shared, checkpoints: { folder, every: 4 } };
          await stopped(6, { ...more, devices: from });
          const found = await start({ ...more, devices: to });
          if (from === to) assert.deepEqual(found, whole, "the same bytes on as many devices");
          else assertSame(found, expected, `${from} devices, then ${to}`);
        });
      }
    },
  );
}

deviceTest("each device holds its part of parameters, gradients and moments", () => {
  const wide = { ...config, hiddenSize: 64, intermediateSize: 256, headDim: 16 };
  const params = initParams(wide, 1);
  const critic = addValueHead(wide, params);
  const trained = [params, critic].flatMap((p) => Object.values(p))
    .reduce((sum, { size }) => sum + 4 * size, 0);
  const peak = (devices: number) =>
    oreoStepPeak(
      { networks: languageNetworks(wide), policy: params, value: critic, trajectories },
      { ...options, devices, batchSize: 4, microBatch: 2 },
    )!;
  // The models, two moments, the accumulated gradients, and the reference, half of the models.
  const state = 4.5 * trained;
  const [one, four] = [peak(1), peak(4)];
  assert.ok(one > state, `${one} bytes, of which the state takes ${state}`);
  // Three quarters of it are elsewhere; weights come together where they are used.
  assert.ok(one - four > 0.5 * state, `${four} of ${one} bytes on each of four devices`);
});

deviceTest("devices that the backend does not have are refused with what to set", async () => {
  await assert.rejects(start({ devices: 8 }), /takes 8 devices, there are 4.*XLA_CPU_DEVICES=8/);
});

deviceTest("no tensor stays behind, and the inputs are as they were", async () => {
  const before = await toHost({ policy, value });
  const tensors = tf.memory().numTensors;
  const result = await trainOreo({ networks, policy, value, trajectories }, {
    ...options,
    steps: 3,
    devices: 2,
    evaluation: { every: 1, score: (_, step) => Promise.resolve(-step) },
  });
  const trained = Object.keys(result.policy).length + Object.keys(result.value).length;
  assert.equal(tf.memory().numTensors - tensors, trained);
  assert.deepEqual(await toHost({ policy, value }), before);
});

const tables = { actions: 3, horizon: 3 };
const graded = responses(tables).map((r, i) => trajectory(r, i % 3 === 0 ? 1 : 0));

for (const [name, trainOn] of [["DPO", trainDpo], ["KTO", trainKto]] as const) {
  deviceTest(`${name}: twins stay together on an odd number of devices`, async () => {
    const { policy } = initialTables(tables);
    const run = async (devices: number) => {
      const trace: number[][] = [];
      const names = ["loss", "policy_grad_norm", "reference_point", "margin", "right_log_ratio"];
      await trainOn(tableNetworks(tables).policy, policy, graded, {
        learningRate: 0.05,
        steps: 6,
        batchSize: 6,
        microBatch: 4,
        seed: 0,
        padId: 0,
        maxLength: 4,
        devices,
        onMetrics: (_, metrics) => trace.push(names.map((name) => metrics[name] ?? 0)),
      });
      return trace.flat();
    };
    assertClose(await run(3), await run(1), { absolute: 1e-5 }, "metrics");
  });
}
