import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { tf, toHost, useBackend } from "../xla/mod.ts";
import type { NamedTensors } from "./optimizer.ts";
import { assertClose, withFolder } from "./test_support.ts";
import {
  initialTables,
  prefixIndex,
  responses,
  tableNetworks,
  type Tables,
  trajectory,
} from "./test_tables.ts";
import { type OreoOptions, type OreoResult, trainOreo } from "./trainer_oreo.ts";
import { trainRejectionSampling, trainSft } from "./trainer_sft.ts";

await useBackend();

const tables: Tables = { actions: 3, horizon: 3 };
const data = responses(tables).map((r, i) => trajectory(r, i % 3 === 0 ? 1 : 0));
const networks = tableNetworks(tables);

const options: OreoOptions = {
  beta: 0.3,
  alpha: 0.01,
  policyLearningRate: 0.02,
  valueLearningRate: 0.05,
  batchSize: 5,
  epochs: 2,
  reportEvery: 3,
  seed: 7,
  padId: 0,
  maxLength: 4,
};

function start(more: Partial<OreoOptions> = {}): Promise<OreoResult> {
  return trainOreo({ networks, ...initialTables(tables), trajectories: data }, {
    ...options,
    ...more,
  });
}

async function bytesOf({ policy, value }: { policy: NamedTensors; value: NamedTensors }) {
  const host = await toHost({ policy: policy.table!, value: value.table! });
  return { policy: [...host.policy], value: [...host.value] };
}

Deno.test("the same seed gives the same bytes, another seed others", async () => {
  const first = await bytesOf(await start());
  assert.deepEqual(await bytesOf(await start()), first);
  assert.notDeepEqual(await bytesOf(await start({ seed: 8 })), first);
});

Deno.test("a run stopped at any step and resumed gives the bytes of a run never stopped", async () => {
  const valueFirst = { steps: 4, learningRate: 0.1 };
  const evaluation = {
    every: 4,
    score: async (models: Record<string, NamedTensors>) =>
      -Math.abs((await models.value!.table!.data())[1]! - 0.2),
  };
  const settings = { valueFirst, evaluation, reportEvery: 1 };
  const whole = await start(settings);
  const expected = await bytesOf(whole);
  const total = 4 + whole.steps;
  for (const stopAt of [2, 5, 9, total]) {
    for (const kind of ["abort", "crash"] as const) {
      await withFolder(async (folder) => {
        const controller = new AbortController();
        const reason = new Error("stopped by the test");
        let seen = 0;
        await assert.rejects(
          start({
            ...settings,
            checkpoints: { folder, every: 3 },
            signal: controller.signal,
            onMetrics: (_, values) => {
              if (values.score !== undefined || ++seen < stopAt) return;
              if (kind === "crash" || stopAt === total) throw reason;
              controller.abort(reason);
            },
          }),
          reason,
        );
        const resumed = await start({ ...settings, checkpoints: { folder, every: 3 } });
        assert.deepEqual(await bytesOf(resumed), expected, `${kind} at step ${stopAt}`);
        assert.deepEqual(resumed.best, whole.best);
      });
    }
  }
});

Deno.test("a finished run started again returns its models at once", () =>
  withFolder(async (folder) => {
    const checkpoints = { folder, every: 100 };
    const first = await start({ checkpoints, valueFirst: { steps: 2 } });
    let steps = 0;
    const again = await start({
      checkpoints,
      valueFirst: { steps: 2 },
      onMetrics: () => steps++,
    });
    assert.deepEqual(await bytesOf(again), await bytesOf(first));
    assert.deepEqual(again.metrics, first.metrics);
    assert.deepEqual(again.valueMetrics, first.valueMetrics);
    assert.equal(steps, 0);
  }));

Deno.test("only the last checkpoints stay", () =>
  withFolder(async (folder) => {
    await start({ checkpoints: { folder, every: 2, keep: 2 } });
    assert.deepEqual((await readdir(join(folder, "joint"))).sort(), [
      "checkpoint-00000010.safetensors",
      "checkpoint-00000012.safetensors",
    ]);
  }));

