/**
 * Weights in fewer bits. A bfloat16 tensor has tfjs dtype float32 (see `asType`); an int8 matrix is a
 * pair of tensors, made and multiplied here only. Backends other than xla hold the same numbers in float32 and
 * int32, so results agree but nothing is saved.
 */
import { activeCore } from "./core.ts";
import { tf } from "./tf.ts";

/** float32 from the bits of bfloat16, its upper half. */
function widened(bits: Uint16Array): Float32Array {
  const words = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i]! << 16;
  return new Float32Array(words.buffer);
}

/** A bfloat16 tensor of these bits, on the device when this returns: `bits` may be used again. */
export function fromBfloat16(bits: Uint16Array<ArrayBuffer>, shape: readonly number[]): tf.Tensor {
  const size = shape.reduce((product, dim) => product * dim, 1);
  if (bits.length !== size) {
    throw new RangeError(`fromBfloat16: ${bits.length} numbers do not fill shape [${shape}]`);
  }
  return activeCore()?.upload(bits, shape, "bf16") ?? tf.tensor(widened(bits), [...shape]);
}

/** Whether the tensor's numbers are kept as bfloat16 on the device. */
export function isBfloat16(x: tf.Tensor): boolean {
  return activeCore()?.elementType(x) === "bf16";
}

/** A matrix [rows, columns] whose rows are int8 numbers times a factor each; a pytree for `jit`. */
export type Int8Matrix = {
  /** Whole numbers from -127 to 127; tfjs dtype int32. */
  values: tf.Tensor2D;
  /** [rows] */
  scales: tf.Tensor1D;
};

/** The nearest int8 matrix: each row's largest magnitude becomes 127. */
export function quantizeRows(x: tf.Tensor2D): Int8Matrix {
  const core = activeCore();
  if (core !== undefined) {
    const [values, scales] = core.runAll("QuantizeRows", { x }, {});
    return { values: values as tf.Tensor2D, scales: scales as tf.Tensor1D };
  }
  return tf.tidy(() => {
    const scales = tf.div(tf.max(tf.abs(x), 1, true), 127);
    const values = tf.cast(tf.round(tf.div(x, tf.maximum(scales, 1e-30))), "int32");
    return { values: values as tf.Tensor2D, scales: tf.reshape(scales, [x.shape[0]]) };
  });
}

/**
 * `x · matrixᵀ`, [n, columns] x [rows, columns] -> [n, rows] in float32. The rows of `x` are quantised
 * too, so that the products are those of whole numbers, whose sums are exact. No gradient.
 */
export function matMulInt8(x: tf.Tensor2D, matrix: Int8Matrix): tf.Tensor2D {
  const core = activeCore();
  if (core !== undefined) return core.run("Int8MatMul", { x, ...matrix }, {}) as tf.Tensor2D;
  return tf.tidy(() => {
    const left = quantizeRows(x);
    const whole = ({ values }: Int8Matrix) => tf.cast(values, "float32");
    const product = tf.matMul(whole(left), whole(matrix), false, true);
    const scaled = tf.mul(product, tf.reshape(left.scales, [x.shape[0], 1]));
    return tf.mul(scaled, matrix.scales) as tf.Tensor2D;
  });
}
