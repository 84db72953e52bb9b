/** Element-wise kernels of two operands and the like: a line a kernel. */
import { type BinaryOp, type Builder, type Comparison, isFloat, type Value } from "../hlo/mod.ts";
import { type KernelInputs, lower } from "./registry.ts";
import { type AB, align, broadcastTo, commonType, listOf } from "./util.ts";

type Binary = (b: Builder, x: Value, y: Value) => Value;

const op = (name: BinaryOp): Binary => (b, x, y) => b.binary(name, x, y);

const isNegative = (b: Builder, x: Value) => b.compare("LT", x, b.like(0, x));

/** x - y floor(x / y), but as tfjs computes it: the plain remainder where the signs agree. */
const mod: Binary = (b, x, y) => {
  const remainder = b.binary("remainder", x, y);
  const differ = b.binary("xor", isNegative(b, x), isNegative(b, y));
  return b.select(differ, b.binary("remainder", b.add(remainder, y), y), remainder);
};

/** floor(x / y) as int32; division by zero gives 0, as an infinite float stored to an Int32Array does. */
const floorDiv: Binary = (b, x, y) => {
  if (isFloat(x.type.dtype)) {
    const quotient = b.unary("floor", b.div(x, y));
    return b.convert(b.select(b.isFinite(quotient), quotient, b.like(0, quotient)), "i32");
  }
  const zero = b.like(0, y);
  const none = b.compare("EQ", y, zero);
  const divisor = b.select(none, b.like(1, y), y);
  const quotient = b.div(x, divisor);
  const inexact = b.compare("NE", b.binary("remainder", x, divisor), zero);
  const below = b.and(inexact, b.binary("xor", isNegative(b, x), isNegative(b, divisor)));
  return b.select(none, zero, b.sub(quotient, b.convert(below, "i32")));
};

const squaredDifference: Binary = (b, x, y) => {
  const difference = b.sub(x, y);
  return b.mul(difference, difference);
};

/** Results in the operands' type. */
const ARITHMETIC: Record<string, Binary> = {
  Add: op("add"),
  Atan2: (b, x, y) =>
    isFloat(x.type.dtype) ? b.binary("atan2", x, y) : viaFloat(b, x, y, op("atan2")),
  BitwiseAnd: op("and"),
  Maximum: op("maximum"),
  Minimum: op("minimum"),
  Mod: mod,
  Multiply: op("multiply"),
  Pow: op("power"),
  RealDiv: op("divide"),
  SquaredDifference: squaredDifference,
  Sub: op("subtract"),
};

for (const [name, fn] of Object.entries(ARITHMETIC)) {
  lower(name, (b, inputs: AB) => {
    const [x, y] = align(b, inputs.a, inputs.b);
    if (x.type.dtype !== "i1") return fn(b, x, y);
    return b.convert(fn(b, b.convert(x, "i32"), b.convert(y, "i32")), "i1");
  });
}

lower("FloorDiv", (b, inputs: AB) => {
  const [x, y] = align(b, inputs.a, inputs.b);
  return x.type.dtype === "i1"
    ? floorDiv(b, b.convert(x, "i32"), b.convert(y, "i32"))
    : floorDiv(b, x, y);
});

const COMPARISONS: Record<string, Comparison> = {
  Equal: "EQ",
  Greater: "GT",
  GreaterEqual: "GE",
  Less: "LT",
  LessEqual: "LE",
  NotEqual: "NE",
};

for (const [name, comparison] of Object.entries(COMPARISONS)) {
  lower(name, (b, inputs: AB) => b.compare(comparison, ...align(b, inputs.a, inputs.b)));
}

const LOGICAL: Record<string, BinaryOp> = { LogicalAnd: "and", LogicalOr: "or", LogicalXor: "xor" };

for (const [name, logical] of Object.entries(LOGICAL)) {
  lower(
    name,
    (b, inputs: AB) =>
      b.binary(logical, ...align(b, b.convert(inputs.a, "i1"), b.convert(inputs.b, "i1"))),
  );
}

/** A condition of rank 1 under a higher-rank choice picks whole rows. */
lower("Select", (b, { condition, t, e }: { condition: Value; t: Value; e: Value }) => {
  const dtype = commonType(t, e);
  const shape = t.type.shape;
  const test = b.convert(condition, "i1");
  const rows = test.type.shape.length === 1 && shape.length > 1;
  const mask = rows ? b.broadcastInDim(test, shape, [0]) : broadcastTo(b, test, shape);
  return b.select(mask, b.convert(t, dtype), b.convert(e, dtype));
});

lower(
  "AddN",
  (b, inputs: KernelInputs) =>
    listOf(inputs).reduce((sum, x) => ARITHMETIC.Add!(b, ...align(b, sum, x))),
);

function viaFloat(b: Builder, x: Value, y: Value, fn: Binary): Value {
  return b.convert(fn(b, b.convert(x, "f32"), b.convert(y, "f32")), x.type.dtype);
}