Deno.test("a checkpoint of other settings is refused by naming the difference", () =>
  withFolder(async (folder) => {
    await start({ checkpoints: { folder } });
    await assert.rejects(start({ checkpoints: { folder }, seed: 8 }), /seed 7, this run has 8/);
    await assert.rejects(
      start({ checkpoints: { folder }, beta: 0.1 }),
      /beta 0.3, this run has 0.1/,
    );
  }));

Deno.test("a checkpoint of another shape is refused by naming the tensor", () =>
  withFolder(async (folder) => {
    await start({ checkpoints: { folder } });
    const larger = { ...tables, horizon: 4 };
    const run = trainOreo(
      { networks: tableNetworks(larger), ...initialTables(larger), trajectories: data },
      { ...options, checkpoints: { folder } },
    );
    await assert.rejects(run, /models\/policy\/table has shape \[40,3\], the model has \[121,3\]/);
  }));

Deno.test("a truncated checkpoint is passed over for the one before", () =>
  withFolder(async (folder) => {
    const checkpoints = { folder, every: 5 };
    const expected = await bytesOf(await start({ checkpoints }));
    const last = join(folder, "joint", "checkpoint-00000012.safetensors");
    await Deno.truncate(last, 300);
    assert.deepEqual(await bytesOf(await start({ checkpoints })), expected);
  }));

Deno.test("NaN stops the training with the batch saved", () =>
  withFolder(async (folder) => {
    const { policy, value } = initialTables(tables);
    const broken = { table: value.table!.add(Number.POSITIVE_INFINITY) };
    const run = trainOreo({ networks, policy, value: broken, trajectories: data }, {
      ...options,
      checkpoints: { folder },
    });
    await assert.rejects(run, (error) => {
      assert.ok(error instanceof UserError);
      assert.match(error.message, /stopped at step 1 of 12: .*(NaN|Infinity)/);
      return true;
    });
    const [name] = await readdir(join(folder, "joint"));
    const saved = (await readFile(join(folder, "joint", name!), "utf8")).trim().split("\n");
    assert.equal(saved.length, options.batchSize);
    assert.deepEqual(JSON.parse(saved[0]!).promptIds, [0]);
  }));

Deno.test("an exploding loss stops the training", async () => {
  await assert.rejects(start({ maxLoss: 1e-6 }), /the loss is .*, above 0\.000001/);
});

Deno.test("micro-batches give the same training as whole batches", async () => {
  const whole = await bytesOf(await start());
  for (const microBatch of [1, 2, 4]) {
    const split = await bytesOf(await start({ microBatch }));
    assertClose(split.policy, whole.policy, { absolute: 1e-5 }, `policy in ${microBatch}s`);
    assertClose(split.value, whole.value, { absolute: 1e-5 }, `value in ${microBatch}s`);
  }
});

Deno.test("the value model alone first: the policy waits, V learns from all trajectories", async () => {
  const names: string[] = [];
  const { policy, value } = initialTables(tables);
  const result = await trainOreo({
    networks,
    policy,
    value,
    trajectories: data.slice(0, 5),
    valueTrajectories: data,
  }, {
    ...options,
    steps: 1,
    epochs: undefined,
    // The only joint step has rate 0 (warm-up), so what moved, moved before it.
    valueFirst: { steps: 300, batchSize: data.length, learningRate: 0.05 },
    onMetrics: (_, metrics) => names.push(...Object.keys(metrics)),
  });
  assert.deepEqual(await result.policy.table!.data(), await policy.table!.data());
  const learned = await result.value.table!.data();
  // With l = 0 the best V is the mean outcome of the trajectories through a state.
  for (const prefix of [[], [0], [1, 2]]) {
    const through = data.filter((t) => prefix.every((action, i) => t.responseIds[i] === action));
    const mean = through.reduce((sum, t) => sum + t.reward, 0) / through.length;
    assert.ok(Math.abs(learned[prefixIndex(tables, prefix)]! - mean) < 0.02, `V of ${prefix}`);
  }
  assert.ok(names.includes("value_first/value_auc") && names.includes("policy_loss"));
});

