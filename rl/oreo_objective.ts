/**
 * OREO and DQO as the trainer takes them: the losses of a batch from parameters, with what the paper's
 * code can switch on beside the paper. One forward pass of the policy serves every term.
 */
import { stopGradient, tf } from "../xla/mod.ts";
import { compare, logProbsOf, valuesOf } from "./columns.ts";
import type { Networks } from "./networks.ts";
import {
  type BellmanInputs,
  dqoLoss,
  firstStates,
  hingeLoss,
  importanceWeights,
  type KlEstimator,
  klK3,
  type Level,
  oneStepLoss,
  policyLoss,
  reverseCumulativeSum,
  valueLoss,
  weightedSum,
} from "./objectives/mod.ts";
import type { NamedTensors } from "./optimizer.ts";
import {
  advantageStatistics,
  advantageSums,
  describeAdvantage,
  describeValue,
  valueStatistics,
  valueSums,
} from "./oreo_metrics.ts";
import { averageMemory, type KlTarget, klTargetMemory } from "./oreo_memory.ts";
import type { BatchTensors, Objective, ObjectiveInputs } from "./trainer_programs.ts";

/** What decides the losses. */
export interface OreoObjectiveOptions {
  /** What an action is; default token (the paper's). */
  level?: Level;
  /** β; default 0.03 (the paper's). */
  beta?: number;
  /** Weight of the regulariser; the paper's by default: 0.01 at token level, 0.1 step, 0.3 response. */
  alpha?: number;
  /** Default `exact`, the paper's. `k3` needs no reference parameters, but `refLogProbs` in the data. */
  kl?: KlEstimator;
  /**
   * In place of a fixed `alpha`: it is adapted so that the divergence comes to a target. Off by default:
   * the paper has a fixed one.
   */
  klTarget?: KlTarget | undefined;
  /**
   * V's targets, and importance weights, come from a moving average of the policy with this decay.
   * Costs a forward pass and a copy of the policy. Off by default: the paper's come from the policy;
   * the code's decay where it is on is 0.995.
   */
  emaDecay?: number | undefined;
  /** See `BellmanInputs.clipLogRatios`; off by default, as in the paper. */
  clipLogRatios?: number | undefined;
  /**
   * Weighs sequences by `importanceWeights`: in V's loss, and in the policy's at token and step level
   * (the code's `--importance_sampling`). Off by default, as in the paper. With normalisation `token`
   * and the regulariser's left at `sequence` it is the code's `--importance_sampling_2`.
   */
  importanceSampling?: boolean | undefined;
  /** The policy's loss is `oneStepLoss`, at token or step level. Off by default, as in the paper. */
  oneStep?: boolean | undefined;
  /** Weight of `hingeLoss`, at response level. Off by default, as in the paper. */
  hinge?: number | undefined;
  /**
   * R = scale · outcome + offset. Default 1 and 0, the paper's, so that V is a chance; the code's data
   * set has 2 and −1 unless it is told (its released scripts tell it 1 and 0, but for ALFWorld).
   */
  reward?: RewardMap | undefined;
}

export interface RewardMap {
  scale: number;
  offset: number;
}

/** The regulariser's weight in the paper. */
const defaultAlpha = { token: 0.01, step: 0.1, response: 0.3 } as const;

/** Parameters of a model with those that it stands on and that are not trained. */
function wholeModel(name: string, { models, constants }: ObjectiveInputs): NamedTensors {
  return { ...constants[`${name}_base`], ...models[name] };
}

/** `oreo`: both models; `oreo.value`: V alone, the policy frozen; `dqo`: both, on one loss. */
export type OreoObjectiveName = "oreo" | "oreo.value" | "dqo";

/**
 * The objective of a phase. Constants that it reads: `reference` (parameters of π_ref; without them the
 * data's log-probabilities serve), `policy` (of the frozen policy; none: equal to its reference),
 * `policy_base` and `value_base` (what trained parameters stand on).
 */
