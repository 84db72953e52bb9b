/**
 * What training needs of a model: pure functions of parameters and tokens. A language model of `lm` is
 * one such pair; tests train tables of logits and values through the same interface.
 */
import {
  type ForwardOptions,
  hiddenStates,
  logits,
  type ModelConfig,
  tokenLogProbs,
  values,
} from "../lm/mod.ts";
import type { tf } from "../xla/mod.ts";
import type { NamedTensors } from "./optimizer.ts";

export interface PolicyNetwork {
  /** Next-token logits `[batch, time, vocab]` for ids `[batch, time]`, int32, padded on the right. */
  logits(params: NamedTensors, ids: tf.Tensor2D): tf.Tensor3D;
  /** log π of every token but the first, `[batch, time - 1]`, without the logits in memory. */
  logProbs(params: NamedTensors, ids: tf.Tensor2D): tf.Tensor2D;
}

export interface ValueNetwork {
  /** V of every prefix, `[batch, time]`. */
  values(params: NamedTensors, ids: tf.Tensor2D): tf.Tensor2D;
}

export interface Networks {
  policy: PolicyNetwork;
  value: ValueNetwork;
}

/**
 * The transformer that `config` describes as policy and, with a value head, as value model. Padding
 * needs no mask: it follows every token that counts, and attention is causal.
 *
 * @param options bfloat16 products with float32 masters; layers computed again in the backward pass.
 *   The same for policy, reference and value model. Off by default.
 */
export function languageNetworks(
  config: ModelConfig,
  options: Pick<ForwardOptions, "computeType" | "rematerialise"> = {},
): Networks {
  const hidden = (params: NamedTensors, ids: tf.Tensor2D) =>
    hiddenStates(config, params, ids, options);
  return {
    policy: {
      logits: (params, ids) => logits(config, params, hidden(params, ids)),
      logProbs: (params, ids) => tokenLogProbs(config, params, ids, options),
    },
    value: {
      values: (params, ids) => values(params, hidden(params, ids)),
    },
  };
}
