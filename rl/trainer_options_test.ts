/** What the trainer can do beside the paper's run: each option does what it says, and resumes. */
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { tf, toHost, useBackend } from "../xla/mod.ts";
import { assertClose, withFolder } from "./test_support.ts";
import { initialTables, responses, tableNetworks, type Tables, trajectory } from "./test_tables.ts";
import { oreoObjective } from "./oreo_objective.ts";
import { type OreoOptions, trainOreo } from "./trainer_oreo.ts";
import { trainDpo, trainKto } from "./trainer_preference.ts";
import { trainRejectionSampling, trainSft } from "./trainer_sft.ts";
import type { Trajectory } from "./trajectory.ts";

await useBackend();

const tables: Tables = { actions: 3, horizon: 3 };
const data: Trajectory[] = responses(tables)
  .map((r, i) => trajectory(r, i % 3 === 0 ? 1 : 0));
const networks = tableNetworks(tables);
const start = initialTables(tables);

const options: OreoOptions = {
  beta: 0.3,
  policyLearningRate: 0.02,
  valueLearningRate: 0.05,
  batchSize: 9,
  epochs: 4,
  reportEvery: 1,
  seed: 7,
  padId: 0,
  maxLength: 4,
};

type Trace = Record<string, number>[];

async function train(
  { trajectories = data, ...more }: Partial<OreoOptions> & { trajectories?: Trajectory[] },
) {
  const trace: Trace = [];
  const onMetrics = (_: number, values: Record<string, number>) => void trace.push(values);
  const result = await trainOreo({ networks, ...start, trajectories }, {
    ...options,
    onMetrics,
    ...more,
  });
  const host = await toHost({ policy: result.policy.table!, value: result.value.table! });
  return { ...result, trace, host: { policy: [...host.policy], value: [...host.value] } };
}

const everything: Partial<OreoOptions> = {
  policyFreeze: 0.4,
  emaDecay: 0.9,
  clipLogRatios: 0.05,
  klTarget: { target: 0.01, learningRate: 0.1 },
  importanceSampling: true,
  oneStep: true,
  reward: { scale: 2, offset: -1 },
};
const responseLevel: Partial<OreoOptions> = { level: "response", hinge: 0.5 };

Deno.test("a frozen policy stays for its share of the steps, while V trains", async () => {
  const { trace, host, steps } = await train({ policyFreeze: 0.5 });
  assert.equal(steps, 12);
  trace.forEach((metrics, i) => {
    assert.equal("policy_grad_norm" in metrics, i >= 6, `step ${i}`);
    assert.ok(metrics.value_grad_norm! > 0);
    if (i < 6) assert.equal(metrics.kl, 0);
  });
  assert.notDeepEqual(host.policy, [...await start.policy.table!.data()]);
  const frozen = await train({ policyFreeze: 1 });
  assert.deepEqual(frozen.host.policy, [...await start.policy.table!.data()]);
});

Deno.test("micro-batches give the same training with every option on", async () => {
  const whole = await train(everything);
  const split = await train({ ...everything, microBatch: 4 });
  assertClose(split.host.policy, whole.host.policy, { absolute: 1e-5 }, "policy");
  assertClose(split.host.value, whole.host.value, { absolute: 1e-5 }, "V");
});

Deno.test("the hinge is a mean over the successes of a batch, whatever its cut", async () => {
  const [plain, whole, split] = [
    await train({ level: "response" }),
    await train(responseLevel),
    await train({ ...responseLevel, microBatch: 2 }),
  ];
  assert.notDeepEqual(whole.host.policy, plain.host.policy);
  assertClose(split.host.policy, whole.host.policy, { absolute: 1e-5 }, "policy");
});

Deno.test("an option at a level or method where it means nothing is refused", async () => {
  await assert.rejects(train({ hinge: 1 }), /hinge adds to the response-level .* has level token/);
  await assert.rejects(train({ ...responseLevel, method: "dqo" }), /hinge .* has method dqo/);
  await assert.rejects(
    train({ level: "response", oneStep: true }),
    /oneStep is a loss .* has level response/,
  );
});

Deno.test("rewards on another scale leave what V is measured by as it is", async () => {
  const scale = { scale: 2, offset: -1 };
  const { metrics } = await train({ reward: scale, policyFreeze: 1, epochs: 60 });
  const zero = await train({ policyFreeze: 1, epochs: 60 });
  // V starts at 0, which is one half on the other scale, so that the two have the same limit only.
  assertClose([metrics.value_brier!], [zero.metrics.value_brier!], { absolute: 0.01 }, "Brier");
  assertClose([metrics.value_loss!], [4 * metrics.value_brier!], { absolute: 1e-5 }, "loss");
});

Deno.test("a run with every option resumes to the bytes of one never stopped", () =>
  withFolder(async (folder) => {
    const whole = await train(everything);
    const stopped = new Error("stopped by the test");
    await assert.rejects(
      train({
        ...everything,
        checkpoints: { folder, every: 4 },
        onMetrics: (step) => {
          if (step === 10) throw stopped;
        },
      }),
      stopped,
    );
    const resumed = await train({ ...everything, checkpoints: { folder, every: 4 } });
    assert.deepEqual(resumed.host, whole.host);
    assert.ok(resumed.trace.length < whole.trace.length);
    await assert.rejects(
      train({ ...everything, emaDecay: 0.8, checkpoints: { folder } }),
      /emaDecay 0.9, this run has 0.8/,
    );
  }));

