/**
 * OREO: policy and value model trained together on the soft Bellman equation. A step is one program: one
 * forward pass of the policy serves both losses, the value model takes its step, then the policy, whose
 * loss uses the values from before that step and so does not depend on it. The value model may train
 * alone first, with the policy frozen: a policy that moves by a V that knows nothing yet pushes down
 * whatever wrong samples hold, right steps included.
 */
import { tf } from "../xla/mod.ts";
import { UserError } from "../errors.ts";
import { join } from "node:path";
import { gradientsOf, type Models } from "./gradients.ts";
import type { Networks } from "./networks.ts";
import {
  chosenLogProbs,
  firstStates,
  klDivergence,
  type KlEstimator,
  klK3,
  type Level,
  nextTokenDistributions,
  policyLoss,
  valueLoss,
  weightedSum,
} from "./objectives/mod.ts";
import type { NamedTensors } from "./optimizer.ts";
import { disposeModels, train, type TrainingOptions } from "./trainer.ts";
import type { BatchTensors, Objective } from "./trainer_programs.ts";
import type { Trajectory } from "./trajectory.ts";

export interface OreoOptions extends Omit<TrainingOptions, "learningRates" | "level"> {
  /** What an action is; default token. */
  level?: Level;
  /** β; default 0.03. */
  beta?: number;
  /** Weight of the regulariser; default 0.01 at token level, 0.1 step, 0.3 response. */
  alpha?: number;
  /** Default `exact`. `k3` needs no reference parameters, but `refLogProbs` in the data. */
  kl?: KlEstimator;
  /** Peak rate of the policy; default 5e-6. */
  policyLearningRate?: number;
  /** Peak rate of the value model; default the policy's. */
  valueLearningRate?: number;
  /**
   * The value model's training alone, before both: its own passes or steps, schedule and, by default,
   * all of `valueTrajectories`. Left out: none.
   */
  valueFirst?: { epochs?: number; steps?: number; batchSize?: number; learningRate?: number };
}

export interface OreoInputs {
  networks: Networks;
  /** Initial policy; left as it is. */
  policy: NamedTensors;
  /** Initial value model; left as it is. */
  value: NamedTensors;
  /** π_ref; default the initial policy. */
  reference?: NamedTensors;
  /** What both train on, balanced as the caller sees fit. */
  trajectories: readonly Trajectory[];
  /** What the value model trains on alone; default `trajectories`. More is better for V. */
  valueTrajectories?: readonly Trajectory[];
}

export interface OreoResult {
  policy: NamedTensors;
  value: NamedTensors;
  steps: number;
  best?: { step: number; score: number };
  /** The last step's metrics. */
  metrics: Record<string, number>;
  /** The last step's metrics of the value model's training alone. */
  valueMetrics?: Record<string, number>;
}

const defaultAlpha = { token: 0.01, step: 0.1, response: 0.3 } as const;

/** Runs the value model's training alone, where asked for, then the joint training. */
export async function trainOreo(inputs: OreoInputs, options: OreoOptions): Promise<OreoResult> {
  const { valueFirst, ...joint } = options;
  const kl = options.kl ?? "exact";
  if (kl === "k3" && inputs.trajectories.some((t) => t.refLogProbs === undefined)) {
    throw new UserError(
      "the k3 estimator needs refLogProbs in every trajectory: score them first, or use exact",
    );
  }
  const first = valueFirst === undefined ? undefined : await trainValue(inputs, {
    ...joint,
    epochs: undefined,
    steps: undefined,
    ...valueFirst,
  });
  try {
    return await trainJointly({ ...inputs, value: first?.value ?? inputs.value }, joint, first);
  } finally {
    if (first !== undefined) disposeModels({ value: first.value });
  }
}

/** Where the policy starts as its own reference, all log-ratios are zero and need no forward pass. */
function startsAtReference({ policy, reference }: OreoInputs): boolean {
  return reference === undefined || reference === policy;
}

