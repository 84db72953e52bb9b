/**
 * Two models' next-token distributions at chosen positions, straight from hidden states: what each says
 * of the token that follows, and the divergence between them over the whole vocabulary, with the
 * gradient by the first written out. Where rows × vocabulary is large the logits are made a chunk of
 * rows at a time, forward and backward, so that they never exist all at once.
 */
import { asType, dynamicSlice, scan, tf } from "../xla/mod.ts";
import type { ModelConfig } from "./config.ts";
import { outputEmbedding, type Params, scaledForLogits } from "./transformer.ts";

/** Above this many logits (64 MiB of float32) rows are taken in chunks. */
const MAX_LOGITS = 1 << 24;

/** Each `[rows]`, in nats. */
export interface Comparison {
  /** log p(target). */
  logProbs: tf.Tensor1D;
  /** log q(target); no gradient. */
  referenceLogProbs: tf.Tensor1D;
  /** Σ_v p (log p − log q), or Σ_v q (log q − log p) where `reverse`. */
  divergence: tf.Tensor1D;
}

/** A model's output matrix [vocabulary, hidden] and the hidden states [rows, hidden] before it. */
interface Side {
  hidden: tf.Tensor2D;
  weight: tf.Tensor2D;
}

export interface CompareOptions {
  /** The divergence of the reference from the model in place of the model's from the reference. */
  reverse?: boolean;
  /** What the product with the vocabulary multiplies in. Default float32. */
  computeType?: "float32" | "bfloat16" | undefined;
  /** Logits that may exist at a time; default 2^24. */
  maxLogits?: number;
}

/**
 * Compares a model p, differentiable in its hidden states and output matrix, with a reference q that
 * has the same vocabulary and no gradient.
 *
 * @param model parameters and final hidden states [rows, hidden]
 * @param targets int32 [rows]: the token that follows each
 */
export function compareNext(
  config: ModelConfig,
  model: { params: Params; hidden: tf.Tensor2D },
  reference: { params: Params; hidden: tf.Tensor2D },
  targets: tf.Tensor1D,
  options: CompareOptions = {},
): Comparison {
  const side = ({ params, hidden }: typeof model): Side => ({
    hidden: scaledForLogits(config, hidden),
    weight: outputEmbedding(config, params),
  });
  const rows = compareRows(side(model), side(reference), targets, options);
  const row = (i: number) => tf.reshape(tf.slice(rows, [i, 0], [1, -1]), [-1]) as tf.Tensor1D;
  return { logProbs: row(0), referenceLogProbs: row(1), divergence: row(2) };
}

/** The three rows of a {@link Comparison} as one tensor [3, rows]. */
function compareRows(
  model: Side,
  reference: Side,
  targets: tf.Tensor1D,
  { reverse = false, computeType, maxLogits = MAX_LOGITS }: CompareOptions,
): tf.Tensor2D {
  const [count, vocabulary] = [targets.size, model.weight.shape[0]];
  const perChunk = Math.max(1, Math.floor(maxLogits / vocabulary));
  const product = (a: tf.Tensor, b: tf.Tensor, first: boolean, second: boolean) => {
    if (computeType !== "bfloat16") return tf.matMul(a, b, first, second) as tf.Tensor2D;
    const low = tf.matMul(asType(a, "bfloat16"), asType(b, "bfloat16"), first, second);
    return asType(low, "float32") as tf.Tensor2D;
  };
  const logitsOf = ({ hidden, weight }: Side) => product(hidden, weight, false, true);
  const run = tf.customGrad((...inputs) => {
    const [h, w, save] = inputs as unknown as [tf.Tensor2D, tf.Tensor2D, tf.GradSaveFunc];
    const sides = (mine: Side, other: Side): [Side, Side] => [mine, other];
    if (count <= perChunk) {
      const [p, q] = sides({ hidden: h, weight: w }, reference).map(logitsOf) as [
        tf.Tensor2D,
        tf.Tensor2D,
      ];
      const found = measure(p, q, targets, reverse);
      save([h, w, p, q, found.pLse, found.qLse, found.divergence, targets]);
      return {
        value: found.rows,
        gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
          const [h, w, p, q, pLse, qLse, divergence, targets] = saved as tf.Tensor2D[];
          const known = { pLse: pLse!, qLse: qLse!, divergence: divergence! };
          const slope = logitGradient(p!, q!, targets!, known, dy, reverse);
          return [product(slope, w!, false, false), product(slope, h!, true, false)];
        },
      };
    }
    const chunks = Math.ceil(count / perChunk);
    const padded = (x: tf.Tensor, axis = 0) =>
      tf.pad(x, x.shape.map((_, i) => [0, i === axis ? chunks * perChunk - count : 0]));
    const part = (x: tf.Tensor, i: tf.Tensor, axis = 0) => {
      const start = tf.mul(i, tf.scalar(perChunk, "int32")) as tf.Scalar;
      return dynamicSlice(
        x,
        x.shape.map((_, d) => d === axis ? start : 0),
        x.shape.map((size, d) => d === axis ? perChunk : size),
      );
    };
    const chunk = (mine: Side, other: Side, tokens: tf.Tensor, i: tf.Tensor) => {
      const [p, q] = sides(mine, other).map(({ hidden, weight }) =>
        logitsOf({ hidden: part(hidden, i) as tf.Tensor2D, weight })
      ) as [tf.Tensor2D, tf.Tensor2D];
      const target = part(tokens, i);
      return { p, q, target, found: measure(p, q, target, reverse) };
    };
    const [, parts] = scan(
      (carry: tf.Tensor, i) => [
        tf.clone(carry),
        chunk(
          { hidden: padded(h) as tf.Tensor2D, weight: w },
          { ...reference, hidden: padded(reference.hidden) as tf.Tensor2D },
          padded(targets),
          i,
        ).found.rows,
      ],
      tf.scalar(0) as tf.Tensor,
      chunks,
    );
    save([h, w, reference.hidden, reference.weight, targets]);
    const value = tf.slice(
      tf.reshape(tf.transpose(parts, [1, 0, 2]), [3, chunks * perChunk]),
      [0, 0],
      [3, count],
    );
    return {
      value,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [h, w, qHidden, qWeight, targets] = saved as [
          tf.Tensor2D,
          tf.Tensor2D,
          tf.Tensor2D,
          tf.Tensor2D,
          tf.Tensor1D,
        ];
        const mine = { hidden: padded(h) as tf.Tensor2D, weight: w };
        const other = { hidden: padded(qHidden) as tf.Tensor2D, weight: qWeight };
        const [tokens, slopes] = [padded(targets), padded(dy, 1)];
        const [dWeight, dHidden] = scan(
          (carry: tf.Tensor, i) => {
            const { p, q, target, found } = chunk(mine, other, tokens, i);
            const slope = logitGradient(p, q, target, found, part(slopes, i, 1), reverse);
            const piece = part(mine.hidden, i);
            return [
              tf.add(carry, product(slope, piece, true, false)),
              product(slope, w, false, false),
            ];
          },
          tf.zerosLike(w) as tf.Tensor,
          chunks,
        );
        const flat = tf.reshape(dHidden, [chunks * perChunk, h.shape[1]]);
        return [tf.slice(flat, [0, 0], [count, h.shape[1]]), dWeight];
      },
    };
  });
  return run(model.hidden, model.weight) as tf.Tensor2D;
}