Deno.test("each option changes the training, and off is the plain one", async () => {
  const plain = await train({});
  const off = { emaDecay: undefined, clipLogRatios: undefined, klTarget: undefined };
  assert.deepEqual((await train({ ...off, policyFreeze: 0 })).host, plain.host);
  const normalisation = { normalisation: "token" as const };
  // Every response is of one length here, but for the tokens that are no actions.
  const uneven = data.map((t, i) => i % 2 === 0 ? t : { ...t, actionMask: [1, 0, 1] as (0 | 1)[] });
  const both = await train({ ...normalisation, trajectories: uneven });
  const losses = await train({
    ...normalisation,
    klNormalisation: "sequence",
    trajectories: uneven,
  });
  assert.notDeepEqual(losses.host.policy, both.host.policy, "klNormalisation");
  for (const [name, value] of Object.entries(everything)) {
    const changed = await train({ [name]: value });
    assert.notDeepEqual(changed.host, plain.host, name);
  }
});

Deno.test("the regulariser's weight grows until the divergence comes to its target", async () => {
  const target = 0.004;
  const kl = async (more: Partial<OreoOptions>) =>
    (await train({ epochs: 60, ...more })).metrics.kl!;
  const free = await kl({ alpha: 0 });
  const held = await kl({ klTarget: { target, initial: 0.1, learningRate: 0.1 } });
  assert.ok(free > 3 * target, `without a regulariser the divergence is ${free}`);
  assert.ok(held < 2 * target, `with a target of ${target} it is ${held}`);
  await assert.rejects(train({ alpha: 0.1, klTarget: { target } }), /either alpha/);
});

Deno.test("held-out sequences are measured, and the models of their lowest loss come back", async () => {
  const losses: number[] = [];
  const { best, trace } = await train({
    heldOut: { items: data.slice(0, 6), every: 3 },
    // So high that the later steps are worse than earlier ones.
    valueLearningRate: 0.5,
    onMetrics: (_, values) => {
      const loss = values["held_out/loss"];
      if (loss !== undefined) losses.push(loss);
    },
  });
  assert.equal(trace.length, 0);
  assert.equal(losses.length, 4);
  const lowest = Math.min(...losses);
  assert.deepEqual(best, { step: 3 * (losses.indexOf(lowest) + 1), score: -lowest });
});

Deno.test("a checkpoint is due by the clock, too", () =>
  withFolder(async (folder) => {
    let minutes = 0;
    await train({
      checkpoints: { folder, every: 100, minutes: 5, keep: 9, now: () => minutes * 60_000 },
      onMetrics: () => minutes += 2,
    });
    const names = (await readdir(join(folder, "joint"))).map((name) => Number(name.slice(11, 19)));
    assert.deepEqual(names.sort((a, b) => a - b), [3, 6, 9, 12]);
  }));

Deno.test("metrics: V's calibration, advantages, memory, and arithmetic where it is known", async () => {
  const { metrics } = await train({
    epochs: 60,
    devices: 1,
    flops: { perToken: 1e6, peak: 1e12 },
  });
  assert.ok(metrics.value_brier! >= metrics.value_bias! ** 2);
  assert.ok(metrics.value_calibration_error! >= Math.abs(metrics.value_bias!) - 1e-6);
  assert.ok(Math.abs(metrics.advantage_correlation!) <= 1.000001);
  assert.ok(metrics.memory_gib! > 0 && metrics.sequences_per_second! > 0);
  assert.ok(metrics.device_memory_gib! > 0 && metrics.tokens_per_second! > 0);
  assert.deepEqual(
    ["kl", "kl_k3", "policy_loss", "value_loss", "policy_grad_norm", "value_grad_norm", "padding"]
      .filter((name) => !Number.isFinite(metrics[name])),
    [],
  );
  const ratio = metrics.tflops_per_second! / metrics.mfu!;
  assert.ok(Math.abs(ratio - 1) < 1e-6);
});

Deno.test("a head on a frozen trunk: only the head is trained, and the trunk is read", async () => {
  const trunk = { table: tf.ones([40, 1]) };
  const scaled = {
    policy: networks.policy,
    value: {
      values: (params: Record<string, tf.Tensor>, ids: tf.Tensor2D) =>
        networks.value.values({ table: params.table!.mul(params.head!) }, ids),
    },
  };
  const result = await trainOreo({
    networks: scaled,
    policy: start.policy,
    value: { head: tf.zeros([1, 1]) },
    base: { value: trunk },
    trajectories: data,
  }, { ...options, epochs: 40, alpha: 0.01, valueFirst: { steps: 20 } });
  assert.deepEqual(Object.keys(result.value), ["head"]);
  // One number for every state: about the share of successes.
  assert.ok(Math.abs((await result.value.head!.data())[0]! - 1 / 3) < 0.15);
});

