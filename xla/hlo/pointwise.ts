/**
 * Element-by-element StableHLO ops: constants aside, every op whose result element depends on the
 * operands' elements at the same place. Operands must already have one shape and type; nothing is
 * broadcast here.
 */
import { Emitter, operandsText } from "./emitter.ts";
import {
  type DType,
  HloError,
  isFloat,
  isInteger,
  isUnsigned,
  sameShape,
  sameType,
  tensor,
  typesText,
  typeText,
  type Value,
} from "./types.ts";

type Kind = "float" | "int" | "bool" | "complex";

const FLOAT = ["float", "complex"] as const;
const NUMBER = ["float", "int", "complex"] as const;
const REAL = ["float", "int"] as const;
const ANY = ["float", "int", "bool", "complex"] as const;
const BITS = ["int", "bool"] as const;

/** StableHLO unary ops whose result has the operand's type, and the element types they take. */
const UNARY = {
  abs: REAL,
  cbrt: ["float"],
  ceil: ["float"],
  cosine: FLOAT,
  count_leading_zeros: ["int"],
  exponential: FLOAT,
  exponential_minus_one: FLOAT,
  floor: ["float"],
  log: FLOAT,
  log_plus_one: FLOAT,
  logistic: FLOAT,
  negate: NUMBER,
  not: BITS,
  popcnt: ["int"],
  round_nearest_afz: ["float"],
  round_nearest_even: ["float"],
  rsqrt: FLOAT,
  sign: REAL,
  sine: FLOAT,
  sqrt: FLOAT,
  tan: FLOAT,
  tanh: FLOAT,
} as const satisfies Record<string, readonly Kind[]>;

/** CHLO unary ops: functions the compiler itself expands into StableHLO. */
const CHLO_UNARY = [
  "acos",
  "acosh",
  "asin",
  "asinh",
  "atan",
  "atanh",
  "cosh",
  "erf",
  "erf_inv",
  "erfc",
  "lgamma",
  "sinh",
] as const;

/** StableHLO binary ops whose result has the operands' common type. */
const BINARY = {
  add: ANY,
  and: BITS,
  atan2: ["float"],
  divide: NUMBER,
  maximum: ["float", "int", "bool"],
  minimum: ["float", "int", "bool"],
  multiply: ANY,
  or: BITS,
  power: NUMBER,
  remainder: REAL,
  shift_left: ["int"],
  shift_right_arithmetic: ["int"],
  shift_right_logical: ["int"],
  subtract: NUMBER,
  xor: BITS,
} as const satisfies Record<string, readonly Kind[]>;

export type UnaryOp = keyof typeof UNARY;
export type ChloUnaryOp = typeof CHLO_UNARY[number];
export type BinaryOp = keyof typeof BINARY;
export type Comparison = "EQ" | "NE" | "LT" | "LE" | "GT" | "GE";

export class PointwiseBuilder extends Emitter {
  unary(op: UnaryOp, x: Value): Value {
    requireKind(op, UNARY[op], x);
    return this.short(`stablehlo.${op} ${x.id}`, typeText(x.type), x.type);
  }

  /** A function of CHLO (`erf`, `asin`, ...); `x` is of a float type. */
  chlo(op: ChloUnaryOp, x: Value): Value {
    requireKind(op, ["float"], x);
    return this.short(`chlo.${op} ${x.id}`, `${typeText(x.type)} -> ${typeText(x.type)}`, x.type);
  }

  binary(op: BinaryOp, x: Value, y: Value): Value {
    requireSame(op, x, y);
    requireKind(op, BINARY[op], x);
    return this.short(`stablehlo.${op} ${x.id}, ${y.id}`, typeText(x.type), x.type);
  }

  add(x: Value, y: Value): Value {
    return this.binary("add", x, y);
  }

  sub(x: Value, y: Value): Value {
    return this.binary("subtract", x, y);
  }

  mul(x: Value, y: Value): Value {
    return this.binary("multiply", x, y);
  }

  div(x: Value, y: Value): Value {
    return this.binary("divide", x, y);
  }

  max(x: Value, y: Value): Value {
    return this.binary("maximum", x, y);
  }

  min(x: Value, y: Value): Value {
    return this.binary("minimum", x, y);
  }

  and(x: Value, y: Value): Value {
    return this.binary("and", x, y);
  }

  or(x: Value, y: Value): Value {
    return this.binary("or", x, y);
  }

  not(x: Value): Value {
    return this.unary("not", x);
  }

  neg(x: Value): Value {
    return this.unary("negate", x);
  }

  exp(x: Value): Value {
    return this.unary("exponential", x);
  }

  log(x: Value): Value {
    return this.unary("log", x);
  }

