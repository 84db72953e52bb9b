/**
 * The private parts of tfjs's engine that keep the gradient tape, for operations that take gradients or
 * trace functions of their own while a tape is in use.
 */
import { tf } from "./tf.ts";

interface Engine {
  state: { gradientDepth: number; kernelDepth: number; activeTape: unknown };
  isTapeOn(): boolean;
  addTapeNode(
    name: string,
    inputs: Record<string, tf.Tensor>,
    outputs: tf.Tensor[],
    gradient: (dy: tf.Tensor | tf.Tensor[]) => Record<string, () => tf.Tensor>,
    saved: tf.Tensor[],
    attrs: Record<string, unknown>,
  ): void;
}

function engine(): Engine {
  return tf.engine() as unknown as Engine;
}

/** True where kernels that run now are recorded for a gradient. */
export function isTapeOn(): boolean {
  return engine().isTapeOn();
}

/** Runs `f` as if no gradient and no kernel were under way; gradients inside `f` work. */
export function withFreshTape<R>(f: () => R): R {
  const { state } = engine();
  const { gradientDepth, kernelDepth, activeTape } = state;
  Object.assign(state, { gradientDepth: 0, kernelDepth: 0, activeTape: null });
  try {
    return f();
  } finally {
    Object.assign(state, { gradientDepth, kernelDepth, activeTape });
  }
}

/** Runs `f`, which takes a gradient inside a backward pass, without losing the outer tape. */
export function keepingTape<R>(f: () => R): R {
  const { state } = engine();
  const { activeTape } = state;
  try {
    return f();
  } finally {
    state.activeTape = activeTape;
  }
}

/** Records that `outputs` depend on `inputs` in a way that has no derivative. */
export function recordUndifferentiable(
  name: string,
  inputs: readonly tf.Tensor[],
  outputs: tf.Tensor[],
  message: string,
): void {
  const named = Object.fromEntries(inputs.map((x, i) => [String(i), x]));
  const refuse = () => {
    throw new Error(message);
  };
  engine().addTapeNode(name, named, outputs, refuse, [], {});
}
