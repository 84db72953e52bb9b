/**
 * What objectives read of the networks, one row a sequence, whether the batch is padded or packed.
 */
import { tf } from "../xla/mod.ts";
import { type PackedTokens, pick, type PolicyNetwork, type ValueNetwork } from "./networks.ts";
import {
  chosenLogProbs,
  klDivergence,
  type KlEstimator,
  nextTokenDistributions,
} from "./objectives/mod.ts";
import type { NamedTensors } from "./optimizer.ts";

/** Tokens `[rows, time]`, and where several sequences share a row, what lies where. */
export type PaddedOrPacked = { ids: tf.Tensor2D; layout?: PackedTokens["layout"] };

/** `[actions]` to `[sequences, columns]`. What stands for no action there is finite, and weighs nothing. */
function spread(x: tf.Tensor1D, { columns, sources }: PackedTokens["layout"]): tf.Tensor2D {
  return pick(x, columns, sources) as tf.Tensor2D;
}

function isPacked(tokens: PaddedOrPacked): tokens is PackedTokens {
  return tokens.layout !== undefined;
}

/** log π of the tokens, `[sequences, columns]`. */
export function logProbsOf(
  network: PolicyNetwork,
  params: NamedTensors,
  tokens: PaddedOrPacked,
): tf.Tensor2D {
  if (!isPacked(tokens)) return network.logProbs(params, tokens.ids);
  return spread(network.packed!.logProbs(params, tokens), tokens.layout);
}

/** V of the prefixes, `[sequences, columns]`. */
export function valuesOf(
  network: ValueNetwork,
  params: NamedTensors,
  tokens: PaddedOrPacked,
): tf.Tensor2D {
  if (isPacked(tokens)) return spread(network.packed!(params, tokens), tokens.layout);
  const [rows, time] = tokens.ids.shape;
  return network.values(params, tokens.ids).slice([0, 0], [rows, time - 1]) as tf.Tensor2D;
}

/**
 * log π and log π_ref of the tokens, and the divergence over the vocabulary between the two; each
 * `[sequences, columns]`. The reference has no gradient.
 */
export function compare(
  network: PolicyNetwork,
  params: NamedTensors,
  reference: NamedTensors,
  tokens: PaddedOrPacked,
  kl: Exclude<KlEstimator, "k3">,
): { logProbs: tf.Tensor2D; refLogProbs: tf.Tensor2D; divergence: () => tf.Tensor2D } {
  if (isPacked(tokens)) {
    const { layout } = tokens;
    const found = network.packed!.compare(params, reference, tokens, kl === "exactReverse");
    return {
      logProbs: spread(found.logProbs, layout),
      refLogProbs: spread(found.referenceLogProbs, layout),
      divergence: () => spread(found.divergence, layout),
    };
  }
  const { ids } = tokens;
  const ofReference = nextTokenDistributions(network.logits(reference, ids));
  const refLogProbs = chosenLogProbs(ofReference, ids);
  const ofPolicy = nextTokenDistributions(network.logits(params, ids));
  return {
    logProbs: chosenLogProbs(ofPolicy, ids),
    refLogProbs,
    divergence: () =>
      kl === "exact" ? klDivergence(ofPolicy, ofReference) : klDivergence(ofReference, ofPolicy),
  };
}
