/**
 * Whole training runs against the paper's own trainer and model classes: six steps of OREO, then the
 * losses, gradient norms and rates of each step and every parameter at the end.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { SafetensorsFile } from "../lm/mod.ts";
import { addValueHead, parseConfig, VALUE_HEAD } from "../lm/mod.ts";
import { tf, toHost, useBackend } from "../xla/mod.ts";
import type { Level } from "./objectives/mod.ts";
import { languageNetworks, type PolicyNetwork } from "./networks.ts";
import type { NamedTensors } from "./optimizer.ts";
import { assertClose, goldenFiles, readJson } from "./test_support.ts";
import { type OreoOptions, trainOreo } from "./trainer_oreo.ts";
import type { Trajectory } from "./trajectory.ts";

await useBackend();

interface GoldenBatch {
  ids: number[][];
  attention_mask: number[][];
  action_mask: number[][];
  state_mask_step?: number[][];
  state_mask_token?: number[][];
  rewards: number[];
}

interface Run {
  config: {
    critic_init: string;
    flags: Record<string, number | boolean | null>;
    beta: number;
    l2: number;
    max_norm: number;
    lr: number;
    critic_lr: number;
  };
  n_steps: number;
  batches: GoldenBatch[];
  log: Record<string, number>[];
}

async function readTensors(path: string, prefix = ""): Promise<NamedTensors> {
  await using file = await SafetensorsFile.open(path);
  const tensors: NamedTensors = {};
  for (const { name, shape } of file.entries.values()) {
    if (!name.startsWith(prefix)) continue;
    tensors[name.slice(prefix.length)] = tf.tensor(await file.float32(name), [...shape]);
  }
  return tensors;
}

type Chosen = Partial<OreoOptions> & { level: Level };

/** What the flags of the paper's code are here; a flag that has no counterpart is an error. */
function optionsOf(flags: Run["config"]["flags"]): Chosen {
  const given = Object.fromEntries(
    Object.entries(flags).filter(([, value]) => value !== null && value !== false),
  );
  const take = <T>(name: string): T | undefined => {
    const value = given[name];
    delete given[name];
    return value as T | undefined;
  };
  // Which of the losses it is; `dro` is the paper's, of which response level is a form of its own.
  take("dro_actor_loss");
  const stepLevel = take("step_level") === true;
  const response = take("traj_actor_loss") === true;
  const oneStep = take("single_step_actor_loss");
  const exact = take("unbiased_kl") === true;
  const reverse = take("forward_kl") === true;
  const target = take<number>("kl_targ");
  const initial = Math.exp(take<number>("init_log_kl_coeff") ?? 0);
  const learningRate = take<number>("kl_coeff_lr");
  const alpha = take<number>("kl_reg");
  const chosen: Chosen = {
    level: response ? "response" : stepLevel ? "step" : "token",
    // Without a regulariser either gives log-ratios; those of one program begin at exactly 0.
    kl: reverse ? "exactReverse" : exact || (alpha ?? target) === undefined ? "exact" : "k3",
    klTarget: target === undefined ? undefined : { target, initial, learningRate },
    ...(target === undefined ? { alpha: alpha ?? 0 } : {}),
    oneStep: oneStep === true,
    hinge: take<number>("hinge_coeff"),
    clipLogRatios: take<number>("clip_log"),
    emaDecay: take<number>("ema_beta"),
    importanceSampling: take("importance_sampling") === true,
    policyFreeze: take("critic_only") === true ? 1 : undefined,
    normalisation: take("importance_sampling_2") === true ? "token" : "sequence",
    klNormalisation: "sequence",
  };
  assert.deepEqual(Object.keys(given), [], "flags that this test does not know");
  return chosen;
}

/** A row of a batch without its padding: the prompt ends before the first action. */
function trajectoryOf(batch: GoldenBatch, row: number): Trajectory {
  const real = batch.attention_mask[row]!.flatMap((m, i) => m === 1 ? [i] : []);
  const pick = (mask: number[][]) => real.map((i) => mask[row]![i]!);
  const [ids, actions] = [pick(batch.ids), pick(batch.action_mask)];
  const states = pick((batch.state_mask_step ?? batch.state_mask_token)!);
  const start = actions.indexOf(1);
  return {
    version: 1,
    query: "golden",
    prompt: "",
    promptIds: ids.slice(0, start),
    responseIds: ids.slice(start),
    actionMask: actions.slice(start) as (0 | 1)[],
    // A state at token j means that a step starts at token j + 1, so the one before has ended at j.
    stepEnds: states.flatMap((state, j) => state === 1 && j >= start ? [j - start] : []),
    reward: batch.rewards[row]! > 0 ? 1 : 0,
    source: "golden",
  };
}

