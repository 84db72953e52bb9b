/**
 * AdamW and its learning-rate schedule, as pure functions: parameters, gradients and moments are
 * records of tensors under the same names, and an update returns new records. What changes from step
 * to step (the rate, the bias corrections) is one small tensor, so a compiled step serves them all.
 */
import { tf } from "../xla/mod.ts";

/** Tensors by name: parameters, their gradients, or moments. */
export type NamedTensors = Record<string, tf.Tensor>;

/** First and second moments of the gradients, under the parameters' names. */
export type AdamState = {
  m: NamedTensors;
  v: NamedTensors;
};

export interface AdamOptions {
  /** Decay rates of the moments; default 0.9 and 0.95 (the paper's). */
  betas?: readonly [number, number];
  /** Added to the root of the second moment; default 1e-8. */
  epsilon?: number;
  /** Decoupled decay, per step and unit of learning rate, where `decays` says so; default 0. */
  weightDecay?: number;
  /** The gradients' global norm is clipped to this; default 1. Infinity does not clip. */
  maxGradNorm?: number;
  /** Which parameters decay; default `decaysByName`. */
  decays?: (name: string) => boolean;
}

/** Every parameter decays but biases and norms (the paper's code). */
export function decaysByName(name: string): boolean {
  return !/bias|norm\.weight|layernorm\.weight|^norm$/.test(name);
}

/** Moments of zeros for `params`. */
export function adamInit(params: NamedTensors): AdamState {
  const zeros = () =>
    Object.fromEntries(Object.entries(params).map(([name, p]) => [name, tf.zeros(p.shape)]));
  return { m: zeros(), v: zeros() };
}

/**
 * What an update needs of its step: `[rate, 1 − β1^step, 1 − β2^step]`, float32 `[3]`, computed in
 * double precision here because the corrections lose digits in single.
 *
 * @param step 1 for the first update
 */
export function adamStep(
  step: number,
  learningRate: number,
  betas: readonly [number, number] = [0.9, 0.95],
): tf.Tensor1D {
  return tf.tensor1d([learningRate, 1 - betas[0] ** step, 1 - betas[1] ** step]);
}

/** √Σ g² over every tensor, a scalar. */
function globalNorm(grads: NamedTensors): tf.Scalar {
  return tf.addN(Object.values(grads).map((g) => g.square().sum())).sqrt() as tf.Scalar;
}

/**
 * One step of AdamW (arXiv 1711.05101, algorithm 2, in the form of PyTorch: the decay is rate ·
 * weight decay, not scheduled apart) after clipping by the global norm with the coefficient
 * min(1, max / (norm + 1e-6)).
 *
 * @param step the tensor of `adamStep`
 * @returns new parameters and moments, and the gradients' norm before clipping
 */
export function adamUpdate(
  params: NamedTensors,
  grads: NamedTensors,
  state: AdamState,
  step: tf.Tensor1D,
  options: AdamOptions = {},
): { params: NamedTensors; state: AdamState; gradNorm: tf.Scalar } {
  const {
    betas: [beta1, beta2] = [0.9, 0.95],
    epsilon = 1e-8,
    weightDecay = 0,
    maxGradNorm = 1,
    decays = decaysByName,
  } = options;
  const gradNorm = globalNorm(grads);
  const clip = Number.isFinite(maxGradNorm)
    ? tf.minimum(tf.scalar(maxGradNorm).div(gradNorm.add(1e-6)), 1)
    : undefined;
  const at = (i: number) => step.slice([i], [1]).reshape([]);
  const rate = at(0);
  const stepSize = rate.div(at(1));
  const rootCorrection = at(2).sqrt();
  const next: { params: NamedTensors; state: AdamState } = { params: {}, state: { m: {}, v: {} } };
  for (const [name, param] of Object.entries(params)) {
    const raw = grads[name]!;
    const grad = clip === undefined ? raw : raw.mul(clip);
    const m = state.m[name]!.mul(beta1).add(grad.mul(1 - beta1));
    const v = state.v[name]!.mul(beta2).add(grad.square().mul(1 - beta2));
    const kept = weightDecay > 0 && decays(name) ? param.mul(rate.mul(-weightDecay).add(1)) : param;
    const denominator = v.sqrt().div(rootCorrection).add(epsilon);
    next.params[name] = kept.sub(m.div(denominator).mul(stepSize));
    next.state.m[name] = m;
    next.state.v[name] = v;
  }
  return { ...next, gradNorm };
}

export interface CosineOptions {
  /** Number of steps that the schedule spans. */
  totalSteps: number;
  /** Steps of linear warm-up; default ceil(0.03 · totalSteps), the paper's. */
  warmupSteps?: number;
  /** The peak. */
  learningRate: number;
  /** Where the cosine ends, as a share of the peak; default 0. */
  floor?: number;
}

/** Warm-up steps when none are given: ceil(0.03 · total). */
export function defaultWarmup(totalSteps: number): number {
  return Math.ceil(0.03 * totalSteps);
}

/**
 * The rate of update number `step` (0 is the first, whose rate is 0 under a warm-up): linear to the
 * peak, then half a cosine down to the floor, where it stays.
 */
export function cosineRate(step: number, options: CosineOptions): number {
  const { totalSteps, learningRate, floor = 0 } = options;
  const warmup = options.warmupSteps ?? defaultWarmup(totalSteps);
  if (step < warmup) return learningRate * step / Math.max(1, warmup);
  const progress = Math.min(1, (step - warmup) / Math.max(1, totalSteps - warmup));
  return learningRate * (floor + (1 - floor) * 0.5 * (1 + Math.cos(Math.PI * progress)));
}