Deno.test("each phase counts its own passes or steps", async () => {
  const totals = new Map<boolean, number>();
  const count = async (more: Partial<OreoOptions>) => {
    await start({
      ...more,
      onMetrics: (_, metrics, total) => totals.set("value_loss" in metrics, total),
    });
    return { value: totals.get(false), joint: totals.get(true) };
  };
  const byPasses = { epochs: 1, steps: undefined };
  const perPass = Math.ceil(data.length / options.batchSize!);
  const bySteps = { epochs: undefined, steps: 2 };
  assert.deepEqual(await count({ ...bySteps, valueFirst: { epochs: 1 } }), {
    value: perPass,
    joint: 2,
  });
  assert.deepEqual(await count({ ...byPasses, valueFirst: { steps: 3 } }), {
    value: 3,
    joint: perPass,
  });
});

Deno.test("a frozen policy that is not the reference enters V's target", async () => {
  const { policy, value } = initialTables(tables);
  const reference = { table: policy.table!.mul(-1) };
  const beta = 0.3;
  const result = await trainOreo({ networks, policy, value, reference, trajectories: data }, {
    ...options,
    beta,
    epochs: undefined,
    steps: 1,
    batchSize: data.length,
    valueFirst: { steps: 400, learningRate: 0.05 },
  });
  const [own, other] = [await policy.table!.data(), await reference.table.data()];
  const logProb = (table: ArrayLike<number>, prefix: number[], action: number) => {
    const row = [0, 1, 2].map((a) => table[prefixIndex(tables, prefix) * 3 + a]!);
    return row[action]! - Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0));
  };
  const target = data.map(({ responseIds, reward }) =>
    responseIds.reduce((sum, action, i) => {
      const prefix = responseIds.slice(0, i);
      return sum - beta * (logProb(own, prefix, action) - logProb(other, prefix, action));
    }, reward as number)
  );
  const mean = target.reduce((sum, x) => sum + x, 0) / target.length;
  assert.ok(Math.abs((await result.value.table!.data())[0]! - mean) < 0.02);
});

Deno.test("the models of the best score are returned, whatever came after", async () => {
  const scores = [1, 3, 2];
  const at: Record<number, number[]> = {};
  const result = await start({
    evaluation: {
      every: 4,
      score: async (models, step) => {
        at[step] = [...await models.policy!.table!.data()];
        return scores[step / 4 - 1]!;
      },
    },
  });
  assert.deepEqual(result.best, { step: 8, score: 3 });
  assert.deepEqual([...await result.policy.table!.data()], at[8]);
});

Deno.test("training leaves its inputs as they are and no tensor behind", async () => {
  const inputs = initialTables(tables);
  const before = await bytesOf(inputs);
  const tensors = tf.memory().numTensors;
  const result = await trainOreo({ networks, ...inputs, trajectories: data }, {
    ...options,
    valueFirst: { steps: 3 },
    evaluation: { every: 5, score: (_, step) => Promise.resolve(-step) },
  });
  assert.deepEqual(await bytesOf(inputs), before);
  assert.equal(tf.memory().numTensors - tensors, 2);
  assert.equal(Object.keys({ ...result.policy, ...result.value }).length, 1);
});

Deno.test("SFT learns the demonstrations' frequencies, rejection sampling those of the correct", async () => {
  const sequences = [[0, 1, 2], [0, 1, 1], [0, 1, 1], [0, 1, 1]];
  const trajectories = sequences.map((r, i) => trajectory(r, i < 2 ? 1 : 0));
  const settings = {
    learningRate: 0.1,
    steps: 300,
    batchSize: 4,
    reportEvery: 50,
    seed: 0,
    padId: 0,
    maxLength: 4,
  };
  const { policy } = initialTables(tables);
  const chance = async (params: NamedTensors) =>
    (await tf.softmax(params.table as tf.Tensor2D).data())[prefixIndex(tables, [0, 1]) * 3 + 2]!;
  const sft = await trainSft(networks.policy, policy, trajectories, settings);
  assert.ok(Math.abs(await chance(sft.policy) - 0.25) < 0.02);
  const rejection = await trainRejectionSampling(networks.policy, policy, trajectories, settings);
  assert.ok(Math.abs(await chance(rejection.policy) - 0.5) < 0.02);
  const wrong = trajectories.map((t) => ({ ...t, reward: 0 as const }));
  await assert.rejects(
    trainRejectionSampling(networks.policy, policy, wrong, settings),
    /none of 4 trajectories has reward 1/,
  );
});

Deno.test("the k3 estimator asks for reference log-probabilities in the data", async () => {
  await assert.rejects(start({ kl: "k3" }), /k3 estimator needs refLogProbs/);
});
