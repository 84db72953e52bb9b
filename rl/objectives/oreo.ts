/**
 * OREO's objectives (arXiv 2412.16145, section 4): the soft Bellman equation as two squared errors,
 * one that fits the value V with the policy fixed, one that fits the policy π with V fixed, at the
 * level of tokens, reasoning steps or whole responses; and DQO, the same error with nothing fixed.
 * With l_i = log π(a_i|s_i) − log π_ref(a_i|s_i) over action tokens, R the outcome (the only reward,
 * at the end), β the temperature, sg the stop of gradients, every loss below is the mean over states
 * of (V(s_t) − R + β Σ_{i≥t} l_i)² and they differ in what the gradient reaches. Arrays are in the
 * shifted form of `tokens.ts`; the regulariser stands in `kl.ts`.
 */
import { stopGradient, tf } from "../../xla/mod.ts";
import {
  carryGradient,
  firstStates,
  nextStates,
  normalise,
  reverseCumulativeSum,
  shiftLeft,
  stepSums,
  weightedSum,
} from "./tokens.ts";

/** What an action is: one token, one reasoning step, or the whole response. */
export type Level = "token" | "step" | "response";

export const levels: readonly Level[] = ["token", "step", "response"];

export interface BellmanInputs {
  /** V(s_j) `[batch, time - 1]`; read only where `stateMask` is 1. */
  values: tf.Tensor2D;
  /** log π − log π_ref of token j + 1, `[batch, time - 1]`; need not be masked. */
  logRatios: tf.Tensor2D;
  /** 1 where token j + 1 is an action (observations and the prompt are not), `[batch, time - 1]`. */
  actionMask: tf.Tensor2D;
  /** 1 where an action starts at token j + 1: a token, or the first token of a step. */
  stateMask: tf.Tensor2D;
  /** R `[batch]`: 1 success, 0 failure. */
  rewards: tf.Tensor1D;
  /** β, the temperature of the soft Bellman equation, in units of reward per nat. */
  beta: number;
  /**
   * Weights of the states, `[batch, time - 1]`, by default `normalise(stateMask)`. A trainer that
   * splits a batch gives the whole batch's, so that the split does not change the gradient.
   */
  stateWeights?: tf.Tensor2D;
  /**
   * Keeps Σ_{i≥t} l_i, in nats, within ± this in the value loss alone. The paper has no such limit,
   * nor has it a default: off unless given (the code's `--clip_log`).
   */
  clipLogRatios?: number | undefined;
}

/** V(s_t) − R + β Σ_{i≥t} l_i at every column, `[batch, time - 1]`. */
function residuals(values: tf.Tensor2D, rewards: tf.Tensor1D, scaledSums: tf.Tensor2D) {
  return values.sub(rewards.expandDims(1)).add(scaledSums);
}

function maskedLogRatios({ logRatios, actionMask }: BellmanInputs): tf.Tensor2D {
  return logRatios.mul(actionMask.toFloat());
}

/**
 * Value loss (paper, equation 8; the same at every level, on that level's states):
 * mean over states t of (V(s_t) − R + β Σ_{i≥t} sg[l_i])². The gradient reaches `values` alone.
 */
export function valueLoss(inputs: BellmanInputs): tf.Scalar {
  const { clipLogRatios: limit } = inputs;
  const all = reverseCumulativeSum(stopGradient(maskedLogRatios(inputs)));
  const sums = limit === undefined ? all : tf.clipByValue(all, -limit, limit);
  const residual = residuals(inputs.values, inputs.rewards, sums.mul(inputs.beta));
  return weightedSum(residual.square(), inputs.stateWeights ?? normalise(inputs.stateMask));
}

/**
 * Policy loss without its regulariser. The gradient reaches `logRatios` alone.
 * - `token` (equation 9): mean over t of (sg[V(s_t)] − R + β l_t + sg[β Σ_{i>t} l_i])².
 * - `step`: the same with l_t the sum over the tokens of the step that starts at t.
 * - `response`: only the first state, (sg[V(s_0)] − R + β Σ_i l_i)², the mean over sequences;
 *   `stateWeights` then holds the weights of those first states.
 */