const twins = {
  batchSize: 4,
  epochs: 60,
  learningRate: 0.02,
  seed: 1,
  padId: 0,
  maxLength: 4,
};

async function meanLogProbs(table: tf.Tensor) {
  const ids = tf.tensor2d(data.map((t) => [0, ...t.responseIds]), undefined, "int32");
  const sums = await tf.tidy(() => networks.policy.logProbs({ table }, ids).sum(1)).data();
  const mean = (reward: number) => {
    const of = data.flatMap((t, i) => t.reward === reward ? [sums[i]!] : []);
    return of.reduce((a, b) => a + b, 0) / of.length;
  };
  return { right: mean(1), wrong: mean(0) };
}

for (const [name, trainer] of [["DPO", trainDpo], ["KTO", trainKto]] as const) {
  Deno.test(`${name} makes right responses likelier against wrong ones`, async () => {
    const before = await meanLogProbs(start.policy.table!);
    const { policy, metrics } = await trainer(networks.policy, start.policy, data, {
      ...twins,
      ...(name === "DPO" ? { maxPairs: 30 } : {}),
    });
    const after = await meanLogProbs(policy.table!);
    assert.ok(
      after.right - after.wrong > before.right - before.wrong + 0.5,
      JSON.stringify({ before, after, metrics }),
    );
  });
}

for (const [name, trainer] of [["DPO", trainDpo], ["KTO", trainKto]] as const) {
  Deno.test(`${name}: micro-batches give the same training as whole batches`, async () => {
    const points: number[] = [];
    const run = async (microBatch?: number) => {
      const { policy } = await trainer(networks.policy, start.policy, data, {
        ...twins,
        epochs: 6,
        learningRate: 0.1,
        ...(name === "DPO" ? { maxPairs: 30 } : {}),
        ...(microBatch === undefined ? {} : { microBatch }),
        onMetrics: (_, metrics) => points.push(metrics.reference_point ?? 1),
      });
      return await policy.table!.data();
    };
    const whole = await run();
    // KTO's reference point is the batch's: where it is zero it could be anyone's.
    assert.ok(points.filter((point) => point > 0.01).length > 5, `${points}`);
    for (const microBatch of [1, 3]) {
      assertClose(await run(microBatch), whole, { absolute: 1e-5 }, `in ${microBatch}s`);
    }
  });
}

Deno.test("DPO says so where no query has both right and wrong solutions", async () => {
  const right = data.filter((t) => t.reward === 1);
  await assert.rejects(
    trainDpo(networks.policy, start.policy, right, twins),
    /none of the queries of 9 trajectories has both/,
  );
});

Deno.test("where no rate is given each method's peak is the paper's", async () => {
  const common = { batchSize: 9, reportEvery: 1, seed: 7, padId: 0, maxLength: 4 };
  const { policy } = start;
  const peaks: Record<string, number[]> = {};
  /** Of the second step, the first after a warm-up of one. */
  const second = (method: string) => ({
    ...common,
    steps: 2,
    onMetrics: (step: number, metrics: Record<string, number>) => {
      if (step !== 2) return;
      const { policy_learning_rate, value_learning_rate } = metrics;
      peaks[method] = [policy_learning_rate!, value_learning_rate!].filter((x) => x !== undefined);
    },
  });
  await trainOreo({ networks, ...start, trajectories: data }, second("oreo"));
  await trainSft(networks.policy, policy, data, second("sft"));
  await trainRejectionSampling(networks.policy, policy, data, second("rejection sampling"));
  const answers = data.map((t, i) => ({ ...t, query: `q${i % 2}` }));
  await trainDpo(networks.policy, policy, answers, { ...second("dpo"), batchSize: 2 });
  await trainKto(networks.policy, policy, answers, second("kto"));
  assert.deepEqual(peaks, {
    oreo: [5e-6, 5e-6],
    sft: [2e-5],
    "rejection sampling": [5e-6],
    dpo: [5e-7],
    kto: [5e-8],
  });
  for (const [level, alpha] of [["token", 0.01], ["step", 0.1], ["response", 0.3]] as const) {
    assert.equal(oreoObjective("oreo", networks, { level }).settings.alpha, alpha, level);
  }
});

Deno.test("the baselines tell how far they are from the reference in the data", async () => {
  const ids = tf.tensor2d(data.map((t) => [0, ...t.responseIds]), undefined, "int32");
  const own = await tf.tidy(() => networks.policy.logProbs(start.policy, ids)).array();
  // Each token 0.1 nats likelier than under a reference that the data claim to come from.
  const scored = data.map((t, i) => ({ ...t, refLogProbs: own[i]!.map((x) => x - 0.1) }));
  const once = { steps: 1, batchSize: 30, seed: 0, padId: 0, maxLength: 4 };
  for (const trainer of [trainDpo, trainKto, trainRejectionSampling]) {
    const { metrics } = await trainer(networks.policy, start.policy, scored, once);
    assertClose([metrics.kl_k3!], [Math.exp(-0.1) - 0.9], { absolute: 1e-6 }, trainer.name);
  }
});
