/**
 * The preference baselines, DPO and KTO: a policy alone, against log-probabilities of its reference that
 * are in the data, or else computed once before training. No reference model stays in memory.
 */
import { UserError } from "../errors.ts";
import { jit, stopGradient, tf } from "../xla/mod.ts";
import { bucketLengths, collate, planEpoch } from "./batches.ts";
import { logProbsOf } from "./columns.ts";
import type { PolicyNetwork } from "./networks.ts";
import { dpoLoss, klK3, ktoLoss, ktoReferencePoint, responseLogProbs } from "./objectives/mod.ts";
import type { NamedTensors } from "./optimizer.ts";
import { longer, mismatched, type Pair, preferencePairs } from "./pairs.ts";
import { Placement } from "./placement.ts";
import { disposeModels, train } from "./trainer.ts";
import {
  type BatchTensors,
  type Objective,
  type ObjectiveInputs,
  upload,
} from "./trainer_programs.ts";
import type { SftOptions, SftResult } from "./trainer_sft.ts";
import { lengthOf, type Trajectory } from "./trajectory.ts";

/** `batchSize` and `microBatch` count pairs, or trajectories with their mismatched twins. */
export interface PreferenceOptions
  extends Omit<SftOptions, "normalisation" | "evaluation" | "heldOut" | "plan"> {
  /** β; default 0.1 (the paper's). */
  beta?: number;
  /** Trajectories that are not trained on, see `TrainingOptions.heldOut`. */
  heldOut?: { items: readonly Trajectory[]; every: number };
}

export interface DpoOptions extends PreferenceOptions {
  /** See `DpoInputs`; default 0, as in the paper. */
  labelSmoothing?: number;
  /** See `DpoInputs`; default false. */
  ipo?: boolean;
  /** See `PairOptions`. */
  maxPairs?: number;
  /** Gets the pairs before training begins on them. */
  onPairs?: (pairs: readonly Pair<Trajectory>[]) => void;
}

export interface KtoOptions extends PreferenceOptions {
  /** λ of right and of wrong trajectories; default 1 and 1. */
  desirableWeight?: number;
  undesirableWeight?: number;
}

/**
 * DPO on pairs of a right and a wrong trajectory of one query; peak rate 5e-7 by default (the paper's).
 * @param params initial policy, which is the reference; left as it is
 * @throws UserError where no query has both
 */
export async function trainDpo(
  network: PolicyNetwork,
  params: NamedTensors,
  trajectories: readonly Trajectory[],
  options: DpoOptions,
): Promise<SftResult> {
  const { labelSmoothing = 0, ipo = false, maxPairs = 4, beta = 0.1, onPairs, ...rest } = options;
  if (ipo && labelSmoothing !== 0) {
    throw new UserError(
      `labelSmoothing ${labelSmoothing} belongs to DPO's own loss: give it or ipo, not both`,
    );
  }
  const pairsOf = (from: readonly Trajectory[]) =>
    preferencePairs(from, { maxPairs, seed: options.seed });
  const rowsOf = (pairs: readonly Pair<Trajectory>[]) =>
    pairs.flatMap(({ chosen, rejected }) => [chosen, rejected]);
  const pairs = pairsOf(trajectories);
  onPairs?.(pairs);
  const rows = rowsOf(pairs);
  if (rows.length === 0) {
    throw new UserError(
      `cannot train dpo: none of the queries of ${trajectories.length} trajectories has both right ` +
        "and wrong ones. Sample more of each query",
    );
  }
  const objective: Objective = {
    name: "dpo",
    settings: { beta, labelSmoothing, maxPairs, ...(ipo ? { ipo } : {}) },
    sums: ["loss", "accuracy", "margin", "chosen_log_ratio", "rejected_log_ratio", "kl_k3"],
    loss(inputs, batch) {
      const { first, second, weights, k3 } = twins(network, inputs, batch);
      const loss = dpoLoss({
        chosenLogRatios: first,
        rejectedLogRatios: second,
        beta,
        labelSmoothing,
        ipo,
        weights,
      });
      const sum = (x: tf.Tensor) => x.mul(weights).sum() as tf.Scalar;
      return {
        loss,
        kept: [
          loss,
          sum(first.greater(second).toFloat()),
          sum(first.sub(second).mul(beta)),
          sum(first),
          sum(second),
          k3.sum() as tf.Scalar,
        ],
      };
    },
    describe: (sums) => sums,
  };
  return await trainTwins(objective, network, params, rows, (from) => rowsOf(pairsOf(from)), {
    learningRate: 5e-7,
    ...rest,
  });
}