export function policyLoss(inputs: BellmanInputs, level: Level = "token"): tf.Scalar {
  const ratios = maskedLogRatios(inputs);
  const sums = reverseCumulativeSum(ratios);
  const values = stopGradient(inputs.values);
  const loss = (differentiable: tf.Tensor2D, weights: tf.Tensor2D) =>
    weightedSum(
      residuals(values, inputs.rewards, differentiable.mul(inputs.beta)).square(),
      weights,
    );
  const { stateMask, stateWeights } = inputs;
  switch (level) {
    case "token":
      return loss(carryGradient(ratios, sums), stateWeights ?? normalise(stateMask));
    case "step":
      return loss(
        carryGradient(stepSums(ratios, stateMask), sums),
        stateWeights ?? normalise(stateMask),
      );
    case "response":
      return loss(sums, stateWeights ?? normalise(firstStates(stateMask)));
    default:
      return level satisfies never;
  }
}

/**
 * DQO (arXiv 2410.09302, as the OREO paper compares it): mean over states t of
 * (V(s_t) − R + β Σ_{i≥t} l_i)², no regulariser, and the gradient reaches every log-ratio and V.
 * Detach `values` for the policy's part alone.
 */
export function dqoLoss(inputs: BellmanInputs): tf.Scalar {
  const sums = reverseCumulativeSum(maskedLogRatios(inputs));
  const residual = residuals(inputs.values, inputs.rewards, sums.mul(inputs.beta));
  return weightedSum(residual.square(), inputs.stateWeights ?? normalise(inputs.stateMask));
}

/**
 * The one-step form, which the paper's code has beside the paper's (`--single_step_actor_loss`):
 * mean over states t of (V(s_t) − r_t − V(s_{t+1}) + β l_t)² with l_t the sum over the tokens from one
 * state to the next, r_t = R at the last state and 0 before it, V = 0 after the last. The gradient
 * reaches `logRatios` alone.
 *
 * @param nextValue where V(s_{t+1}) is read: at the next `state`, the default; or, as the code does at
 *   token level, at the next `column`, which after a turn's last action is the prefix that ends with the
 *   first token of an observation, no state. They differ there alone, the last turn included; the code's
 *   rows are padded on the left.
 */
export function oneStepLoss(
  inputs: BellmanInputs,
  nextValue: "state" | "column" = "state",
): tf.Scalar {
  const { stateMask, rewards, beta } = inputs;
  const values = stopGradient(inputs.values);
  const next = nextStates(values, stateMask);
  const after = nextValue === "state" ? next.values : shiftLeft(values, 1);
  const sums = reverseCumulativeSum(maskedLogRatios(inputs));
  const ofStep = sums.sub(nextStates(sums, stateMask).values);
  const reward = rewards.expandDims(1).mul(next.present.neg().add(1));
  const residual = values.sub(reward).sub(after).add(ofStep.mul(beta));
  return weightedSum(residual.square(), inputs.stateWeights ?? normalise(stateMask));
}

/**
 * exp(min(Σ l, 1)) of each sequence, `[batch]`, without gradient: weights that the paper's code can put
 * on sequences (`--importance_sampling`) and the paper does not have. Multiply the rows of
 * `stateWeights` by them; the code does so in the value loss and in the policy loss at token and step
 * level, not at response level nor in the one-step form.
 */
export function importanceWeights({ logRatios, actionMask }: {
  logRatios: tf.Tensor2D;
  actionMask: tf.Tensor2D;
}): tf.Tensor1D {
  const sums = logRatios.mul(actionMask.toFloat()).sum(1);
  return stopGradient(tf.minimum(sums, 1).exp()) as tf.Tensor1D;
}

/**
 * What the paper's code can add to the response-level loss (`--hinge_coeff`, which multiplies it; the
 * paper does not): the mean over successful sequences of max(0, −Σ_i l_i), so that successes do not
 * become less likely than under the reference. 0 where none succeeded.
 *
 * @param successes how many succeeded, by default those of the rows at hand; a trainer that splits a
 *   batch gives the whole batch's
 */
export function hingeLoss(
  { logRatios, actionMask, rewards }: Pick<BellmanInputs, "logRatios" | "actionMask" | "rewards">,
  successes?: tf.Tensor,
): tf.Scalar {
  const right = rewards.equal(1).toFloat();
  const lost = tf.relu(logRatios.mul(actionMask.toFloat()).sum(1).neg());
  return lost.mul(right).div(tf.maximum(successes ?? right.sum(), 1)).sum();
}
