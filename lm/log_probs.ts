/**
 * Log-softmax gathered at given tokens, straight from hidden states, with its gradient written out.
 * Where rows × vocabulary is large the logits are made a chunk of rows at a time, forward and backward,
 * so that they never exist all at once.
 */
import { asType, dynamicSlice, isBfloat16, scan, tf } from "../xla/mod.ts";

/** Above this many logits (64 MiB of float32) rows are taken in chunks. */
const MAX_LOGITS = 1 << 24;

/** `h · wᵀ` in float32; where the weights are bfloat16 they are multiplied as such. */
export function logitsOf(h: tf.Tensor, w: tf.Tensor): tf.Tensor2D {
  if (!isBfloat16(w)) return tf.matMul(h, w, false, true) as tf.Tensor2D;
  return asType(tf.matMul(asType(h, "bfloat16"), w, false, true), "float32") as tf.Tensor2D;
}

/** `log softmax(logits)[token]` of each row with the log-sum-exp that normalises it. */
function gathered(logits: tf.Tensor2D, targets: tf.Tensor): { value: tf.Tensor; lse: tf.Tensor2D } {
  const top = tf.max(logits, 1, true);
  const lse = tf.add(tf.log(tf.sum(tf.exp(tf.sub(logits, top)), 1, true)), top) as tf.Tensor2D;
  const chosen = tf.sum(tf.mul(oneHot(targets, logits.shape[1]), logits), 1);
  return { value: tf.sub(chosen, tf.reshape(lse, [-1])), lse };
}

/** [rows, vocabulary] by comparison, which fuses with what follows where a gather does not. */
function oneHot(targets: tf.Tensor, vocabSize: number): tf.Tensor2D {
  const column = tf.reshape(targets, [targets.size, 1]);
  const ids = tf.range(0, vocabSize, 1, "int32");
  return tf.cast(tf.equal(ids, column), "float32") as tf.Tensor2D;
}

/** d value / d logits times the rows' incoming gradient: (one-hot - softmax) * dy. */
function logitGradient(
  logits: tf.Tensor2D,
  lse: tf.Tensor2D,
  targets: tf.Tensor,
  dy: tf.Tensor,
): tf.Tensor2D {
  const slope = tf.sub(oneHot(targets, logits.shape[1]), tf.exp(tf.sub(logits, lse)));
  return tf.mul(slope, tf.reshape(dy, [dy.size, 1]));
}

/**
 * log p(targets[i] | hidden[i]): hidden [rows, hidden], weight [vocabulary, hidden], int32 targets
 * [rows] -> [rows]. Differentiable in hidden and weight.
 */
export function targetLogProbs(
  hidden: tf.Tensor2D,
  weight: tf.Tensor2D,
  targets: tf.Tensor1D,
  maxLogits = MAX_LOGITS,
): tf.Tensor1D {
  const rows = hidden.shape[0];
  const perChunk = Math.max(1, Math.floor(maxLogits / weight.shape[0]));
  return rows <= perChunk
    ? whole(hidden, weight, targets)
    : chunked(hidden, weight, targets, perChunk);
}

function whole(hidden: tf.Tensor2D, weight: tf.Tensor2D, targets: tf.Tensor1D): tf.Tensor1D {
  const run = tf.customGrad((...inputs) => {
    const [h, w, save] = inputs as unknown as [tf.Tensor2D, tf.Tensor2D, tf.GradSaveFunc];
    const logits = logitsOf(h, w);
    const { value, lse } = gathered(logits, targets);
    save([h, w, logits, lse, targets]);
    return {
      value,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [h, w, logits, lse] = saved as [tf.Tensor2D, tf.Tensor2D, tf.Tensor2D, tf.Tensor2D];
        const slope = logitGradient(logits, lse, saved[4]!, dy);
        return [tf.matMul(slope, w), tf.matMul(slope, h, true, false)];
      },
    };
  });
  return run(hidden, weight) as tf.Tensor1D;
}

function chunked(
  hidden: tf.Tensor2D,
  weight: tf.Tensor2D,
  targets: tf.Tensor1D,
  perChunk: number,
): tf.Tensor1D {
  const [rows, size] = hidden.shape;
  const chunks = Math.ceil(rows / perChunk);
  const padding = chunks * perChunk - rows;
  const padded = (x: tf.Tensor) => tf.pad(x, x.shape.map((_, i) => [0, i === 0 ? padding : 0]));
  const part = (x: tf.Tensor, i: tf.Tensor) => {
    const start = tf.mul(i, tf.scalar(perChunk, "int32"));
    const sizes = [perChunk, ...x.shape.slice(1)];
    return dynamicSlice(x, [start, ...x.shape.slice(1).map(() => 0)], sizes);
  };
  const unpadded = (x: tf.Tensor) => tf.slice(x, x.shape.map(() => 0), [rows, ...x.shape.slice(1)]);

  const run = tf.customGrad((...inputs) => {
    const [h, w, save] = inputs as unknown as [tf.Tensor2D, tf.Tensor2D, tf.GradSaveFunc];
    const states = padded(h);
    const tokens = padded(targets);
    const [, columns] = scan(
      (carry: tf.Tensor, i) => {
        const logits = logitsOf(part(states, i), w);
        return [tf.clone(carry), gathered(logits, part(tokens, i)).value];
      },
      tf.scalar(0) as tf.Tensor,
      chunks,
    );
    save([h, w, targets]);
    return {
      value: unpadded(tf.reshape(columns, [chunks * perChunk])),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [h, w] = saved as [tf.Tensor2D, tf.Tensor2D];
        const states = padded(h);
        const tokens = padded(saved[2]!);
        const slopes = padded(dy);
        const [dWeight, dHidden] = scan(
          (carry: tf.Tensor, i) => {
            const piece = part(states, i);
            const logits = logitsOf(piece, w);
            const target = part(tokens, i);
            const { lse } = gathered(logits, target);
            const slope = logitGradient(logits, lse, target, part(slopes, i));
            return [tf.add(carry, tf.matMul(slope, piece, true, false)), tf.matMul(slope, w)];
          },
          tf.zerosLike(w) as tf.Tensor,
          chunks,
        );
        return [unpadded(tf.reshape(dHidden, [chunks * perChunk, size])), dWeight];
      },
    };
  });
  return run(hidden, weight) as tf.Tensor1D;
}