/** Metrics of the two phases have the prefix `value_first/` and none. */
async function trainValue(
  inputs: OreoInputs,
  options: Omit<OreoOptions, "valueFirst"> & { learningRate?: number },
): Promise<{ value: NamedTensors; metrics: Record<string, number> }> {
  const { onMetrics, checkpoints, evaluation: _joint, epochs, steps, ...rest } = options;
  const { models, metrics } = await train(
    oreoObjective("oreo.value", inputs.networks, options),
    { value: inputs.value },
    startsAtReference(inputs) ? {} : { policy: inputs.policy, reference: inputs.reference! },
    inputs.valueTrajectories ?? inputs.trajectories,
    {
      ...rest,
      ...(steps === undefined ? { epochs: epochs ?? 1 } : { steps }),
      level: options.level === "step" ? "step" : "token",
      learningRates: { value: options.learningRate ?? valueRate(options) },
      ...(checkpoints === undefined ? {} : {
        checkpoints: { ...checkpoints, folder: join(checkpoints.folder, "value_first") },
      }),
      ...(onMetrics === undefined ? {} : {
        onMetrics: (step, values, total) =>
          onMetrics(
            step,
            Object.fromEntries(
              Object.entries(values).map(([name, value]) => [`value_first/${name}`, value]),
            ),
            total,
          ),
      }),
    },
  );
  return { value: models.value!, metrics };
}

function valueRate(options: OreoOptions): number {
  return options.valueLearningRate ?? options.policyLearningRate ?? 5e-6;
}

async function trainJointly(
  inputs: OreoInputs,
  options: Omit<OreoOptions, "valueFirst">,
  first: { metrics: Record<string, number> } | undefined,
): Promise<OreoResult> {
  const { policy, value, reference = policy } = inputs;
  const { checkpoints } = options;
  const { models, ...rest } = await train(
    oreoObjective("oreo", inputs.networks, options),
    { policy, value },
    options.kl === "k3" ? {} : { reference },
    inputs.trajectories,
    {
      ...options,
      level: options.level === "step" ? "step" : "token",
      learningRates: { policy: options.policyLearningRate ?? 5e-6, value: valueRate(options) },
      ...(checkpoints === undefined ? {} : {
        checkpoints: { ...checkpoints, folder: join(checkpoints.folder, "joint") },
      }),
    },
  );
  return {
    policy: models.policy!,
    value: models.value!,
    ...rest,
    ...(first === undefined ? {} : { valueMetrics: first.metrics }),
  };
}

const valueSums = [
  "value_correct_sum",
  "value_correct_weight",
  "value_wrong_sum",
  "value_wrong_weight",
  "concordant_pairs",
  "pairs",
] as const;

/**
 * The objective of both phases: with a `policy` among the trained models the joint one, else the value
 * model's alone, against a frozen policy among the constants or, where there is none, against a policy
 * equal to its reference.
 */
