/**
 * The preference baselines, on log-probabilities summed over each response's tokens: DPO (pairs of a
 * chosen and a rejected response) and KTO (single responses marked desirable or not).
 */
import { stopGradient, tf } from "../../xla/mod.ts";

/** Σ log π over the action tokens of each row: `[batch, time - 1]` to `[batch]`. */
export function responseLogProbs(logProbs: tf.Tensor2D, actionMask: tf.Tensor2D): tf.Tensor1D {
  return logProbs.mul(actionMask.toFloat()).sum(1);
}

export interface DpoInputs {
  /** log π − log π_ref of the chosen responses, `[pairs]`. */
  chosenLogRatios: tf.Tensor1D;
  /** log π − log π_ref of the rejected responses, `[pairs]`. */
  rejectedLogRatios: tf.Tensor1D;
  beta: number;
  /** ε: the share of pairs taken to be the wrong way round (conservative DPO); default 0. */
  labelSmoothing?: number;
  /** IPO's loss in place of DPO's, see `dpoLoss`; default false. */
  ipo?: boolean;
  /** Weights of the pairs, `[pairs]`, in place of the mean; a trainer gives the whole batch's. */
  weights?: tf.Tensor1D;
}

/**
 * DPO (arXiv 2305.18290, equation 7): the mean over pairs of −log σ(β d), where d is the chosen less
 * the rejected log-ratio; with label smoothing −(1 − ε) log σ(β d) − ε log σ(−β d). The default, as the
 * OREO paper compares it. IPO (arXiv 2310.12036, equation 17), which the paper's code can put in its
 * place (`--ipo`): the mean of (d − 1/(2β))².
 */
export function dpoLoss(
  { chosenLogRatios, rejectedLogRatios, beta, labelSmoothing = 0, ipo = false, weights }: DpoInputs,
): tf.Scalar {
  const difference = chosenLogRatios.sub(rejectedLogRatios);
  const margin = difference.mul(beta);
  const losses = ipo
    ? difference.sub(1 / (2 * beta)).square()
    : tf.softplus(margin.neg()).mul(1 - labelSmoothing).add(
      tf.softplus(margin).mul(labelSmoothing),
    );
  return weights === undefined ? losses.mean() : losses.mul(weights).sum();
}

export interface KtoInputs {
  /** log π − log π_ref of each response, `[batch]`. */
  logRatios: tf.Tensor1D;
  /** 1 desirable, 0 undesirable, `[batch]`. */
  labels: tf.Tensor1D;
  /** log π − log π_ref of mismatched prompt and response pairs, `[rows]`: the reference point. */
  klLogRatios: tf.Tensor1D;
  beta: number;
  desirableWeight?: number;
  undesirableWeight?: number;
  /** Weights of the rows, `[batch]`, in place of the mean. */
  weights?: tf.Tensor1D;
  /** Weights of the mismatched rows, summing to 1, in place of their mean. */
  klWeights?: tf.Tensor1D;
}

/**
 * KTO (arXiv 2402.01306): mean over rows of λ_y (1 − σ(β (±(l − z)))), + for desirable, − for
 * undesirable, with the reference point z = max(0, mean of `klLogRatios`), through which no gradient
 * goes.
 */
export function ktoLoss(inputs: KtoInputs): tf.Scalar {
  const { logRatios, labels, beta, desirableWeight = 1, undesirableWeight = 1 } = inputs;
  const desirable = labels.toFloat();
  const sign = desirable.mul(2).sub(1);
  const weights = desirable.mul(desirableWeight - undesirableWeight).add(undesirableWeight);
  const gain = tf.sigmoid(logRatios.sub(ktoReferencePoint(inputs)).mul(sign).mul(beta));
  const losses = weights.mul(gain.neg().add(1));
  return inputs.weights === undefined ? losses.mean() : losses.mul(inputs.weights).sum();
}

/** z of `ktoLoss`, in nats. */
export function ktoReferencePoint(
  { klLogRatios, klWeights }: Pick<KtoInputs, "klLogRatios" | "klWeights">,
): tf.Scalar {
  const mean = klWeights === undefined ? klLogRatios.mean() : klLogRatios.mul(klWeights).sum();
  return stopGradient(tf.maximum(mean, 0)) as tf.Scalar;
}
