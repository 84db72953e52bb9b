/**
 * Types of StableHLO values and how they print. Nothing here knows tfjs or PJRT.
 */

/** Element types, named as StableHLO prints them (`c64` prints as `complex<f32>`). */
export type DType =
  | "f32"
  | "bf16"
  | "f16"
  | "f64"
  | "i1"
  | "i8"
  | "i32"
  | "i64"
  | "ui8"
  | "ui32"
  | "ui64"
  | "c64";

/** Dense array type; every size is known when a program is built. */
export interface TensorType {
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/** A value of the program being built: `id` is its SSA name (`%3`, or `%3#1` for a second result). */
export interface Value {
  readonly id: string;
  readonly type: TensorType;
}

/** The program asked for is not valid StableHLO; names the op, the types found and the rule broken. */
export class HloError extends Error {
  override name = "HloError";
}

/** Bytes an element takes in a buffer. */
export const BYTES: Readonly<Record<DType, number>> = {
  f32: 4,
  bf16: 2,
  f16: 2,
  f64: 8,
  i1: 1,
  i8: 1,
  i32: 4,
  i64: 8,
  ui8: 1,
  ui32: 4,
  ui64: 8,
  c64: 8,
};

export function tensor(shape: readonly number[], dtype: DType): TensorType {
  return { shape, dtype };
}

/** Number of elements. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}

export function sameType(a: TensorType, b: TensorType): boolean {
  return a.dtype === b.dtype && sameShape(a.shape, b.shape);
}

export function isFloat(dtype: DType): boolean {
  return dtype === "f32" || dtype === "bf16" || dtype === "f16" || dtype === "f64";
}

export function isInteger(dtype: DType): boolean {
  return !isFloat(dtype) && dtype !== "c64" && dtype !== "i1";
}

export function isUnsigned(dtype: DType): boolean {
  return dtype === "ui8" || dtype === "ui32" || dtype === "ui64";
}

/** `tensor<2x3xf32>`. */
export function typeText(type: TensorType): string {
  const element = type.dtype === "c64" ? "complex<f32>" : type.dtype;
  return `tensor<${type.shape.map((size) => `${size}x`).join("")}${element}>`;
}

/** `(tensor<2xf32>, tensor<i32>)`. */
export function typesText(types: readonly TensorType[]): string {
  return `(${types.map(typeText).join(", ")})`;
}

/** A scalar as StableHLO writes it inside `dense<...>`; infinities and NaN as bit patterns. */
export function scalarText(value: number, dtype: DType): string {
  if (dtype === "i1") return value ? "true" : "false";
  if (dtype === "c64") return `(${scalarText(value, "f32")}, 0.0)`;
  if (!isFloat(dtype)) return String(integerIn(value, dtype));
  if (!Number.isFinite(value)) {
    return NON_FINITE[dtype as keyof typeof NON_FINITE][specialIndex(value)]!;
  }
  const shortest = Object.is(value, -0) ? "-0" : String(value);
  const [mantissa, exponent] = shortest.split("e");
  const withPoint = mantissa!.includes(".") ? mantissa : `${mantissa}.0`;
  return exponent === undefined ? withPoint! : `${withPoint}e${exponent}`;
}

const NON_FINITE = {
  f32: ["0x7F800000", "0xFF800000", "0x7FC00000"],
  bf16: ["0x7F80", "0xFF80", "0x7FC0"],
  f16: ["0x7C00", "0xFC00", "0x7E00"],
  f64: ["0x7FF0000000000000", "0xFFF0000000000000", "0x7FF8000000000000"],
} as const;

function specialIndex(value: number): number {
  return Number.isNaN(value) ? 2 : value > 0 ? 0 : 1;
}

/** Integers wrap as a typed array of their width does. */
function integerIn(value: number, dtype: DType): number {
  switch (dtype) {
    case "i8":
      return (value << 24) >> 24;
    case "ui8":
      return value & 0xff;
    case "i32":
      return value | 0;
    case "ui32":
      return value >>> 0;
    default:
      return Math.trunc(value);
  }
}
