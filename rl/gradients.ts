/** Gradients of a loss with respect to the parameters of one or more models, with values kept beside it. */
import { tf } from "../xla/mod.ts";
import type { NamedTensors } from "./optimizer.ts";

/** Parameters by model, e.g. `policy` and `value`. */
export type Models = Record<string, NamedTensors>;

/**
 * Differentiates `f` by every parameter of `models`, which `f` must use by closure. A parameter that the
 * loss does not reach gets zeros. `kept` are tensors computed on the way, for metrics.
 */
export function gradientsOf<K extends tf.Tensor>(
  f: () => { loss: tf.Scalar; kept: K[] },
  models: Models,
): { loss: tf.Scalar; kept: K[]; grads: Models } {
  const entries = Object.entries(models).flatMap(([model, params]) =>
    Object.entries(params).map(([name, tensor]) => ({ model, name, tensor }))
  );
  let kept: K[] = [];
  const { value, grads } = tf.engine().gradients(
    () => {
      const result = f();
      // The tape's own tidy would dispose of them with the intermediates.
      kept = result.kept.map((tensor) => tf.keep(tensor.clone()));
      return result.loss;
    },
    entries.map((entry) => entry.tensor),
    undefined,
    true,
  );
  const byModel: Models = {};
  for (const [i, { model, name, tensor }] of entries.entries()) {
    (byModel[model] ??= {})[name] = (grads[i] as tf.Tensor | undefined) ?? tf.zeros(tensor.shape);
  }
  const released = kept.map((tensor) => {
    const copy = tensor.clone() as K;
    tensor.dispose();
    return copy;
  });
  return { loss: value as tf.Scalar, kept: released, grads: byModel };
}
