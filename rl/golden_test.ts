/**
 * Losses and gradients against the golden files of the reference trainers: the paper's own code for
 * OREO, DQO and SFT, TRL for DPO and KTO.
 */
import { basename } from "node:path";
import { SafetensorsFile } from "../lm/mod.ts";
import { tf, useBackend } from "../xla/mod.ts";
import {
  chosenLogProbs,
  dpoLoss,
  dqoLoss,
  hingeLoss,
  importanceWeights,
  klDivergence,
  klK3,
  ktoLoss,
  nextTokenDistributions,
  normalise,
  oneStepLoss,
  policyLoss,
  rejectionSamplingLoss,
  responseLogProbs,
  sftLoss,
  valueLoss,
  weightedSum,
} from "./objectives/mod.ts";
import { assertClose, flat, goldenFiles, readJson, valueAndGrads } from "./test_support.ts";

const lossTolerance = { absolute: 1e-5, relative: 1e-5 };
const gradTolerance = { absolute: 1e-6 };

await useBackend();

interface Flags {
  kl_reg?: number;
  unbiased_kl?: boolean;
  forward_kl?: boolean;
  step_level?: boolean;
  dro_actor_loss?: boolean;
  traj_actor_loss?: boolean;
  importance_sampling?: boolean;
  importance_sampling_2?: boolean;
  clip_log?: number;
  hinge_coeff?: number;
  single_step_actor_loss?: boolean;
}

interface OreoFile {
  beta: number;
  alpha: number;
  inputs: Record<"ids" | "action_mask" | "state_mask_token" | "state_mask_step", number[][]> & {
    rewards: number[];
    policy_logits: number[][][];
    ref_logits: number[][][];
    values: number[][];
  };
  fit: Record<
    string,
    {
      state_mask: "state_mask_token" | "state_mask_step";
      flags: Flags;
      critic_loss: number;
      grad_values: number[][];
      actor_total: number;
      grad_policy_logits: number[][][];
      kl_reg?: number;
      kl_estimate: number;
    }
  >;
  functions: Record<
    string,
    {
      state_mask: "state_mask_token" | "state_mask_step";
      loss: number;
      grad_logps: number[][];
      grad_policy_logits: number[][][];
      grad_values?: number[][];
    }
  >;
}

/** Masks come for all columns; those of the shifted form are the first T − 1 (states) or the last (actions). */
function shiftedStates(mask: number[][]): tf.Tensor2D {
  return tf.tensor2d(mask.map((row) => row.slice(0, -1)));
}
function shiftedActions(mask: number[][]): tf.Tensor2D {
  return tf.tensor2d(mask.map((row) => row.slice(1)));
}

function oreoCase(file: OreoFile, states: "state_mask_token" | "state_mask_step") {
  const { inputs, beta } = file;
  const ids = tf.tensor2d(inputs.ids, undefined, "int32");
  const reference = nextTokenDistributions(tf.tensor3d(inputs.ref_logits));
  const stateMask = shiftedStates(inputs[states]);
  const actionMask = shiftedActions(inputs.action_mask);
  const rewards = tf.tensor1d(inputs.rewards);
  const values = tf.tensor2d(inputs.values);
  const logits = tf.tensor3d(inputs.policy_logits);
  const refLogProbs = chosenLogProbs(reference, ids);
  const bellman = (logProbs: tf.Tensor2D, v: tf.Tensor2D) => ({
    values: v,
    logRatios: logProbs.sub(refLogProbs) as tf.Tensor2D,
    actionMask,
    stateMask,
    rewards,
    beta,
  });
  return { ids, reference, actionMask, values, logits, bellman };
}