/**
 * KTO; peak rate 5e-8 by default (the paper's for Qwen2.5-Math; 1e-7 for DeepSeekMath). The reference
 * point is estimated on the whole batch of an update, whatever its cut into micro-batches, which costs
 * these a forward pass more. KTO's paper (arXiv 2402.01306, section 4.1) and TRL estimate it on what
 * goes through the model at a time: the same where that is the batch, a noisier estimate where not.
 * @param params initial policy, which is the reference; left as it is
 */
export async function trainKto(
  network: PolicyNetwork,
  params: NamedTensors,
  trajectories: readonly Trajectory[],
  options: KtoOptions,
): Promise<SftResult> {
  const { desirableWeight = 1, undesirableWeight = 1, beta = 0.1, ...rest } = options;
  const { seed, maxLength } = options;
  const rowsOf = (from: readonly Trajectory[]) => {
    const others = mismatched(from, { seed, maxLength });
    return from.flatMap((trajectory, i) => [trajectory, others[i]!]);
  };
  const objective: Objective = {
    name: "kto",
    settings: { beta, desirableWeight, undesirableWeight },
    sums: [
      "loss",
      "reference_point",
      "right",
      "right_log_ratio",
      "wrong",
      "wrong_log_ratio",
      "kl_k3",
      "own_share",
    ],
    batchSums(inputs, batch) {
      const { second, weights } = twins(network, inputs, batch);
      return second.mul(weights).sum().expandDims(0) as tf.Tensor1D;
    },
    loss(inputs, batch) {
      const { first, second, weights, labels, k3, shares } = twins(network, inputs, batch);
      const ofBatch = inputs.batchSums;
      const kto = {
        logRatios: first,
        labels,
        // The weights of a batch sum to 1: its mean is known, or is that of the rows at hand.
        klLogRatios: ofBatch ?? second,
        klWeights: ofBatch === undefined ? weights : tf.ones([1]) as tf.Tensor1D,
        beta,
        desirableWeight,
        undesirableWeight,
        weights,
      };
      const loss = ktoLoss(kto);
      const right = labels.mul(weights);
      const wrong = weights.sub(right);
      return {
        loss,
        kept: [
          loss,
          ktoReferencePoint(kto).mul(weights.sum()),
          right.sum(),
          right.mul(first).sum(),
          wrong.sum(),
          wrong.mul(first).sum(),
          // Of the trajectories, not of their mismatched twins.
          k3.slice([0, 0], [-1, 1]).sum(),
          shares.slice([0, 0], [-1, 1]).sum(),
        ] as tf.Scalar[],
      };
    },
    describe: (
      { loss, reference_point, right, right_log_ratio, wrong, wrong_log_ratio, kl_k3, own_share },
    ) => ({
      loss: loss!,
      reference_point: reference_point!,
      kl_k3: kl_k3! / own_share!,
      ...(right! > 0 ? { right_log_ratio: right_log_ratio! / right! } : {}),
      ...(wrong! > 0 ? { wrong_log_ratio: wrong_log_ratio! / wrong! } : {}),
    }),
  };
  const rows = rowsOf(trajectories);
  return await trainTwins(objective, network, params, rows, rowsOf, {
    learningRate: 5e-8,
    ...rest,
  });
}

/**
 * Log-ratios of the rows at even and at odd places, each `[rows / 2]`, and the weights of the twins; the
 * divergence from the reference as `klK3` estimates it, and the rows' weights in it, `[rows / 2, 2]`.
 */
