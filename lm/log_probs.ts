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

/** `log softmax(logits)[token]` of each row, and what its gradient is made of. */
interface Chosen {
  /** [rows] */
  readonly value: tf.Tensor;
  /** exp(logits - the row's largest), [rows, vocabulary]. */
  readonly exponentials: tf.Tensor2D;
  /** Their sums, [rows, 1]. */
  readonly sums: tf.Tensor2D;
}

function chosenLogProbs(logits: tf.Tensor2D, targets: tf.Tensor): Chosen {
  const top = tf.max(logits, 1, true);
  const exponentials = tf.exp(tf.sub(logits, top)) as tf.Tensor2D;
  const sums = tf.sum(exponentials, 1, true) as tf.Tensor2D;
  const chosen = tf.gather(logits, tf.reshape(targets, [targets.size, 1]), 1, 1);
  const value = tf.sub(chosen, tf.add(tf.log(sums), top));
  return { value: tf.reshape(value, [targets.size]), exponentials, sums };
}

/** [rows, vocabulary] by comparison, which fuses with what follows. */
function oneHot(targets: tf.Tensor, vocabSize: number): tf.Tensor2D {
  const column = tf.reshape(targets, [targets.size, 1]);
  const ids = tf.range(0, vocabSize, 1, "int32");
  return tf.cast(tf.equal(ids, column), "float32") as tf.Tensor2D;
}

/**
 * d value / d logits times the rows' incoming gradient: (one-hot - softmax) * dy. The exponentials are
 * the forward pass's: taking them again costs more than all else here.
 */
function logitGradient(
  { exponentials, sums }: Pick<Chosen, "exponentials" | "sums">,
  targets: tf.Tensor,
  dy: tf.Tensor,
): tf.Tensor2D {
  const softmax = tf.div(exponentials, sums);
  const slope = tf.sub(oneHot(targets, exponentials.shape[1]), softmax);
  return tf.mul(slope, tf.reshape(dy, [dy.size, 1]));
}

/**
 * log softmax(logits)[i, targets[i]]: logits float32 [rows, vocabulary], int32 targets [rows] -> float32
 * [rows]. Differentiable in logits.
 */
export function logProbsOfTargets(logits: tf.Tensor2D, targets: tf.Tensor1D): tf.Tensor1D {
  const run = tf.customGrad((...inputs) => {
    const [x, save] = inputs as unknown as [tf.Tensor2D, tf.GradSaveFunc];
    const { value, exponentials, sums } = chosenLogProbs(x, targets);
    save([exponentials, sums, targets]);
    return {
      value,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [exponentials, sums] = saved as [tf.Tensor2D, tf.Tensor2D];
        return [logitGradient({ exponentials, sums }, saved[2]!, dy)];
      },
    };
  });
  return run(logits) as tf.Tensor1D;
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
    ? logProbsOfTargets(logitsOf(hidden, weight), targets)
    : chunked(hidden, weight, targets, perChunk);
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
        return [tf.clone(carry), chosenLogProbs(logits, part(tokens, i)).value];
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
            const chosen = chosenLogProbs(logits, target);
            const slope = logitGradient(chosen, target, part(slopes, i));
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