for (const path of goldenFiles("losses", /^oreo_(single|multi).*\.json$/)) {
  const file = readJson<OreoFile>(path);
  for (const [name, expected] of Object.entries(file.fit)) {
    Deno.test(`${basename(path)} ${name}: losses, KL and their gradients`, () => {
      const { ids, reference, actionMask, values, logits, bellman } = oreoCase(
        file,
        expected.state_mask,
      );
      const { flags } = expected;
      const withFlags = (logProbs: tf.Tensor2D, v: tf.Tensor2D) => {
        const inputs = bellman(logProbs, v);
        const { stateMask } = inputs;
        const perState = normalise(stateMask, flags.importance_sampling_2 ? "token" : "sequence");
        const stateWeights = flags.importance_sampling
          ? perState.mul(importanceWeights(inputs).expandDims(1)) as tf.Tensor2D
          : perState;
        return { ...inputs, stateWeights, perState, clipLogRatios: flags.clip_log };
      };
      const [critic, [gradValues]] = valueAndGrads((v) => {
        const logProbs = chosenLogProbs(nextTokenDistributions(logits), ids);
        return valueLoss(withFlags(logProbs, v as tf.Tensor2D));
      }, [values]);
      assertClose([critic], [expected.critic_loss], lossTolerance, "value loss");
      assertClose(gradValues!, flat(expected.grad_values), gradTolerance, "grad of values");

      const level = flags.traj_actor_loss ? "response" : flags.step_level ? "step" : "token";
      const divergence = (policy: tf.Tensor3D, logRatios: tf.Tensor2D) =>
        flags.unbiased_kl
          ? flags.forward_kl ? klDivergence(reference, policy) : klDivergence(policy, reference)
          : klK3(logRatios);
      const weights = normalise(actionMask);
      const [total, [gradLogits]] = valueAndGrads((x) => {
        const policy = nextTokenDistributions(x as tf.Tensor3D);
        const { stateWeights, perState, ...inputs } = withFlags(
          chosenLogProbs(policy, ids),
          values,
        );
        const policyTerm = flags.single_step_actor_loss
          // At token level the code takes the next column's value for the next state's.
          ? oneStepLoss(
            { ...inputs, stateWeights: perState },
            flags.step_level ? "state" : "column",
          )
          : policyLoss(level === "response" ? inputs : { ...inputs, stateWeights }, level);
        const loss = flags.hinge_coeff === undefined
          ? policyTerm
          : policyTerm.add(hingeLoss(inputs).mul(flags.hinge_coeff)) as tf.Scalar;
        if (flags.kl_reg === undefined) return loss;
        const kl = weightedSum(divergence(policy, inputs.logRatios), weights);
        return loss.add(kl.mul(flags.kl_reg));
      }, [logits]);
      assertClose([total], [expected.actor_total], lossTolerance, "policy loss + α · KL");
      assertClose(gradLogits!, flat(expected.grad_policy_logits), gradTolerance, "grad of logits");

      tf.tidy(() => {
        const policy = nextTokenDistributions(logits);
        const { logRatios } = bellman(chosenLogProbs(policy, ids), values);
        const k3 = weightedSum(klK3(logRatios), weights).dataSync();
        assertClose(k3, [expected.kl_estimate], lossTolerance, "k3 estimate");
        if (expected.kl_reg === undefined) return;
        const kl = weightedSum(divergence(policy, logRatios), weights).dataSync();
        assertClose(kl, [expected.kl_reg], lossTolerance, "KL");
      });
    });
  }

  for (const [name, expected] of Object.entries(file.functions)) {
    Deno.test(`${basename(path)} ${name}: gradients by log-probability`, () => {
      const { ids, values, logits, bellman } = oreoCase(file, expected.state_mask);
      const loss = (logProbs: tf.Tensor2D, v: tf.Tensor2D) => {
        const inputs = bellman(logProbs, v);
        if (name.startsWith("dqo")) return dqoLoss(inputs);
        return policyLoss(
          inputs,
          name === "policy_response" ? "response" : name === "policy_step" ? "step" : "token",
        );
      };
      const logProbs = tf.tidy(() => chosenLogProbs(nextTokenDistributions(logits), ids));
      const [value, [gradLogProbs, gradValues]] = valueAndGrads(
        (l, v) => loss(l as tf.Tensor2D, v as tf.Tensor2D).add(v!.sum().mul(0)),
        [logProbs, values],
      );
      assertClose([value], [expected.loss], lossTolerance, "loss");
      assertClose(gradLogProbs!, flat(expected.grad_logps), gradTolerance, "grad of log-probs");
      if (expected.grad_values !== undefined) {
        assertClose(gradValues!, flat(expected.grad_values), gradTolerance, "grad of values");
      }
      const [, [gradLogits]] = valueAndGrads(
        (x) => loss(chosenLogProbs(nextTokenDistributions(x as tf.Tensor3D), ids), values),
        [logits],
      );
      assertClose(gradLogits!, flat(expected.grad_policy_logits), gradTolerance, "grad of logits");
    });
  }
}

