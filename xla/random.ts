/**
 * Stateless random numbers: threefry2x32 counters, the same bits on every backend and the same as
 * JAX's default generator (`jax_threefry_partitionable`) for 32-bit draws. A key is an int32 tensor of
 * shape [2] holding the two 32-bit words; using a key twice gives the same numbers twice, so split it.
 * Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 4 (Threefry-2x32,
 * 20 rounds).
 */
import { tf } from "./tf.ts";
import { activeCore } from "./core.ts";

const ROTATIONS = [[13, 15, 26, 6], [17, 29, 16, 24]] as const;

/** One Threefry-2x32 block: encrypts the counter (x0, x1) under the key (k0, k1). */
export function threefry2x32(k0: number, k1: number, x0: number, x1: number): [number, number] {
  const schedule = [k0, k1, k0 ^ k1 ^ 0x1bd11bda];
  x0 = (x0 + k0) | 0;
  x1 = (x1 + k1) | 0;
  for (let round = 0; round < 5; round++) {
    for (const r of ROTATIONS[round % 2]!) {
      x0 = (x0 + x1) | 0;
      x1 = ((x1 << r) | (x1 >>> (32 - r))) ^ x0;
    }
    x0 = (x0 + schedule[(round + 1) % 3]!) | 0;
    x1 = (x1 + schedule[(round + 2) % 3]! + round + 1) | 0;
  }
  return [x0, x1];
}

/**
 * The key of a seed.
 * @param seed a non-negative safe integer; its high word is kept, so seeds above 2^32 differ.
 */
export function key(seed: number): tf.Tensor1D {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new RangeError(`a random seed must be a non-negative integer, found ${seed}`);
  }
  return tf.tensor1d(Int32Array.of(Math.floor(seed / 2 ** 32), seed >>> 0), "int32");
}

function checkKey(k: tf.Tensor): void {
  if (k.dtype !== "int32" || k.shape.length !== 1 || k.shape[0] !== 2) {
    throw new TypeError(
      `a random key must be int32[2] from random.key, found ${k.dtype}[${k.shape}]`,
    );
  }
}

/** Both words of the blocks of counters 0..n-1 as int32 [n, 2]. */
function blocks(k: tf.Tensor, n: number): tf.Tensor2D {
  checkKey(k);
  const core = activeCore();
  if (core !== undefined) return core.run("ThreefryBlocks", { key: k }, { n }) as tf.Tensor2D;
  const [k0, k1] = k.dataSync();
  const out = new Int32Array(2 * n);
  for (let i = 0; i < n; i++) {
    const [a, b] = threefry2x32(k0!, k1!, 0, i);
    out[2 * i] = a;
    out[2 * i + 1] = b;
  }
  return tf.tensor2d(out, [n, 2], "int32");
}

/** `n` new keys, independent of each other and of the parent. */
export function split(k: tf.Tensor, n = 2): tf.Tensor1D[] {
  return tf.tidy(() => tf.unstack(blocks(k, n)) as tf.Tensor1D[]);
}

/** A key made of a key and a 32-bit integer (a step number, a row); distinct for distinct data. */
export function foldIn(k: tf.Tensor, data: number | tf.Tensor): tf.Tensor1D {
  checkKey(k);
  const core = activeCore();
  if (core !== undefined) {
    return tf.tidy(() => {
      const counter = typeof data === "number" ? tf.scalar(data | 0, "int32") : data;
      return core.run("ThreefryFoldIn", { key: k, data: counter }, {}) as tf.Tensor1D;
    });
  }
  const word = typeof data === "number" ? data : data.dataSync()[0]!;
  const [k0, k1] = k.dataSync();
  return tf.tensor1d(Int32Array.from(threefry2x32(k0!, k1!, 0, word | 0)), "int32");
}

/** Uniform float32 in [0, 1) with 23 random bits each, of any shape. */
export function uniform<R extends tf.Rank>(k: tf.Tensor, shape: tf.ShapeMap[R]): tf.Tensor<R> {
  checkKey(k);
  const core = activeCore();
  if (core !== undefined) return core.run("ThreefryUniform", { key: k }, { shape }) as tf.Tensor<R>;
  const [k0, k1] = k.dataSync();
  const n = tf.util.sizeFromShape(shape);
  const out = new Float32Array(n);
  const word = new Int32Array(out.buffer);
  for (let i = 0; i < n; i++) {
    const [a, b] = threefry2x32(k0!, k1!, 0, i);
    // The exponent of 1.0 with 23 random mantissa bits is uniform in [1, 2).
    word[i] = ((a ^ b) >>> 9) | 0x3f800000;
    out[i] = out[i]! - 1;
  }
  return tf.tensor(out, shape, "float32");
}

/** Standard Gumbel noise, -log(-log(u)): `argMax(logits + gumbel)` draws from softmax(logits). */
export function gumbel<R extends tf.Rank>(k: tf.Tensor, shape: tf.ShapeMap[R]): tf.Tensor<R> {
  const smallest = 1.1754943508222875e-38;
  return tf.tidy(() => {
    const u = tf.maximum(uniform(k, shape), smallest);
    return tf.neg(tf.log(tf.neg(tf.log(u)))) as tf.Tensor<R>;
  });
}

// Giles 2010, "Approximating the erfinv function", single precision: polynomials in w = -log(1 - x^2).
const CENTRAL = [
  2.81022636e-08,
  3.43273939e-07,
  -3.5233877e-06,
  -4.39150654e-06,
  0.00021858087,
  -0.00125372503,
  -0.00417768164,
  0.246640727,
  1.50140941,
];
const TAIL = [
  -0.000200214257,
  0.000100950558,
  0.00134934322,
  -0.00367342844,
  0.00573950773,
  -0.0076224613,
  0.00943887047,
  1.00167406,
  2.83297682,
];

/** Standard normal float32 of any shape, by the inverse error function of a uniform in (-1, 1). */
export function normal<R extends tf.Rank>(k: tf.Tensor, shape: tf.ShapeMap[R]): tf.Tensor<R> {
  return tf.tidy(() => {
    const low = -0.9999999403953552;
    const u = tf.maximum(tf.sub(tf.mul(uniform(k, shape), 2), -low), low);
    const w = tf.neg(tf.log1p(tf.neg(tf.square(u))));
    const horner = (x: tf.Tensor, coefficients: number[]) =>
      coefficients.slice(1).reduce<tf.Tensor>(
        (p, c) => tf.add(tf.mul(p, x), c),
        tf.fill(x.shape, coefficients[0]!),
      );
    const polynomial = tf.where(
      tf.less(w, 5),
      horner(tf.sub(w, 2.5), CENTRAL),
      horner(tf.sub(tf.sqrt(w), 3), TAIL),
    );
    return tf.mul(tf.mul(polynomial, u), Math.SQRT2) as tf.Tensor<R>;
  });
}
