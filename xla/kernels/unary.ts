/**
 * Element-wise kernels of one operand: a line a kernel. The result has the operand's type, as in
 * tfjs's cpu kernels: a float function of int32 is computed in f32 and truncated.
 */
import { tf } from "../tf.ts";
import { type Builder, isFloat, type UnaryOp, type Value } from "../hlo/mod.ts";
import { lower } from "./registry.ts";
import { align, asFloat, broadcastTo, hloType, type X } from "./util.ts";

type Unary = (b: Builder, x: Value) => Value;

const op = (name: UnaryOp): Unary => (b, x) => b.unary(name, x);

/** 1 / (1 + e^-x) */
const sigmoid = op("logistic");

/** log(1 + e^x), without overflow. */
const softplus: Unary = (b, x) =>
  b.add(b.max(x, b.like(0, x)), b.unary("log_plus_one", b.exp(b.neg(b.unary("abs", x)))));

/** Float functions. */
const FLOAT: Record<string, Unary> = {
  Acos: (b, x) => b.chlo("acos", x),
  Acosh: (b, x) => b.chlo("acosh", x),
  Asin: (b, x) => b.chlo("asin", x),
  Asinh: (b, x) => b.chlo("asinh", x),
  Atan: (b, x) => b.chlo("atan", x),
  Atanh: (b, x) => b.chlo("atanh", x),
  Ceil: op("ceil"),
  Cos: op("cosine"),
  Cosh: (b, x) => b.chlo("cosh", x),
  Elu: (b, x) => negativeBranch(b, x, b.unary("exponential_minus_one", x)),
  Erf: (b, x) => b.chlo("erf", x),
  Expm1: op("exponential_minus_one"),
  Floor: op("floor"),
  Log: op("log"),
  Log1p: op("log_plus_one"),
  Reciprocal: (b, x) => b.div(b.like(1, x), x),
  Round: op("round_nearest_even"),
  Rsqrt: op("rsqrt"),
  Selu: (b, x) =>
    negativeBranch(
      b,
      b.mul(b.like(tf.backend_util.SELU_SCALE, x), x),
      b.mul(b.like(tf.backend_util.SELU_SCALEALPHA, x), b.unary("exponential_minus_one", x)),
    ),
  Sigmoid: sigmoid,
  Sin: op("sine"),
  Sinh: (b, x) => b.chlo("sinh", x),
  Softplus: softplus,
  Sqrt: op("sqrt"),
  // Near its poles tan needs more bits of x than f32 sine and cosine keep.
  Tan: (b, x) => b.convert(b.unary("tan", b.convert(x, "f64")), x.type.dtype),
  Tanh: op("tanh"),
};

/** Functions of any number; what they give for integers is exact. */
const NUMBER: Record<string, Unary> = {
  Abs: op("abs"),
  Neg: op("negate"),
  Relu: (b, x) => b.max(x, b.like(0, x)),
  Relu6: (b, x) => b.clamp(b.like(0, x), x, b.like(6, x)),
  // tfjs's sign of NaN is 0, XLA's is NaN.
  Sign: (b, x) => b.select(b.compare("NE", x, x), b.like(0, x), b.unary("sign", x)),
  Square: (b, x) => b.mul(x, x),
};

for (const [name, fn] of Object.entries(FLOAT)) {
  lower(name, (b, { x }: X) => {
    const complex = x.type.dtype === "c64";
    return complex ? fn(b, x) : b.convert(fn(b, asFloat(b, x)), x.type.dtype);
  });
}

for (const [name, fn] of Object.entries(NUMBER)) {
  lower(
    name,
    (b, { x }: X) => x.type.dtype === "i1" ? b.convert(fn(b, b.convert(x, "i32")), "i1") : fn(b, x),
  );
}

// tfjs gives exp of an integer tensor as float32, unlike every other function.
lower("Exp", (b, { x }: X) => b.exp(x.type.dtype === "c64" ? x : asFloat(b, x)));

const PREDICATES: Record<string, Unary> = {
  IsFinite: (b, x) => b.isFinite(x),
  IsInf: (b, x) => b.compare("EQ", b.unary("abs", x), b.like(Infinity, x)),
  IsNan: (b, x) => b.compare("NE", x, x),
};

