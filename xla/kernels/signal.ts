/** Fourier transforms and normalisation layers. */
import { type Builder, tensor, type Value } from "../hlo/mod.ts";
import { lower } from "./registry.ts";
import { align, asFloat, range, type X } from "./util.ts";

lower(
  "FFT",
  (b, { input }: { input: Value }) =>
    b.fft(b.convert(input, "c64"), "FFT", [input.type.shape.at(-1)!]),
);
lower(
  "IFFT",
  (b, { input }: { input: Value }) =>
    b.fft(b.convert(input, "c64"), "IFFT", [input.type.shape.at(-1)!]),
);

interface BatchNormInputs {
  x: Value;
  mean: Value;
  variance: Value;
  offset?: Value | null;
  scale?: Value | null;
}

/** (x - mean) scale / sqrt(variance + epsilon) + offset; the statistics broadcast from the right. */
lower(
  "FusedBatchNorm",
  (b, inputs: BatchNormInputs, { varianceEpsilon }: { varianceEpsilon?: number | null }) => {
    const { x, mean, variance, offset, scale } = inputs;
    const centred = b.sub(...align(b, x, mean));
    const factor = b.unary("rsqrt", b.add(variance, b.like(varianceEpsilon ?? 0.001, variance)));
    const scaled = b.mul(...align(b, centred, scale ? b.mul(...align(b, factor, scale)) : factor));
    return offset ? b.add(...align(b, scaled, offset)) : scaled;
  },
);

interface LrnAttrs {
  depthRadius: number;
  bias: number;
  alpha: number;
  beta: number;
}

/** Sum over the channels within `radius` of each channel (the last axis). */
function neighbourSum(b: Builder, x: Value, radius: number): Value {
  const rank = x.type.shape.length;
  const last = (value: number, other: number) =>
    range(rank).map((i) => i === rank - 1 ? value : other);
  return b.reduceWindow(x, b.scalar(0, x.type.dtype), {
    dimensions: last(2 * radius + 1, 1),
    padding: range(rank).map((i) => i === rank - 1 ? [radius, radius] : [0, 0]),
  }, "add");
}

function lrnNorm(b: Builder, x: Value, { depthRadius, bias, alpha }: LrnAttrs): Value {
  const sum = neighbourSum(b, b.mul(x, x), depthRadius);
  return b.add(b.like(bias, sum), b.mul(b.like(alpha, sum), sum));
}

const power = (b: Builder, x: Value, exponent: number) => b.binary("power", x, b.like(exponent, x));

/** x (bias + alpha sum of neighbours' squares)^-beta */
lower("LRN", (b, { x }: X, attrs: LrnAttrs) => {
  const v = asFloat(b, x);
  return b.mul(v, power(b, lrnNorm(b, v, attrs), -attrs.beta));
});

/** dy norm^-beta - 2 alpha beta x (sum over neighbours of y dy / norm) */
lower("LRNGrad", (b, { x, y, dy }: { x: Value; y: Value; dy: Value }, attrs: LrnAttrs) => {
  const norm = lrnNorm(b, x, attrs);
  const direct = b.mul(dy, power(b, norm, -attrs.beta));
  const shared = neighbourSum(b, b.div(b.mul(y, dy), norm), attrs.depthRadius);
  return b.sub(
    direct,
    b.mul(
      b.splat(2 * attrs.alpha * attrs.beta, tensor(x.type.shape, x.type.dtype)),
      b.mul(x, shared),
    ),
  );
});
