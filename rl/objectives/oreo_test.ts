/**
 * Through what OREO's losses have a gradient, written out for one response of four tokens in two steps:
 * at their optimum every residual is zero on average, so that finding it says nothing of this.
 */
import { tf, useBackend } from "../../xla/mod.ts";
import { assertClose, valueAndGrads } from "../test_support.ts";
import { type BellmanInputs, dqoLoss, type Level, policyLoss, valueLoss } from "./oreo.ts";

await useBackend();

const beta = 0.5;
const values = [0.1, 0.4, -0.2, 0.3];
const logRatios = [0.2, -0.3, 0.7, 0.1];
const reward = 1;

/** Steps are the tokens themselves, or two tokens each. */
function gradients(level: Level, loss: (inputs: BellmanInputs) => tf.Scalar) {
  const states = level === "step" ? [1, 0, 1, 0] : [1, 1, 1, 1];
  const [, [byValue, byLogRatio]] = valueAndGrads(
    (v, l) =>
      // A part of nothing by each, so that a gradient that is stopped is zeros.
      loss({
        values: v as tf.Tensor2D,
        logRatios: l as tf.Tensor2D,
        actionMask: tf.ones([1, 4]),
        stateMask: tf.tensor2d([states]),
        rewards: tf.tensor1d([reward]),
        beta,
      }).add(v!.sum().add(l!.sum()).mul(0)),
    [tf.tensor2d([values]), tf.tensor2d([logRatios])],
  );
  return { byValue: byValue!, byLogRatio: byLogRatio! };
}

/** V(s_t) − R + β Σ_{i≥t} l_i. */
const residual = (t: number) =>
  values[t]! - reward + beta * logRatios.slice(t).reduce((sum, l) => sum + l, 0);

const close = (found: ArrayLike<number>, expected: number[], what: string) =>
  assertClose(found, expected, { absolute: 1e-6 }, what);
const none = [0, 0, 0, 0];

Deno.test("the value loss moves V alone, of each state by its own residual", () => {
  const token = gradients("token", valueLoss);
  close(token.byValue, [0, 1, 2, 3].map((t) => 2 * residual(t) / 4), "token");
  close(token.byLogRatio, none, "the policy");
  close(gradients("step", valueLoss).byValue, [residual(0), 0, residual(2), 0], "step");
});

Deno.test("the policy loss moves the policy alone, and in each state's equation the present action", () => {
  const of = (level: Level) => gradients(level, (inputs) => policyLoss(inputs, level));
  const token = of("token");
  close(token.byLogRatio, [0, 1, 2, 3].map((t) => 2 * beta * residual(t) / 4), "token");
  const step = of("step");
  const [first, second] = [beta * residual(0), beta * residual(2)];
  close(step.byLogRatio, [first, first, second, second], "step");
  const response = of("response");
  close(response.byLogRatio, Array(4).fill(2 * beta * residual(0)), "response");
  for (const { byValue } of [token, step, response]) close(byValue, none, "V");
});

Deno.test("DQO's one loss moves V, and every token of a state's future", () => {
  const { byValue, byLogRatio } = gradients("token", dqoLoss);
  const slopes = [0, 1, 2, 3].map((t) => 2 * residual(t) / 4);
  close(byValue, slopes, "V");
  const until = (t: number) => slopes.slice(0, t + 1).reduce((sum, x) => sum + x, 0);
  close(byLogRatio, [0, 1, 2, 3].map((t) => beta * until(t)), "policy");
});