export function oreoObjective(
  name: "oreo" | "oreo.value",
  networks: Networks,
  options: Pick<OreoOptions, "level" | "beta" | "alpha" | "kl">,
): Objective {
  const { level = "token", beta = 0.03, kl = "exact" } = options;
  const alpha = options.alpha ?? defaultAlpha[level];
  const joint = name === "oreo";
  const sums = joint
    ? ["loss", "value_loss", "policy_loss", "kl", "kl_k3", ...valueSums]
    : ["loss", ...valueSums];

  const gradients = (models: Models, constants: Models, batch: BatchTensors) => {
    const { ids, actionWeights, stateWeights, rewards } = batch;
    const columns: [number, number] = [ids.shape[0], ids.shape[1] - 1];
    const distributions = (params: NamedTensors) =>
      nextTokenDistributions(networks.policy.logits(params, ids));
    const reference = constants.reference === undefined
      ? undefined
      : distributions(constants.reference);
    const refLogProbs = reference === undefined
      ? batch.refLogProbs
      : chosenLogProbs(reference, ids);
    const bellman = (values: tf.Tensor2D, logRatios: tf.Tensor2D) => ({
      values,
      logRatios,
      actionMask: actionWeights.greater(0) as tf.Tensor2D,
      stateMask: stateWeights.greater(0) as tf.Tensor2D,
      rewards,
      beta,
      stateWeights,
    });
    const predicted = () => networks.value.values(models.value!, ids).slice([0, 0], columns);

    const { kept, grads } = gradientsOf(() => {
      const values = predicted() as tf.Tensor2D;
      if (!joint) {
        const logRatios = constants.policy === undefined
          ? tf.zeros(columns) as tf.Tensor2D
          : chosenLogProbs(distributions(constants.policy), ids).sub(refLogProbs) as tf.Tensor2D;
        const loss = valueLoss(bellman(values, logRatios));
        return { loss, kept: [loss, ...valueStatistics(values, batch)] };
      }
      const policy = distributions(models.policy!);
      const logRatios = chosenLogProbs(policy, ids).sub(refLogProbs) as tf.Tensor2D;
      const inputs = bellman(values, logRatios);
      const ofValue = valueLoss(inputs);
      // A response's single state weighs as much as all states of its sequence together.
      const ofPolicy = policyLoss(
        level === "response"
          ? {
            ...inputs,
            stateWeights: firstStates(inputs.stateMask).mul(stateWeights.sum(1, true)),
          }
          : inputs,
        level,
      );
      const k3 = weightedSum(klK3(logRatios), actionWeights);
      const divergence = kl === "k3" ? k3 : weightedSum(
        kl === "exact" ? klDivergence(policy, reference!) : klDivergence(reference!, policy),
        actionWeights,
      );
      const loss = ofValue.add(ofPolicy).add(divergence.mul(alpha)) as tf.Scalar;
      const statistics = valueStatistics(values, batch);
      return { loss, kept: [loss, ofValue, ofPolicy, divergence, k3, ...statistics] };
    }, models);
    return { grads, sums: kept };
  };

  const settings = { level, beta, ...(joint ? { alpha, kl } : {}) };
  return { name, settings, sums, gradients, describe: (raw) => describeOreo(raw, joint) };
}

/** Sums behind V's means for right and wrong sequences and its AUC, in the order of `valueSums`. */
function valueStatistics(
  values: tf.Tensor2D,
  { stateWeights, rewards }: BatchTensors,
): tf.Scalar[] {
  const rowWeights = stateWeights.sum(1);
  const rowSums = values.mul(stateWeights).sum(1);
  const means = rowSums.div(tf.maximum(rowWeights, 1e-12));
  const present = rowWeights.greater(0).toFloat();
  const right = rewards.mul(present);
  const wrong = present.sub(right);
  const pairs = right.expandDims(1).mul(wrong.expandDims(0));
  const difference = means.expandDims(1).sub(means.expandDims(0));
  const wins = difference.greater(0).toFloat().add(difference.equal(0).toFloat().mul(0.5));
  return [
    rowSums.mul(right).sum(),
    rowWeights.mul(right).sum(),
    rowSums.mul(wrong).sum(),
    rowWeights.mul(wrong).sum(),
    pairs.mul(wins).sum(),
    pairs.sum(),
  ] as tf.Scalar[];
}

/**
 * Metrics: the loss terms; `value_correct` and `value_wrong`, V's mean over the states of right and
 * wrong sequences; `value_auc`, the chance that V's mean ranks a right sequence of the batch above a
 * wrong one (per micro-batch). What a batch cannot say is left out.
 */
function describeOreo(raw: Record<string, number>, joint: boolean): Record<string, number> {
  const ratio = (name: string, over: number, by: number) => by > 0 ? { [name]: over / by } : {};
  const losses = joint
    ? {
      value_loss: raw.value_loss!,
      policy_loss: raw.policy_loss!,
      kl: raw.kl!,
      kl_k3: raw.kl_k3!,
    }
    : { value_loss: raw.loss! };
  return {
    ...losses,
    ...ratio("value_correct", raw.value_correct_sum!, raw.value_correct_weight!),
    ...ratio("value_wrong", raw.value_wrong_sum!, raw.value_wrong_weight!),
    ...ratio("value_auc", raw.concordant_pairs!, raw.pairs!),
  };
}