interface LargeFile {
  beta: number;
  alpha: number;
  token: Record<"critic_loss" | "actor_total" | "kl_reg", number>;
  step: Record<"critic_loss" | "actor_total" | "kl_reg", number>;
}

for (const path of goldenFiles("losses", /^oreo_large\.json$/)) {
  for (const level of ["token", "step"] as const) {
    Deno.test(`${basename(path)} ${level}: losses and gradients`, async () => {
      const { beta, alpha, [level]: expected } = readJson<LargeFile>(path);
      await using data = await SafetensorsFile.open(path.replace(/json$/, "safetensors"));
      const shapeOf = (name: string) => [...data.entries.get(name)!.shape];
      const floats = async (name: string) => tf.tensor(await data.float32(name), shapeOf(name));
      const integers = async (name: string) =>
        tf.tensor2d(await data.integers(name), shapeOf(name) as [number, number], "int32");
      const ids = await integers("ids");
      const [batch, time] = ids.shape;
      const columns = [batch, time - 1] as [number, number];
      const stateMask = (await integers(`state_mask_${level}`)).slice([0, 0], columns);
      const actionMask = (await integers("action_mask")).slice([0, 1], columns);
      const rewards = await floats("rewards") as tf.Tensor1D;
      const values = await floats("values");
      const logits = await floats("policy_logits");
      const reference = nextTokenDistributions(await floats("ref_logits") as tf.Tensor3D);
      const losses = (x: tf.Tensor, v: tf.Tensor) => {
        const policy = nextTokenDistributions(x as tf.Tensor3D);
        const inputs = {
          values: v as tf.Tensor2D,
          logRatios: chosenLogProbs(policy, ids).sub(chosenLogProbs(reference, ids)) as tf.Tensor2D,
          actionMask,
          stateMask,
          rewards,
          beta,
        };
        const kl = weightedSum(klDivergence(policy, reference), normalise(actionMask));
        return { value: valueLoss(inputs), policy: policyLoss(inputs, level).add(kl.mul(alpha)) };
      };
      // One gradient of both losses: neither reaches the other's parameters.
      const [total, [gradLogits, gradValues]] = valueAndGrads((x, v) => {
        const { value, policy } = losses(x!, v!);
        return value.add(policy);
      }, [logits, values]);
      const sum = expected.critic_loss + expected.actor_total;
      assertClose([total], [sum], lossTolerance, "sum of losses");
      const golden = (name: string) => data.float32(`${level}.${name}`);
      assertClose(gradLogits!, await golden("grad_policy_logits"), gradTolerance, "grad of logits");
      assertClose(gradValues!, await golden("grad_values"), gradTolerance, "grad of values");
    });
  }
}

interface PreferenceInputs {
  input_ids: number[][];
  completion_mask: number[][];
  policy_logits: number[][][];
  ref_logits: number[][][];
}

function responseLogRatios(
  logits: tf.Tensor3D,
  refLogits: number[][][],
  ids: number[][],
  mask: number[][],
): tf.Tensor1D {
  const tokens = tf.tensor2d(ids, undefined, "int32");
  const actions = shiftedActions(mask);
  const sum = (x: tf.Tensor3D) =>
    responseLogProbs(chosenLogProbs(nextTokenDistributions(x), tokens), actions);
  return sum(logits).sub(sum(tf.tensor3d(refLogits)));
}

interface DpoFile {
  beta: number;
  inputs: PreferenceInputs;
  n_pairs: number;
  loss: number;
  grad_policy_logits: number[][][];
  openrlhf_label_smoothing_0_1?: number;
  openrlhf_ipo?: number;
}

