/**
 * What training needs of a model: pure functions of parameters and tokens. A language model of `lm` is
 * one such pair; tests train tables of logits and values through the same interface.
 */
import {
  compareNext,
  type Comparison,
  type ForwardOptions,
  hiddenStates,
  logits,
  logProbsAt,
  type ModelConfig,
  tokenLogProbs,
  values,
} from "../lm/mod.ts";
import { tf } from "../xla/mod.ts";
import type { NamedTensors } from "./optimizer.ts";

/** Sequences packed into rows, as `Layout` describes; all int32. */
export type PackedTokens = {
  /** `[rows, time]`. */
  ids: tf.Tensor2D;
  layout: {
    segments: tf.Tensor2D;
    positions: tf.Tensor2D;
    at: tf.Tensor1D;
    targets: tf.Tensor1D;
    slots: tf.Tensor1D;
    columns: tf.Tensor2D;
    sources: tf.Tensor1D;
  };
};

/** What packed training needs of a policy: everything at the layout's action tokens, `[actions]`. */
export interface PackedPolicy {
  logProbs(params: NamedTensors, tokens: PackedTokens): tf.Tensor1D;
  /** The policy beside a reference, which has no gradient. */
  compare(
    params: NamedTensors,
    reference: NamedTensors,
    tokens: PackedTokens,
    reverse: boolean,
  ): Comparison;
}

export interface PolicyNetwork {
  /** Next-token logits `[batch, time, vocab]` for ids `[batch, time]`, int32, padded on the right. */
  logits(params: NamedTensors, ids: tf.Tensor2D): tf.Tensor3D;
  /** log π of every token but the first, `[batch, time - 1]`, without the logits in memory. */
  logProbs(params: NamedTensors, ids: tf.Tensor2D): tf.Tensor2D;
  /** Absent where the network takes no packed rows. */
  packed?: PackedPolicy;
}

export interface ValueNetwork {
  /** V of every prefix, `[batch, time]`. */
  values(params: NamedTensors, ids: tf.Tensor2D): tf.Tensor2D;
  /** V of the layout's prefixes, `[actions]`; absent where the network takes no packed rows. */
  packed?: (params: NamedTensors, tokens: PackedTokens) => tf.Tensor1D;
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
  /** Hidden states of the tokens before each action, `[actions, hidden]`. */
  const before = (params: NamedTensors, { ids, layout }: PackedTokens) => {
    const { segments, positions, at, slots } = layout;
    const all = hiddenStates(config, params, ids, { ...options, segments, positions });
    return pick(all.reshape([ids.size, config.hiddenSize]), at, slots) as tf.Tensor2D;
  };
  return {
    policy: {
      logits: (params, ids) => logits(config, params, hidden(params, ids)),
      logProbs: (params, ids) => tokenLogProbs(config, params, ids, options),
      packed: {
        logProbs: (params, tokens) =>
          logProbsAt(config, params, before(params, tokens), tokens.layout.targets),
        compare: (params, reference, tokens, reverse) =>
          compareNext(
            config,
            { params, hidden: before(params, tokens) },
            { params: reference, hidden: before(reference, tokens) },
            tokens.layout.targets,
            { reverse, computeType: options.computeType },
          ),
      },
    },
    value: {
      values: (params, ids) => values(params, hidden(params, ids)),
      packed: (params, tokens) => {
        const rows = before(params, tokens);
        return values(params, rows.expandDims(0)).reshape([rows.shape[0]]) as tf.Tensor1D;
      },
    },
  };
}

/**
 * `x` at the places `at` of its first axis. No place is taken twice but those whose gradient is zero, so
 * that the gradient is a gather, too: `back` has for each place of `x` its index in `at`, or one whose
 * gradient is zero.
 */
export function pick<T extends tf.Tensor>(x: T, at: tf.Tensor, back: tf.Tensor): tf.Tensor {
  const run = tf.customGrad((input, save) => {
    (save as tf.GradSaveFunc)([back]);
    return {
      value: tf.gather(input as tf.Tensor, at as tf.Tensor1D),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const rows = dy.reshape([at.size, ...x.shape.slice(1)]);
        return [tf.gather(rows, saved[0] as tf.Tensor1D).reshape(x.shape)];
      },
    };
  });
  return run(x);
}
