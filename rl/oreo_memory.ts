/**
 * What OREO can keep between steps beside models and moments: a moving average of the policy, and the
 * regulariser's weight where it is adapted to a target. Both follow the policy's updates.
 */
import { tf } from "../xla/mod.ts";
import type { Models } from "./gradients.ts";

export interface KlTarget {
  /** The divergence to come to, in nats a token. */
  target: number;
  /** The weight at the start; default 1 (the code's). */
  initial?: number | undefined;
  /** Adam's rate on the weight's logarithm; default 1e-3 (the code's). */
  learningRate?: number | undefined;
}

/** One part of `Objective.memory`. */
interface Memory {
  initial(models: Models): Models;
  next(memory: Models, models: Models, sums: Record<string, tf.Scalar>): Models;
}

/** `average`: decay · average + (1 − decay) · policy after each of its updates. */
export function averageMemory(decay: number): Memory {
  return {
    initial: ({ policy }) => ({
      average: Object.fromEntries(
        Object.entries(policy!).map(([name, tensor]) => [name, tf.tidy(() => tensor.mul(1))]),
      ),
    }),
    next: ({ average }, { policy }) => ({
      average: Object.fromEntries(
        Object.entries(average!).map(([name, mean]) => [
          name,
          mean.mul(decay).add(policy![name]!.mul(1 - decay)),
        ]),
      ),
    }),
  };
}

const [BETA1, BETA2, EPSILON] = [0.9, 0.999, 1e-8];

/**
 * `kl_target`: the logarithm of the weight takes a step of Adam (0.9, 0.999) along KL − target, so that
 * the weight grows while the divergence is above its target.
 */
export function klTargetMemory({ target, initial = 1, learningRate = 1e-3 }: KlTarget): Memory {
  return {
    initial: () => ({
      kl_target: {
        log_coefficient: tf.scalar(Math.log(initial)),
        m: tf.scalar(0),
        v: tf.scalar(0),
        count: tf.scalar(0),
      },
    }),
    next: ({ kl_target: state }, _models, { kl }) => {
      const gradient = tf.scalar(target).sub(kl!);
      const count = state!.count!.add(1);
      const m = state!.m!.mul(BETA1).add(gradient.mul(1 - BETA1));
      const v = state!.v!.mul(BETA2).add(gradient.square().mul(1 - BETA2));
      const corrected = (x: tf.Tensor, beta: number) =>
        x.div(tf.exp(count.mul(Math.log(beta))).neg().add(1));
      const step = corrected(m, BETA1).div(corrected(v, BETA2).sqrt().add(EPSILON));
      const log_coefficient = state!.log_coefficient!.sub(step.mul(learningRate));
      return { kl_target: { log_coefficient, m, v, count } };
    },
  };
}