function twins(
  network: PolicyNetwork,
  { models, constants }: ObjectiveInputs,
  batch: BatchTensors,
) {
  const params = { ...constants.policy_base, ...models.policy };
  const logRatios = logProbsOf(network, params, batch).sub(batch.refLogProbs) as tf.Tensor2D;
  // Several devices' rows may end with an odd one, of padding.
  const half = Math.floor(batch.rewards.shape[0] / 2);
  const paired = (x: tf.Tensor) => x.slice(0, 2 * half).reshape([half, 2]) as tf.Tensor2D;
  const column = (x: tf.Tensor, i: number) =>
    paired(x).slice([0, i], [half, 1]).reshape([half]) as tf.Tensor1D;
  const sums = responseLogProbs(logRatios, batch.actionWeights.greater(0) as tf.Tensor2D);
  const rowWeights = batch.actionWeights.sum(1);
  return {
    first: column(sums, 0),
    second: column(sums, 1),
    weights: column(rowWeights, 0).add(column(rowWeights, 1)) as tf.Tensor1D,
    labels: column(batch.rewards, 0),
    k3: paired(stopGradient(klK3(logRatios).mul(batch.actionWeights).sum(1))),
    shares: paired(rowWeights),
  };
}

/** Trains on rows of which two and two belong together. */
async function trainTwins(
  objective: Objective,
  network: PolicyNetwork,
  params: NamedTensors,
  rows: readonly Trajectory[],
  rowsOf: (from: readonly Trajectory[]) => Trajectory[],
  { learningRate, base, heldOut, ...options }: PreferenceOptions & { learningRate: number },
): Promise<SftResult> {
  const whole = { ...base, ...params };
  const scored = (from: readonly Trajectory[]) => withReference(network, whole, from, options);
  const items = await scored(rows);
  const lengths = Array.from(
    { length: items.length / 2 },
    (_, i) => longer(items[2 * i]!, items[2 * i + 1]!),
  );
  const batchSize = Math.min(options.batchSize ?? 128, lengths.length);
  const { seed, window } = options;
  const held = heldOut === undefined ? [] : await scored(rowsOf(heldOut.items));
  const { models, ...rest } = await train(
    objective,
    { policy: params },
    base === undefined ? {} : { policy_base: base },
    items,
    {
      ...options,
      batchSize: 2 * batchSize,
      ...(options.microBatch === undefined ? {} : { microBatch: 2 * options.microBatch }),
      ...(options.packing === undefined ? {} : { packing: { together: 2 } }),
      normalisation: "sequence",
      learningRates: { policy: learningRate },
      plan: (epoch) =>
        planEpoch(lengths, { batchSize, seed, epoch, ...(window === undefined ? {} : { window }) })
          .map((pairs) => pairs.flatMap((i) => [2 * i, 2 * i + 1])),
      ...(heldOut === undefined || held.length === 0
        ? {}
        : { heldOut: { items: held, every: heldOut.every } }),
    },
  );
  return { policy: models.policy!, ...rest };
}

/** The trajectories, those without reference log-probabilities with those of `params`. */
async function withReference(
  network: PolicyNetwork,
  params: NamedTensors,
  rows: readonly Trajectory[],
  { padId, maxLength, microBatch = 16, signal, devices }: PreferenceOptions,
): Promise<Trajectory[]> {
  const out = [...rows];
  const missing = rows.flatMap((row, i) => row.refLogProbs === undefined ? [i] : [])
    .sort((a, b) => lengthOf(rows[a]!) - lengthOf(rows[b]!));
  if (missing.length === 0) return out;
  const items = missing.map((i) => rows[i]!);
  const placement = new Placement(devices);
  const own = placement.devices === 1 ? undefined : placement.place(params);
  const buckets = bucketLengths(items.map(lengthOf), { maxLength });
  const logProbs = jit(
    (params: NamedTensors, ids: tf.Tensor2D) => network.logProbs(params, ids),
    { name: "reference.log_probs" },
  );
  let done = 0;
  for (const batch of collate(items, { padId, buckets, microBatch, multiple: placement.devices })) {
    signal?.throwIfAborted();
    const tensors = upload(batch, placement);
    const result = logProbs(own ?? params, tensors.ids);
    const host = await result.data();
    tf.dispose([result, ...Object.values(tensors)]);
    for (let row = 0; row < microBatch && done < missing.length; row++, done++) {
      const { promptIds, responseIds } = items[done]!;
      const start = row * (batch.time - 1) + promptIds.length - 1;
      out[missing[done]!] = {
        ...items[done]!,
        refLogProbs: [...host.subarray(start, start + responseIds.length)],
      };
    }
  }
  if (own !== undefined) disposeModels({ own });
  return out;
}
