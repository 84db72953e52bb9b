/**
 * Maximum likelihood: supervised fine-tuning, and rejection sampling, which is the same loss on the
 * sequences that succeeded. Arrays are in the shifted form of `tokens.ts`.
 */
import { tf } from "../../xla/mod.ts";
import { normalise, weightedSum } from "./tokens.ts";

/**
 * SFT: −mean of log π over the action tokens of the batch. The mean is over tokens, as in the paper's
 * code and everyone's; `weights` (`[batch, time - 1]`) replaces it where a batch is split.
 */
export function sftLoss(
  logProbs: tf.Tensor2D,
  actionMask: tf.Tensor2D,
  weights: tf.Tensor2D = normalise(actionMask, "token"),
): tf.Scalar {
  return weightedSum(logProbs, weights).neg();
}

/** Rejection sampling: `sftLoss` over the rows whose reward (`[batch]`) is above one half. */
export function rejectionSamplingLoss(
  logProbs: tf.Tensor2D,
  actionMask: tf.Tensor2D,
  rewards: tf.Tensor1D,
): tf.Scalar {
  const succeeded = rewards.greater(0.5).toFloat().expandDims(1);
  return sftLoss(logProbs, actionMask.toFloat().mul(succeeded));
}