interface Known {
  /** log Σ exp of the logits of p and of q, `[rows, 1]`. */
  pLse: tf.Tensor;
  qLse: tf.Tensor;
  /** `[rows, 1]`. */
  divergence: tf.Tensor;
}

function logSumExp(logits: tf.Tensor2D): tf.Tensor {
  const top = tf.max(logits, 1, true);
  return tf.add(tf.log(tf.sum(tf.exp(tf.sub(logits, top)), 1, true)), top);
}

/** By comparison, which fuses with what follows where a gather does not. */
function oneHot(targets: tf.Tensor, vocabulary: number): tf.Tensor {
  const ids = tf.range(0, vocabulary, 1, "int32");
  return tf.cast(tf.equal(ids, tf.reshape(targets, [targets.size, 1])), "float32");
}

function measure(
  p: tf.Tensor2D,
  q: tf.Tensor2D,
  targets: tf.Tensor,
  reverse: boolean,
): Known & { rows: tf.Tensor2D } {
  const [pLse, qLse] = [logSumExp(p), logSumExp(q)];
  const hot = oneHot(targets, p.shape[1]);
  const chosen = (x: tf.Tensor, lse: tf.Tensor) => tf.sub(tf.sum(tf.mul(hot, x), 1, true), lse);
  const [logP, logQ] = [tf.sub(p, pLse), tf.sub(q, qLse)];
  const [from, to] = reverse ? [logQ, logP] : [logP, logQ];
  const divergence = tf.sum(tf.mul(tf.exp(from), tf.sub(from, to)), 1, true);
  const columns = [chosen(p, pLse), chosen(q, qLse), divergence];
  const rows = tf.stack(columns.map((x) => tf.reshape(x, [-1]))) as tf.Tensor2D;
  return { pLse, qLse, divergence, rows };
}

/**
 * d rows / d p times the rows' incoming gradient `dy` [3, rows]: (one-hot − P) for the log-probability,
 * P (log P − log Q − divergence), or P − Q where reversed, for the divergence.
 */
function logitGradient(
  p: tf.Tensor2D,
  q: tf.Tensor2D,
  targets: tf.Tensor,
  { pLse, qLse, divergence }: Known,
  dy: tf.Tensor,
  reverse: boolean,
): tf.Tensor2D {
  const incoming = (i: number) => tf.reshape(tf.slice(dy, [i, 0], [1, -1]), [targets.size, 1]);
  const [logP, logQ] = [tf.sub(p, pLse), tf.sub(q, qLse)];
  const chance = tf.exp(logP);
  const ofChosen = tf.sub(oneHot(targets, p.shape[1]), chance);
  const ofDivergence = reverse
    ? tf.sub(chance, tf.exp(logQ))
    : tf.mul(chance, tf.sub(tf.sub(logP, logQ), divergence));
  return tf.add(tf.mul(ofChosen, incoming(0)), tf.mul(ofDivergence, incoming(2))) as tf.Tensor2D;
}
