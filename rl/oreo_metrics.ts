/**
 * What people watch while OREO trains, as sums that add up over micro-batches, and as the figures made
 * of them: V by outcome, its ranking and calibration, and the two estimates of an action's advantage.
 */
import { tf } from "../xla/mod.ts";
import {
  type BellmanInputs,
  nextStates,
  normalise,
  reverseCumulativeSum,
  weightedSum,
} from "./objectives/mod.ts";

const BINS = 10;
const bins = Array.from({ length: BINS }, (_, i) => `calibration_bin_${i}` as const);

/** Names of `valueStatistics`, in its order. */
export const valueSums = [
  "value_correct_sum",
  "value_correct_weight",
  "value_wrong_sum",
  "value_wrong_weight",
  "concordant_pairs",
  "pairs",
  "value_bias",
  "value_brier",
  ...bins,
] as const;

/** Names of `advantageStatistics`, in its order. */
export const advantageSums = [
  "advantage_weight",
  "implicit",
  "explicit",
  "implicit_squared",
  "explicit_squared",
  "implicit_explicit",
] as const;

/** Sums over states, weighted as the loss weighs them, behind the figures on V. */
export function valueStatistics(
  values: tf.Tensor2D,
  { stateWeights, rewards }: { stateWeights: tf.Tensor2D; rewards: tf.Tensor1D },
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
  const error = values.sub(rewards.expandDims(1));
  const bin = tf.clipByValue(values.mul(BINS).floor(), 0, BINS - 1);
  return [
    rowSums.mul(right).sum(),
    rowWeights.mul(right).sum(),
    rowSums.mul(wrong).sum(),
    rowWeights.mul(wrong).sum(),
    pairs.mul(wins).sum(),
    pairs.sum(),
    weightedSum(error, stateWeights),
    weightedSum(error.square(), stateWeights),
    ...bins.map((_, i) => weightedSum(error.mul(bin.equal(i).toFloat()), stateWeights)),
  ] as tf.Scalar[];
}

/**
 * Sums behind the agreement of the implicit advantage, β Σ l over the tokens from one state to the next,
 * with the explicit one, V(s_{t+1}) − V(s_t). The last action of a sequence has no next state and does
 * not count.
 */
export function advantageStatistics(inputs: BellmanInputs): tf.Scalar[] {
  const { values, logRatios, actionMask, stateMask, beta } = inputs;
  const next = nextStates(values, stateMask);
  const sums = reverseCumulativeSum(logRatios.mul(actionMask.toFloat()));
  const implicit = sums.sub(nextStates(sums, stateMask).values).mul(beta) as tf.Tensor2D;
  const explicit = next.values.sub(values) as tf.Tensor2D;
  const counted = (inputs.stateWeights ?? normalise(stateMask)).mul(next.present);
  const sum = (x: tf.Tensor) => weightedSum(x, counted);
  return [
    counted.sum() as tf.Scalar,
    sum(implicit),
    sum(explicit),
    sum(implicit.square()),
    sum(explicit.square()),
    sum(implicit.mul(explicit)),
  ];
}

type Sums = Record<string, number>;

/**
 * - `value_correct`, `value_wrong`: V's mean over the states of right and of wrong sequences;
 * - `value_auc`: the chance that V's mean ranks a right sequence of the batch above a wrong one (per
 *   micro-batch);
 * - `value_bias`: the mean of V − R; `value_brier`: the mean of (V − R)²;
 * - `value_calibration_error`: over ten bins of V, how far V's mean and the share of successes are
 *   apart, weighted by the states in each.
 * What a batch cannot say is left out.
 */
export function describeValue(raw: Sums): Sums {
  const ratio = (name: string, over: number, by: number) => by > 0 ? { [name]: over / by } : {};
  return {
    ...ratio("value_correct", raw.value_correct_sum!, raw.value_correct_weight!),
    ...ratio("value_wrong", raw.value_wrong_sum!, raw.value_wrong_weight!),
    ...ratio("value_auc", raw.concordant_pairs!, raw.pairs!),
    value_bias: raw.value_bias!,
    value_brier: raw.value_brier!,
    value_calibration_error: bins.reduce((sum, bin) => sum + Math.abs(raw[bin]!), 0),
  };
}

/**
 * - `advantage_implicit`, `advantage_explicit`: their root mean squares, in units of reward;
 * - `advantage_correlation`: Pearson's, left out where one of them does not vary.
 */
export function describeAdvantage(raw: Sums): Sums {
  const weight = raw.advantage_weight!;
  if (!(weight > 0)) return {};
  const mean = (name: (typeof advantageSums)[number]) => raw[name]! / weight;
  const [a, b] = [mean("implicit"), mean("explicit")];
  const [aa, bb] = [mean("implicit_squared"), mean("explicit_squared")];
  const spread = (aa - a * a) * (bb - b * b);
  const agrees = spread > 1e-14
    ? { advantage_correlation: (mean("implicit_explicit") - a * b) / Math.sqrt(spread) }
    : {};
  return {
    advantage_implicit: Math.sqrt(Math.max(0, aa)),
    advantage_explicit: Math.sqrt(Math.max(0, bb)),
    ...agrees,
  };
}
