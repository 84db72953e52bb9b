/**
 * Choosing the next token, on the device, without sorting the vocabulary. A token is drawn by
 * inverting the cumulative distribution at one uniform number per slot, which comes from the request's
 * own seed; thresholds of top-k and top-p are found by bisection.
 */
import { tf, whileLoop } from "../xla/mod.ts";
import { rowMax } from "./inference.ts";
import { int } from "./positions.ts";

/** What the batch needs; static, so that a batch pays only for what it uses. */
export interface SamplingKind {
  /** Some request draws at random; else all take the most likely token. */
  readonly random: boolean;
  /** Some request restricts the choice by top-k. */
  readonly topK: boolean;
  /** Some request restricts the choice by top-p. */
  readonly topP: boolean;
  /** Some request restricts the choice by min-p. */
  readonly minP: boolean;
  /** Some request makes tokens that it already has less likely. */
  readonly repetition: boolean;
}

/** What a batch needs that takes the most likely token everywhere. */
export const GREEDY: SamplingKind = {
  random: false,
  topK: false,
  topP: false,
  minP: false,
  repetition: false,
};

/** Per slot, float32 [slots] each. */
export interface SamplingSettings {
  /** 0 takes the most likely token. */
  temperature: tf.Tensor1D;
  /** Number of tokens kept; 0 keeps all. */
  topK: tf.Tensor1D;
  /** Probability mass kept, in (0, 1]; 1 keeps all. */
  topP: tf.Tensor1D;
  /** Tokens less likely than this share of the likeliest one's probability are left out; 0 keeps all. */
  minP: tf.Tensor1D;
  /** Scores of tokens seen before are divided by it where positive, else multiplied; 1 does nothing. */
  repetitionPenalty: tf.Tensor1D;
}

/** Halvings of the interval of thresholds; they leave 2e-8 of a logit undecided. */
const BISECTIONS = 32;

/** Below this distance from the top, exp is 0 in float32. */
const LOWEST_SCORE = -104;

/**
 * The largest threshold per row for which the weight of the entries at or above it still reaches
 * `wanted`: scores (at most 0, the top one 0) and weights [rows, n], wanted [rows, 1] -> [rows, 1].
 * Ties stand or fall together.
 */
function thresholdFor(scores: tf.Tensor2D, weights: tf.Tensor2D, wanted: tf.Tensor2D): tf.Tensor2D {
  const reached = (threshold: tf.Tensor) =>
    tf.greaterEqual(
      tf.sum(tf.mul(weights, tf.cast(tf.greaterEqual(scores, threshold), "float32")), 1, true),
      wanted,
    );
  const rows: [number, number] = [scores.shape[0], 1];
  const end = whileLoop(
    (s) => tf.less(s.i, int(BISECTIONS)),
    (s) => {
      const middle = tf.mul(tf.add(s.low, s.high), 0.5) as tf.Tensor2D;
      const enough = reached(middle);
      return {
        i: tf.add(s.i, int(1)),
        low: tf.where(enough, middle, s.low),
        high: tf.where(enough, s.high, middle),
      };
    },
    { i: int(0) as tf.Tensor, low: tf.fill(rows, LOWEST_SCORE), high: tf.zeros(rows) },
  ) as { low: tf.Tensor2D };
  return tf.where(reached(tf.scalar(0)), tf.zeros(rows), end.low) as tf.Tensor2D;
}

/** Unnormalised probabilities [rows, n] after temperature, top-k, top-p and min-p, in that order. */
export function warpedWeights(
  logits: tf.Tensor2D,
  settings: SamplingSettings,
  kind: SamplingKind,
  top: tf.Tensor = rowMax(logits),
): tf.Tensor2D {
  const column = (x: tf.Tensor1D) => tf.reshape<tf.Rank.R2>(x, [x.shape[0], 1]);
  const temperature = tf.maximum(column(settings.temperature), 1e-6);
  const scaled = tf.div(tf.sub(logits, top), temperature) as tf.Tensor2D;
  let weights = tf.exp(scaled);
  const keep = (threshold: tf.Tensor2D, on: tf.Tensor) => {
    const kept = tf.logicalOr(tf.greaterEqual(scaled, threshold), tf.logicalNot(on));
    weights = tf.mul(weights, tf.cast(kept, "float32"));
  };
  if (kind.topK) {
    const k = column(settings.topK);
    keep(thresholdFor(scaled, tf.onesLike(scaled), k), tf.greater(k, 0));
  }
  if (kind.topP) {
    const p = column(settings.topP);
    const wanted = tf.mul(tf.sum(weights, 1, true), p) as tf.Tensor2D;
    // What top-k dropped weighs nothing, so the threshold never falls among it.
    keep(thresholdFor(scaled, weights, wanted), tf.less(p, 1));
  }
  if (kind.minP) {
    // The likeliest token has score 0 and is never cut off, so shares of it are thresholds as they are.
    const p = column(settings.minP);
    keep(tf.log(tf.maximum(p, 1e-38)) as tf.Tensor2D, tf.greater(p, 0));
  }
  return weights;
}

/**
 * Logits [rows, n] with the repetition penalty (Keskar et al. 2019, as transformers applies it): those
 * of tokens in `seen`, bool [rows, n], move away from being chosen.
 */
export function penalised(
  logits: tf.Tensor2D,
  seen: tf.Tensor2D,
  penalty: tf.Tensor1D,
): tf.Tensor2D {
  const p = tf.reshape(penalty, [penalty.shape[0], 1]);
  const moved = tf.where(tf.less(logits, 0), tf.mul(logits, p), tf.div(logits, p));
  return tf.where(seen, moved, logits) as tf.Tensor2D;
}