/** The trajectories with the log-probabilities that `params` give their tokens. */
async function scored(
  { logProbs }: PolicyNetwork,
  params: NamedTensors,
  trajectories: Trajectory[],
): Promise<Trajectory[]> {
  const out: Trajectory[] = [];
  for (const trajectory of trajectories) {
    const { promptIds, responseIds } = trajectory;
    const of = tf.tidy(() =>
      logProbs(params, tf.tensor2d([[...promptIds, ...responseIds]], undefined, "int32"))
    );
    const start = promptIds.length - 1;
    out.push({ ...trajectory, refLogProbs: [...await of.data()].slice(start) });
    of.dispose();
  }
  return out;
}

for (const folder of goldenFiles("e2e", /^\w+$/)) {
  for (const packing of [false, true]) {
    Deno.test(`${folder}${packing ? ", packed" : ""}: losses of each step and parameters at the end`, async () => {
      const run = readJson<Run>(join(folder, "run.json"));
      const { config: settings, batches, log } = run;
      const config = parseConfig(readJson(join(folder, "init_actor/config.json")));
      const policy = await readTensors(join(folder, "init_actor/model.safetensors"));
      const value = settings.critic_init === "zero"
        ? addValueHead(config, policy)
        : await readTensors(join(folder, "init_critic/model.safetensors"));
      const networks = languageNetworks(config);
      const chosen = optionsOf(settings.flags);
      const plain = batches.flatMap((b) => b.ids.map((_, row) => trajectoryOf(b, row)));
      const trajectories = chosen.kl === "k3"
        ? await scored(networks.policy, policy, plain)
        : plain;
      const starts = batches.map((_, i) =>
        batches.slice(0, i).reduce((sum, { ids }) => sum + ids.length, 0)
      );
      const signed = batches.some(({ rewards }) => rewards.includes(-1));
      const steps: Record<string, number>[] = [];
      const result = await trainOreo({
        networks,
        policy,
        value,
        trajectories,
      }, {
        ...chosen,
        ...(signed ? { reward: { scale: 2, offset: -1 } } : {}),
        beta: settings.beta,
        policyLearningRate: settings.lr,
        valueLearningRate: settings.critic_lr,
        adam: { weightDecay: settings.l2, maxGradNorm: settings.max_norm },
        batchSize: Math.ceil(trajectories.length / batches.length),
        steps: run.n_steps,
        seed: 0,
        padId: 0,
        maxLength: config.maxPositions,
        ...(packing ? { packing: {}, microBatch: 3 } : {}),
        plan: () => batches.map(({ ids }, i) => ids.map((_, row) => starts[i]! + row)),
        onMetrics: (_, metrics) => steps.push(metrics),
      });

      const close = (actual: number, expected: number, what: string) =>
        assertClose([actual], [expected], { absolute: 2e-5, relative: 2e-5 }, what);
      assert.equal(steps.length, log.length);
      for (const [i, expected] of log.entries()) {
        const actual = steps[i]!;
        close(actual.value_loss!, expected.critic_total_loss!, `value loss of step ${i}`);
        // With a moving average the code estimates its divergence, here it is the policy's.
        if (chosen.emaDecay === undefined) {
          close(actual.kl_k3!, expected.kl_estimate!, `k3 of step ${i}`);
        }
        if (expected.kl_reg !== undefined) close(actual.kl!, expected.kl_reg, `KL of step ${i}`);
        if (expected.actor_total_loss !== undefined) {
          const weight = actual.kl_weight ?? chosen.alpha!;
          const total = actual.policy_loss! + weight * actual.kl!;
          close(total, expected.actor_total_loss, `policy loss of step ${i}`);
        }
        close(actual.value_grad_norm!, expected.critic_grad_norm!, `value gradient of step ${i}`);
        if (expected.actor_grad_norm !== undefined) {
          close(actual.policy_grad_norm!, expected.actor_grad_norm, `policy gradient of step ${i}`);
        }
        close(actual.value_learning_rate!, expected.critic_lr!, `value rate of step ${i}`);
        if (expected.actor_lr !== undefined) {
          close(actual.policy_learning_rate!, expected.actor_lr, `policy rate of step ${i}`);
        }
      }

      for (
        const [model, params, prefix] of [
          ["policy", result.policy, "actor."],
          ["value", result.value, "critic."],
        ] as const
      ) {
        const expected = await readTensors(join(folder, "final.safetensors"), prefix);
        const [host, golden] = await Promise.all([toHost(params), toHost(expected)]);
        const known = Object.keys(golden);
        assert.deepEqual(
          known.filter((name) => !(name in host)),
          [],
          `${model}: no such parameters`,
        );
        assert.ok(known.length >= 10 && (model === "policy" || known.includes(VALUE_HEAD)));
        let sum = 0, count = 0;
        for (const name of known) {
          assertClose(host[name]!, golden[name]!, { absolute: 2e-4 }, `${model} ${name}`);
          golden[name]!.forEach((x, i) => sum += Math.abs(x - host[name]![i]!));
          count += golden[name]!.length;
        }
        assert.ok(sum / count <= 1e-6, `${model}: mean difference ${sum / count}`);
      }
    });
  }
}