export function oreoObjective(
  name: OreoObjectiveName,
  networks: Networks,
  options: OreoObjectiveOptions,
): Objective {
  const { level = "token", beta = 0.03, kl = "exact", klTarget, emaDecay } = options;
  const { oneStep = false, hinge, reward = { scale: 1, offset: 0 } } = options;
  const alpha = options.alpha ?? defaultAlpha[level];
  const joint = name !== "oreo.value";
  const sums = joint
    ? [
      "loss",
      "value_loss",
      "policy_loss",
      "kl",
      "kl_k3",
      "kl_weight",
      "clipped",
      ...valueSums,
      ...advantageSums,
    ]
    : ["loss", ...valueSums];

  const bellman = (values: tf.Tensor2D, logRatios: tf.Tensor2D, batch: BatchTensors) => ({
    values,
    logRatios,
    actionMask: batch.actionWeights.greater(0) as tf.Tensor2D,
    stateMask: batch.stateWeights.greater(0) as tf.Tensor2D,
    rewards: batch.rewards.mul(reward.scale).add(reward.offset) as tf.Tensor1D,
    beta,
    stateWeights: batch.stateWeights,
    clipLogRatios: options.clipLogRatios,
  });

  /** What people watch is V as a chance of success, whatever the rewards are. */
  const statisticsOfValue = (values: tf.Tensor2D, batch: BatchTensors) =>
    valueStatistics(values.sub(reward.offset).div(reward.scale) as tf.Tensor2D, batch);

  const ofValueAlone = (inputs: ObjectiveInputs, batch: BatchTensors) => {
    const { policy, reference } = inputs.constants;
    const values = valuesOf(networks.value, wholeModel("value", inputs), batch);
    const logProbs = (params: NamedTensors) => logProbsOf(networks.policy, params, batch);
    const logRatios = policy === undefined ? tf.zerosLike(values) : logProbs(policy).sub(
      reference === undefined ? batch.refLogProbs : logProbs(reference),
    ) as tf.Tensor2D;
    const loss = valueLoss(bellman(values, logRatios, batch));
    return { loss, kept: [loss, ...statisticsOfValue(values, batch)] };
  };

  const ofBoth = (inputs: ObjectiveInputs, batch: BatchTensors) => {
    const { constants, memory } = inputs;
    const { actionWeights } = batch;
    const policy = wholeModel("policy", inputs);
    const compared = constants.reference === undefined ? undefined : compare(
      networks.policy,
      policy,
      constants.reference,
      batch,
      kl === "exactReverse" ? kl : "exact",
    );
    const refLogProbs = compared?.refLogProbs ?? batch.refLogProbs;
    const logProbs = compared?.logProbs ?? logProbsOf(networks.policy, policy, batch);
    const logRatios = logProbs.sub(refLogProbs) as tf.Tensor2D;
    const averaged = memory.average === undefined
      ? logRatios
      : logProbsOf(networks.policy, { ...constants.policy_base, ...memory.average }, batch)
        .sub(refLogProbs);
    const values = valuesOf(networks.value, wholeModel("value", inputs), batch);
    const forValue = bellman(values, averaged as tf.Tensor2D, batch);
    const rowWeights = options.importanceSampling
      ? importanceWeights(forValue).expandDims(1)
      : undefined;
    const weigh = (weights: tf.Tensor2D) =>
      rowWeights === undefined ? weights : weights.mul(rowWeights) as tf.Tensor2D;
    const forPolicy: BellmanInputs = { ...forValue, logRatios };
    forValue.stateWeights = weigh(forValue.stateWeights);

    const k3 = weightedSum(klK3(logRatios), actionWeights);
    const statistics = [
      ...statisticsOfValue(forValue.values, batch),
      ...advantageStatistics(forPolicy),
    ];
    if (name === "dqo") {
      const loss = dqoLoss({ ...forPolicy, stateWeights: forValue.stateWeights });
      return { loss, kept: [loss, loss, loss, k3, k3, tf.scalar(0), tf.scalar(0), ...statistics] };
    }
    const ofValue = valueLoss(forValue);
    const policyTerm = (): tf.Scalar => {
      if (oneStep) return oneStepLoss(forPolicy);
      if (level !== "response") {
        return policyLoss({ ...forPolicy, stateWeights: forValue.stateWeights }, level);
      }
      // A response's single state weighs as much as all states of its sequence together.
      const stateWeights = firstStates(forPolicy.stateMask)
        .mul(batch.stateWeights.sum(1, true)) as tf.Tensor2D;
      const squared = policyLoss({ ...forPolicy, stateWeights }, level);
      if (hinge === undefined) return squared;
      const outcomes = { ...forPolicy, rewards: batch.rewards };
      return squared.add(hingeLoss(outcomes, inputs.batchSums).mul(hinge)) as tf.Scalar;
    };
    const ofPolicy = policyTerm();
    const divergence = kl === "k3" ? k3 : weightedSum(compared!.divergence(), actionWeights);
    const weight = klTarget === undefined
      ? tf.scalar(alpha)
      : stopGradient(memory.kl_target!.log_coefficient!).exp();
    const loss = ofValue.add(ofPolicy).add(divergence.mul(weight)) as tf.Scalar;
    return {
      loss,
      kept: [
        loss,
        ofValue,
        ofPolicy,
        divergence,
        k3,
        weight.mul(actionWeights.sum()) as tf.Scalar,
        clippedShare(forValue),
        ...statistics,
      ],
    };
  };

  const memories = [
    ...(emaDecay === undefined || !joint ? [] : [averageMemory(emaDecay)]),
    ...(klTarget === undefined || !joint ? [] : [klTargetMemory(klTarget)]),
  ];
  return {
    name,
    settings: settingsOf(options, { level, beta, alpha, kl, joint }),
    sums,
    loss: (inputs, batch) => joint ? ofBoth(inputs, batch) : ofValueAlone(inputs, batch),
    // The hinge is a mean over the batch's successes.
    ...(hinge === undefined || !joint ? {} : {
      batchSums: (_: ObjectiveInputs, { rewards }: BatchTensors) =>
        rewards.sum().expandDims(0) as tf.Tensor1D,
    }),
    describe: (raw) =>
      joint ? describeJoint(raw, options) : {
        value_loss: raw.loss!,
        ...describeValue(raw),
      },
    ...(memories.length === 0 ? {} : {
      memory: {
        follows: "policy",
        initial: (models) => Object.assign({}, ...memories.map((m) => m.initial(models))),
        next: (memory, models, sums) =>
          Object.assign({}, ...memories.map((m) => m.next(memory, models, sums))),
      },
    }),
  };
}