for (const [name, fn] of Object.entries(PREDICATES)) {
  lower(name, (b, { x }: X) => fn(b, asFloat(b, x)));
}

lower("LogicalNot", (b, { x }: X) => b.not(b.convert(x, "i1")));

lower("Step", (b, { x }: X, { alpha }: { alpha: number }) => {
  const v = asFloat(b, x);
  const step = b.select(b.compare("GT", v, b.like(0, v)), b.like(1, v), b.like(alpha, v));
  return b.convert(b.select(b.compare("NE", v, v), v, step), x.type.dtype);
});

lower(
  "LeakyRelu",
  (b, { x }: X, { alpha }: { alpha: number }) => leakyRelu(b, asFloat(b, x), alpha),
);

// Either side may be the larger one: tfjs's own kernel broadcasts both.
lower("Prelu", (b, { x, alpha }: { x: Value; alpha: Value }) => {
  const [wide, slope] = align(b, asFloat(b, x), alpha);
  return prelu(b, wide, slope);
});

/** dy where y >= 0, else dy (y + 1); y is elu's result. */
lower("EluGrad", (b, { dy, y }: { dy: Value; y: Value }) => {
  const slope = b.select(b.compare("GE", y, b.like(0, y)), b.like(1, y), b.add(y, b.like(1, y)));
  return b.mul(dy, b.convert(slope, dy.type.dtype));
});

lower(
  "ClipByValue",
  (b, { x }: X, { clipValueMin, clipValueMax }: { clipValueMin: number; clipValueMax: number }) => {
    const v = asFloat(b, x);
    return b.convert(b.clamp(b.like(clipValueMin, v), v, b.like(clipValueMax, v)), x.type.dtype);
  },
);

lower("Cast", (b, { x }: X, { dtype }: { dtype: tf.DataType }) => {
  const target = hloType(dtype);
  if (target === "f32" && isFloat(x.type.dtype)) return x;
  return b.convert(x.type.dtype === "c64" && target !== "c64" ? b.real(x) : x, target);
});

lower("Identity", (_, { x }: X) => x);
lower("ZerosLike", (b, { x }: X) => b.like(0, x));
lower("OnesLike", (b, { x }: X) => b.like(1, x));

lower(
  "Complex",
  (b, { real, imag }: { real: Value; imag: Value }) => b.complex(asF32(b, real), asF32(b, imag)),
);
lower("Real", (b, { input }: { input: Value }) => b.real(input));
lower("Imag", (b, { input }: { input: Value }) => b.imag(input));
lower("ComplexAbs", (b, { x }: X) => b.complexAbs(x));

/** `x` where it is not negative, else `negative`. */
function negativeBranch(b: Builder, x: Value, negative: Value): Value {
  return b.select(b.compare("GE", x, b.like(0, x)), x, negative);
}

function leakyRelu(b: Builder, x: Value, alpha: number): Value {
  return b.select(b.compare("LT", x, b.like(0, x)), b.mul(b.like(alpha, x), x), x);
}

function prelu(b: Builder, x: Value, alpha: Value): Value {
  const slope = broadcastTo(b, b.convert(alpha, x.type.dtype), x.type.shape);
  return b.select(b.compare("LT", x, b.like(0, x)), b.mul(slope, x), x);
}

function asF32(b: Builder, x: Value): Value {
  return b.convert(x, "f32");
}

/** What a fused kernel ends with, by tfjs's name of the activation. */
export function activate(
  b: Builder,
  x: Value,
  activation: string | undefined | null,
  options: { preluWeights?: Value | undefined; leakyreluAlpha?: number | undefined },
): Value {
  switch (activation) {
    case undefined:
    case null:
    case "linear":
      return x;
    case "relu":
      return NUMBER.Relu!(b, x);
    case "relu6":
      return NUMBER.Relu6!(b, x);
    case "elu":
      return FLOAT.Elu!(b, x);
    case "sigmoid":
      return sigmoid(b, x);
    case "leakyrelu":
      return leakyRelu(b, x, options.leakyreluAlpha ?? 0.2);
    case "prelu":
      return prelu(b, x, options.preluWeights!);
    default:
      throw new Error(`Activation ${activation} has not been implemented for the xla backend.`);
  }
}
