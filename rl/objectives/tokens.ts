/**
 * What every objective is made of: per-token log-probabilities, masks turned into weights, and sums
 * along a sequence. All arrays are in the shifted form of next-token prediction: column `j` of a
 * `[batch, time - 1]` array belongs to token `j + 1`, predicted from the prefix that ends at `j`. A
 * state mask is 1 at `j` where that prefix is a state, an action mask is 1 at `j` where token `j + 1`
 * is an action. Pure functions of tensors; nothing here knows a model.
 */
import { stopGradient, tf } from "../../xla/mod.ts";

/**
 * How a loss is averaged. `sequence`: over the counted columns of one sequence, then over the
 * sequences that have any (the paper's sum over t divided by T, then the expectation over
 * trajectories; also its code's). `token`: over all counted columns of the batch, so that long
 * sequences weigh more (the code's `--importance_sampling_2`).
 */
export type Normalisation = "sequence" | "token";

/**
 * Weights `[batch, time - 1]` that sum to one over the ones of `mask`, so that a mean is a weighted
 * sum. Rows without a one get weight 0 and are not counted as sequences; a mask without any one gives
 * all zeros.
 */
export function normalise(
  mask: tf.Tensor2D,
  normalisation: Normalisation = "sequence",
): tf.Tensor2D {
  const ones = mask.toFloat();
  if (normalisation === "token") return ones.div(tf.maximum(ones.sum(), 1));
  const perRow = ones.sum(1, true);
  const rows = tf.maximum(tf.minimum(perRow, 1).sum(), 1);
  return ones.div(tf.maximum(perRow, 1)).div(rows);
}

/** Σ weights · x, a scalar: the mean that `normalise` describes. */
export function weightedSum(x: tf.Tensor, weights: tf.Tensor): tf.Scalar {
  return x.mul(weights).sum();
}

/**
 * log π over the vocabulary for every next token: `[batch, time, vocab]` logits to
 * `[batch, time - 1, vocab]`; the last column predicts nothing that the batch holds.
 */
export function nextTokenDistributions(logits: tf.Tensor3D): tf.Tensor3D {
  const [batch, time, vocab] = logits.shape;
  return tf.logSoftmax(logits.slice([0, 0, 0], [batch, time - 1, vocab]));
}

/**
 * log π(a) of the tokens that the batch holds.
 *
 * @param distributions log-probabilities `[batch, time - 1, vocab]` of `nextTokenDistributions`
 * @param ids int32 `[batch, time]`
 * @returns `[batch, time - 1]`
 */
export function chosenLogProbs(distributions: tf.Tensor3D, ids: tf.Tensor2D): tf.Tensor2D {
  const [batch, columns, vocab] = distributions.shape;
  const next = ids.slice([0, 1], [batch, columns]);
  return distributions.mul(tf.oneHot(next, vocab)).sum(-1);
}

/** Σ_{i ≥ j} x_i along each row of `[batch, columns]`. */
export function reverseCumulativeSum(x: tf.Tensor2D): tf.Tensor2D {
  return tf.cumsum(x, 1, false, true);
}

/** 1 at the first state of each row (t = 0), 0 elsewhere. */
export function firstStates(stateMask: tf.Tensor2D): tf.Tensor2D {
  const states = stateMask.toFloat();
  return states.mul(tf.cumsum(states, 1).lessEqual(1).toFloat());
}

/**
 * Sum of `x` over the step to which each column belongs, `[batch, columns]`: a step reaches from one
 * state to the column before the next. Columns before the first state form a step of their own.
 */
export function stepSums(x: tf.Tensor2D, stateMask: tf.Tensor2D): tf.Tensor2D {
  const step = tf.cumsum(stateMask.toFloat(), 1);
  const sameStep = tf.equal(step.expandDims(2), step.expandDims(1)).toFloat();
  return sameStep.mul(x.expandDims(1)).sum(2);
}

/** `part` carries the gradient, the value is `whole`'s: part + sg(whole − part). */
export function carryGradient(part: tf.Tensor2D, whole: tf.Tensor2D): tf.Tensor2D {
  return part.add(stopGradient(whole.sub(part)));
}

/** Each row moved `by` columns to the left, zeros coming in. */
export function shiftLeft(x: tf.Tensor2D, by: number): tf.Tensor2D {
  const [batch, columns] = x.shape;
  return tf.pad(x.slice([0, by], [batch, columns - by]), [[0, 0], [0, by]]);
}

/**
 * `x` at the first state after each column, and whether there is one (1 or 0, and `x` 0 where not);
 * both `[batch, columns]`. Found by windows of doubling length, in O(columns · log columns).
 */
export function nextStates(
  x: tf.Tensor2D,
  stateMask: tf.Tensor2D,
): { values: tf.Tensor2D; present: tf.Tensor2D } {
  const columns = x.shape[1];
  let present = stateMask.toFloat() as tf.Tensor2D;
  let values = x.mul(present) as tf.Tensor2D;
  for (let window = 1; window < columns; window *= 2) {
    const absent = present.neg().add(1);
    values = values.add(absent.mul(shiftLeft(values, window)));
    present = tf.maximum(present, shiftLeft(present, window));
  }
  if (columns === 1) return { values: tf.zerosLike(values), present: tf.zerosLike(present) };
  return { values: shiftLeft(values, 1), present: shiftLeft(present, 1) };
}