for (const path of goldenFiles("losses", /^dpo_.*\.json$/)) {
  Deno.test(`${basename(path)}: DPO loss and gradient`, () => {
    const file = readJson<DpoFile>(path);
    const { inputs, n_pairs: pairs, beta } = file;
    const loss = (logits: tf.Tensor, labelSmoothing: number, ipo = false) => {
      const ratios = responseLogRatios(
        logits as tf.Tensor3D,
        inputs.ref_logits,
        inputs.input_ids,
        inputs.completion_mask,
      );
      return dpoLoss({
        chosenLogRatios: ratios.slice([0], [pairs]),
        rejectedLogRatios: ratios.slice([pairs], [pairs]),
        beta,
        labelSmoothing,
        ipo,
      });
    };
    const logits = tf.tensor3d(inputs.policy_logits);
    const [value, [grad]] = valueAndGrads((x) => loss(x!, 0), [logits]);
    assertClose([value], [file.loss], lossTolerance, "loss");
    assertClose(grad!, flat(file.grad_policy_logits), gradTolerance, "grad of logits");
    for (
      const [name, found, expected] of [
        ["label smoothing", () => loss(logits, 0.1), file.openrlhf_label_smoothing_0_1],
        ["IPO", () => loss(logits, 0, true), file.openrlhf_ipo],
      ] as const
    ) {
      // Not in every file.
      if (expected === undefined) continue;
      assertClose(tf.tidy(found).dataSync(), [expected], lossTolerance, name);
    }
  });
}

interface KtoFile {
  beta: number;
  desirable_weight: number;
  undesirable_weight: number;
  inputs: PreferenceInputs & {
    KL_input_ids: number[][];
    KL_completion_mask: number[][];
    KL_policy_logits: number[][][];
    KL_ref_logits: number[][][];
    label: number[];
  };
  loss: number;
  grad_policy_logits: number[][][];
}

for (const path of goldenFiles("losses", /^kto_.*\.json$/)) {
  Deno.test(`${basename(path)}: KTO loss and gradient`, () => {
    const file = readJson<KtoFile>(path);
    const { inputs } = file;
    const [value, [grad]] = valueAndGrads((x) =>
      ktoLoss({
        logRatios: responseLogRatios(
          x as tf.Tensor3D,
          inputs.ref_logits,
          inputs.input_ids,
          inputs.completion_mask,
        ),
        klLogRatios: responseLogRatios(
          tf.tensor3d(inputs.KL_policy_logits),
          inputs.KL_ref_logits,
          inputs.KL_input_ids,
          inputs.KL_completion_mask,
        ),
        labels: tf.tensor1d(inputs.label),
        beta: file.beta,
        desirableWeight: file.desirable_weight,
        undesirableWeight: file.undesirable_weight,
      }), [tf.tensor3d(inputs.policy_logits)]);
    assertClose([value], [file.loss], lossTolerance, "loss");
    assertClose(grad!, flat(file.grad_policy_logits), gradTolerance, "grad of logits");
  });
}

interface SftFile {
  inputs: {
    input_ids: number[][];
    completion_mask: number[][];
    logits: number[][][];
    rewards: number[];
  };
  sft: { loss: number; grad_logits: number[][][] };
  rejection_sampling: { loss: number; grad_logits: number[][][] };
}

for (const path of goldenFiles("losses", /^sft_.*\.json$/)) {
  Deno.test(`${basename(path)}: SFT and rejection sampling, loss and gradient`, () => {
    const file = readJson<SftFile>(path);
    const { inputs } = file;
    const ids = tf.tensor2d(inputs.input_ids, undefined, "int32");
    const actions = shiftedActions(inputs.completion_mask);
    const rewards = tf.tensor1d(inputs.rewards);
    for (
      const [name, expected, loss] of [
        ["sft", file.sft, (l: tf.Tensor2D) => sftLoss(l, actions)],
        [
          "rejection sampling",
          file.rejection_sampling,
          (l: tf.Tensor2D) => rejectionSamplingLoss(l, actions, rewards),
        ],
      ] as const
    ) {
      const [value, [grad]] = valueAndGrads(
        (x) => loss(chosenLogProbs(nextTokenDistributions(x as tf.Tensor3D), ids)),
        [tf.tensor3d(inputs.logits)],
      );
      assertClose([value], [expected.loss], lossTolerance, `${name} loss`);
      assertClose(grad!, flat(expected.grad_logits), gradTolerance, `${name} grad of logits`);
    }
  });
}