/** Share of the states whose sum of log-ratios the limit cuts. */
function clippedShare(inputs: BellmanInputs): tf.Scalar {
  const { logRatios, actionMask, clipLogRatios: limit, stateWeights } = inputs;
  if (limit === undefined) return tf.scalar(0);
  const sums = reverseCumulativeSum(logRatios.mul(actionMask.toFloat()));
  return weightedSum(sums.abs().greater(limit).toFloat(), stateWeights!);
}

/** What is off leaves no trace, so that checkpoints from before an option existed still fit. */
function settingsOf(
  { klTarget, emaDecay, clipLogRatios, importanceSampling, oneStep, hinge, reward }:
    OreoObjectiveOptions,
  { joint, level, beta, alpha, kl }: {
    joint: boolean;
    level: Level;
    beta: number;
    alpha: number;
    kl: KlEstimator;
  },
) {
  return {
    level,
    beta,
    ...(joint ? { alpha, kl } : {}),
    ...(clipLogRatios === undefined ? {} : { clipLogRatios }),
    ...(emaDecay === undefined || !joint ? {} : { emaDecay }),
    ...(klTarget === undefined || !joint ? {} : { klTarget: JSON.stringify(klTarget) }),
    ...(importanceSampling && joint ? { importanceSampling } : {}),
    ...(oneStep && joint ? { oneStep } : {}),
    ...(hinge === undefined || !joint ? {} : { hinge }),
    ...(reward === undefined ? {} : { reward: JSON.stringify(reward) }),
  };
}

/**
 * Metrics: the loss terms, the divergence from the reference (`kl` as it is regularised, `kl_k3` as it
 * is estimated on the data's tokens; `kl_weight` where it is adapted), `describeValue`,
 * `describeAdvantage`.
 */
function describeJoint(
  raw: Record<string, number>,
  { clipLogRatios, klTarget }: OreoObjectiveOptions,
): Record<string, number> {
  return {
    value_loss: raw.value_loss!,
    policy_loss: raw.policy_loss!,
    kl: raw.kl!,
    kl_k3: raw.kl_k3!,
    ...(klTarget === undefined ? {} : { kl_weight: raw.kl_weight! }),
    ...(clipLogRatios === undefined ? {} : { clipped: raw.clipped! }),
    ...describeValue(raw),
    ...describeAdvantage(raw),
  };
}