/** Blocks of the vocabulary whose sums are searched first; a block is then searched alone. */
const BLOCK = 64;

/** Inclusive running sums of short rows by one product with a triangle of ones. */
function runningSums(x: tf.Tensor2D): tf.Tensor2D {
  const n = x.shape[1];
  const steps = tf.range(0, n, 1, "int32");
  const triangle = tf.lessEqual(tf.reshape(steps, [n, 1]), tf.reshape(steps, [1, n]));
  return tf.matMul(x, tf.cast(triangle, "float32") as tf.Tensor2D);
}

/**
 * The first column that holds, or the last of `instead` where none does (one must without it): float32 0/1 [rows, n] ->
 * int32 [rows]. A maximum over column numbers, see {@link rowMax} for why not argMax.
 */
function firstOf(holds: tf.Tensor, instead?: tf.Tensor): tf.Tensor1D {
  const [rows, n] = holds.shape as [number, number];
  const order = tf.range(0, n, 1, "float32");
  const first = rowMax(tf.mul(holds, tf.sub(n, order)));
  const index = instead === undefined
    ? tf.sub(n, first)
    : tf.where(tf.greater(first, 0), tf.sub(n, first), rowMax(tf.mul(instead, order)));
  return tf.cast(tf.reshape(index, [rows]), "int32") as tf.Tensor1D;
}

/** The first column whose running sum exceeds `at` and whose weight is not 0: int32 [rows]. */
function firstAbove(weights: tf.Tensor2D, sums: tf.Tensor2D, at: tf.Tensor2D): tf.Tensor1D {
  const positive = tf.greater(weights, 0);
  const hit = tf.logicalAnd(positive, tf.greater(sums, at));
  // Rounding may leave no hit: then the last column that has weight.
  return firstOf(tf.cast(hit, "float32"), tf.cast(positive, "float32"));
}

/** Draws an index per row in proportion to `weights` [rows, n] by `uniforms` [rows] in [0, 1). */
export function drawIndex(weights: tf.Tensor2D, uniforms: tf.Tensor1D): tf.Tensor1D {
  const [rows, n] = weights.shape;
  const at = tf.reshape<tf.Rank.R2>(uniforms, [rows, 1]);
  if (n <= 2 * BLOCK) {
    const sums = runningSums(weights);
    return firstAbove(weights, sums, tf.mul(at, tf.slice(sums, [0, n - 1], [rows, 1])));
  }
  const size = n > BLOCK * 128 ? 256 : BLOCK;
  const blocks = Math.ceil(n / size);
  const padded = tf.pad(weights, [[0, 0], [0, blocks * size - n]]);
  const grid = tf.reshape<tf.Rank.R3>(padded, [rows, blocks, size]);
  const masses = tf.sum(grid, 2) as tf.Tensor2D;
  const sums = runningSums(masses);
  const target = tf.mul(at, tf.slice(sums, [0, blocks - 1], [rows, 1])) as tf.Tensor2D;
  const block = firstAbove(masses, sums, target);
  const rowStarts = tf.range(0, rows * blocks, blocks, "int32");
  const flatBlock = tf.add(rowStarts, block) as tf.Tensor1D;
  const inBlock = tf.gather(tf.reshape<tf.Rank.R2>(grid, [rows * blocks, size]), flatBlock);
  const column = (x: tf.Tensor) =>
    tf.reshape(tf.gather(tf.reshape(x, [rows * blocks]), flatBlock), [rows, 1]);
  const before = tf.sub(column(sums), column(masses));
  const index = firstAbove(inBlock, runningSums(inBlock), tf.sub(target, before) as tf.Tensor2D);
  return tf.add(tf.mul(block, int(size)), index);
}

/**
 * The next token of each slot and the model's own log-probability of it (temperature 1, nothing cut
 * off, no penalty): logits [slots, vocabulary] -> int32 [slots], float32 [slots]. `seen`, bool
 * [slots, vocabulary], is needed where `kind.repetition`.
 */
export function chooseTokens(
  logits: tf.Tensor2D,
  settings: SamplingSettings,
  uniforms: tf.Tensor1D,
  kind: SamplingKind,
  seen?: tf.Tensor2D,
): { tokens: tf.Tensor1D; logProbs: tf.Tensor1D } {
  const [slots, vocabSize] = logits.shape;
  const top = rowMax(logits);
  const logSum = tf.add(tf.log(tf.sum(tf.exp(tf.sub(logits, top)), 1, true)), top);
  const scores = kind.repetition ? penalised(logits, seen!, settings.repetitionPenalty) : logits;
  const best = kind.repetition ? rowMax(scores) : top;
  const isTop = tf.cast(tf.equal(scores, best), "float32");
  const likeliest = firstOf(isTop);
  let tokens = likeliest;
  if (kind.random) {
    const drawn = drawIndex(warpedWeights(scores, settings, kind, best), uniforms);
    tokens = tf.where(tf.greater(settings.temperature, 0), drawn, likeliest) as tf.Tensor1D;
  }
  const rows = tf.range(0, slots * vocabSize, vocabSize, "int32");
  const chosen = tf.gather(tf.reshape(logits, [slots * vocabSize]), tf.add(rows, tokens));
  return { tokens, logProbs: tf.sub(chosen, tf.reshape(logSum, [slots])) as tf.Tensor1D };
}