  /** `i1` of the operands' shape. Float comparisons with NaN are false, but for NE. */
  compare(comparison: Comparison, x: Value, y: Value): Value {
    requireSame("compare", x, y);
    const kind = isFloat(x.type.dtype) || x.type.dtype === "c64"
      ? "FLOAT"
      : isUnsigned(x.type.dtype) || x.type.dtype === "i1"
      ? "UNSIGNED"
      : "SIGNED";
    const result = tensor(x.type.shape, "i1");
    const types = `${typesText([x.type, y.type])} -> ${typeText(result)}`;
    return this.short(`stablehlo.compare ${comparison}, ${x.id}, ${y.id}, ${kind}`, types, result);
  }

  /** `onTrue` where `condition` (i1, rank 0 or of the same shape), else `onFalse`. */
  select(condition: Value, onTrue: Value, onFalse: Value): Value {
    requireSame("select", onTrue, onFalse);
    const { shape, dtype } = condition.type;
    if (dtype !== "i1" || (shape.length > 0 && !sameShape(shape, onTrue.type.shape))) {
      throw new HloError(
        `select: condition ${typeText(condition.type)} does not fit ${typeText(onTrue.type)}`,
      );
    }
    const operands = operandsText([condition, onTrue, onFalse]);
    return this.short(
      `stablehlo.select ${operands}`,
      `${typeText(condition.type)}, ${typeText(onTrue.type)}`,
      onTrue.type,
    );
  }

  /** `min(max(x, low), high)`; the bounds have rank 0 or `x`'s shape. */
  clamp(low: Value, x: Value, high: Value): Value {
    for (const bound of [low, high]) {
      if (bound.type.dtype !== x.type.dtype) requireSame("clamp", bound, x);
    }
    const types = `${typesText([low.type, x.type, high.type])} -> ${typeText(x.type)}`;
    return this.short(`stablehlo.clamp ${operandsText([low, x, high])}`, types, x.type);
  }

  /** Element type conversion; to integers it truncates, to `i1` it is `x != 0`. The same type costs nothing. */
  convert(x: Value, dtype: DType): Value {
    if (x.type.dtype === dtype) return x;
    const result = tensor(x.type.shape, dtype);
    return this.short(
      `stablehlo.convert ${x.id}`,
      `${typesText([x.type])} -> ${typeText(result)}`,
      result,
    );
  }

  /** The same bits read as another type of the same width. */
  bitcastConvert(x: Value, dtype: DType): Value {
    const result = tensor(x.type.shape, dtype);
    return this.short(
      `stablehlo.bitcast_convert ${x.id}`,
      `${typesText([x.type])} -> ${typeText(result)}`,
      result,
    );
  }

  isFinite(x: Value): Value {
    requireKind("is_finite", ["float"], x);
    const result = tensor(x.type.shape, "i1");
    return this.short(
      `stablehlo.is_finite ${x.id}`,
      `${typesText([x.type])} -> ${typeText(result)}`,
      result,
    );
  }

  complex(real: Value, imaginary: Value): Value {
    requireSame("complex", real, imaginary);
    const result = tensor(real.type.shape, "c64");
    const types = `${typesText([real.type, imaginary.type])} -> ${typeText(result)}`;
    return this.short(`stablehlo.complex ${real.id}, ${imaginary.id}`, types, result);
  }

  real(x: Value): Value {
    return this.#part("real", x);
  }

  imag(x: Value): Value {
    return this.#part("imag", x);
  }

  /** |x| of a complex value, f32. */
  complexAbs(x: Value): Value {
    return this.#part("abs", x);
  }

  /** The number `value` in every element of a value like `like`. */
  like(value: number, like: Value): Value {
    return this.splat(value, like.type);
  }

  #part(op: "real" | "imag" | "abs", x: Value): Value {
    requireKind(op, ["complex"], x);
    const result = tensor(x.type.shape, "f32");
    return this.short(
      `stablehlo.${op} ${x.id}`,
      `${typesText([x.type])} -> ${typeText(result)}`,
      result,
    );
  }
}

function kindOf(dtype: DType): Kind {
  if (isFloat(dtype)) return "float";
  if (isInteger(dtype)) return "int";
  return dtype === "i1" ? "bool" : "complex";
}

function requireKind(op: string, kinds: readonly Kind[], x: Value): void {
  if (!kinds.includes(kindOf(x.type.dtype))) {
    throw new HloError(
      `${op}: operand is ${typeText(x.type)}, must be one of: ${kinds.join(", ")}`,
    );
  }
}

function requireSame(op: string, x: Value, y: Value): void {
  if (!sameType(x.type, y.type)) {
    throw new HloError(`${op}: operand types differ: ${typeText(x.type)} and ${typeText(y.type)}`);
  }
}
