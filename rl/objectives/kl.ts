/**
 * The regulariser that keeps the policy near its reference: mean over action tokens of a divergence
 * between π and π_ref at the state before them. Exact over the vocabulary (the paper, and the
 * default), or estimated on the tokens that the data hold where no reference distribution is at hand.
 */
import { tf } from "../../xla/mod.ts";

/**
 * - `exact`: KL[π‖π_ref], the sum over the vocabulary.
 * - `exactReverse`: KL[π_ref‖π], the sum over the vocabulary (the code's `--forward_kl`).
 * - `k3`: exp(−l) − 1 + l on the data's tokens, never negative; biased here, for those tokens are not
 *   samples of π (the code's behaviour without `--unbiased_kl`).
 */
export type KlEstimator = "exact" | "exactReverse" | "k3";

/**
 * Σ_v p(v) (log p(v) − log q(v)) at each column.
 *
 * @param logP log-probabilities `[batch, columns, vocab]`
 * @param logQ log-probabilities `[batch, columns, vocab]`
 * @returns nats, `[batch, columns]`
 */
export function klDivergence(logP: tf.Tensor3D, logQ: tf.Tensor3D): tf.Tensor2D {
  return logP.exp().mul(logP.sub(logQ)).sum(-1);
}

/** Schulman's k3 of KL[π‖π_ref] from l = log π − log π_ref of one token: exp(−l) − 1 + l, in nats. */
export function klK3(logRatios: tf.Tensor2D): tf.Tensor2D {
  return logRatios.neg().exp().sub(1).add(logRatios);
}
