/**
 * What lowerings share: tfjs's broadcasting and type rules over the builder, and axes.
 */
import type { tf } from "../tf.ts";
import { type Builder, type DType, isFloat, sameShape, type Value } from "../hlo/mod.ts";
import { type KernelInputs, Unsupported } from "./registry.ts";

/** The usual input lists. */
export interface X {
  x: Value;
}
export interface AB {
  a: Value;
  b: Value;
}

const TYPES: Partial<Record<tf.DataType, DType>> = {
  float32: "f32",
  int32: "i32",
  bool: "i1",
  complex64: "c64",
};

/** StableHLO's type for a tfjs dtype. */
export function hloType(dtype: tf.DataType): DType {
  const type = TYPES[dtype];
  if (type === undefined) throw new Unsupported(`no XLA type for tfjs dtype ${dtype}`);
  return type;
}

/** The inputs of a kernel that takes a list, in order. */
export function listOf(inputs: KernelInputs | readonly Value[]): Value[] {
  return Object.values(inputs).flat() as Value[];
}

export function axisOf(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

/** `axis` as tfjs passes it (number, list or nothing for all) as a list of non-negative axes. */
export function axesOf(
  axis: number | readonly number[] | undefined | null,
  rank: number,
): number[] {
  const list = axis === undefined || axis === null
    ? range(rank)
    : typeof axis === "number"
    ? [axis]
    : axis;
  return [...new Set(list.map((a) => axisOf(a, rank)))].sort((a, c) => a - c);
}

/** 0, 1, ..., n - 1. */
export function range(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i);
}

/** Shape of `x` with the reduced axes kept at size 1 or dropped. */
export function reducedShape(
  shape: readonly number[],
  axes: readonly number[],
  keepDims: boolean,
): number[] {
  return keepDims
    ? shape.map((size, i) => axes.includes(i) ? 1 : size)
    : shape.filter((_, i) => !axes.includes(i));
}

/** NumPy's broadcast of two shapes. */
export function broadcastShapes(a: readonly number[], c: readonly number[]): number[] {
  const rank = Math.max(a.length, c.length);
  return range(rank).map((i) => {
    const x = a[i - rank + a.length] ?? 1;
    const y = c[i - rank + c.length] ?? 1;
    if (x !== y && x !== 1 && y !== 1) {
      throw new Error(`Operands could not be broadcast together with shapes ${a} and ${c}.`);
    }
    return x === 1 ? y : x;
  });
}

/** Broadcasts `x` to `shape` by NumPy's rules. */
export function broadcastTo(b: Builder, x: Value, shape: readonly number[]): Value {
  if (sameShape(x.type.shape, shape)) return x;
  const offset = shape.length - x.type.shape.length;
  return b.broadcastInDim(x, shape, range(x.type.shape.length).map((i) => i + offset));
}

/** Undoes a reduction: puts back the dimensions `axes` of `shape`, which `x` lacks. */
export function broadcastAlong(
  b: Builder,
  x: Value,
  shape: readonly number[],
  axes: readonly number[],
): Value {
  return b.broadcastInDim(x, shape, range(shape.length).filter((i) => !axes.includes(i)));
}

const RANK: Partial<Record<DType, number>> = { i1: 0, i32: 1, bf16: 2, f32: 3, c64: 4 };

/**
 * The type two operands meet in: the wider one of bool < int32 < bfloat16 < float32 < complex64, but a
 * float32 scalar does not widen a bfloat16 array (tfjs makes such scalars of plain numbers).
 */
export function commonType(a: Value, c: Value): DType {
  const [x, y] = [a.type, c.type];
  if (isFloat(x.dtype) && isFloat(y.dtype) && (x.shape.length === 0) !== (y.shape.length === 0)) {
    return x.shape.length === 0 ? y.dtype : x.dtype;
  }
  return (RANK[x.dtype] ?? 0) >= (RANK[y.dtype] ?? 0) ? x.dtype : y.dtype;
}

/** Both operands in their common type and shape. */
export function align(b: Builder, x: Value, y: Value): [Value, Value] {
  const dtype = commonType(x, y);
  const shape = broadcastShapes(x.type.shape, y.type.shape);
  return [broadcastTo(b, b.convert(x, dtype), shape), broadcastTo(b, b.convert(y, dtype), shape)];
}

/** `x` as a float: itself, or f32. */
export function asFloat(b: Builder, x: Value): Value {
  return isFloat(x.type.dtype) ? x : b.convert(x, "f32");
}

/** Runs `fn` in f32 where `x` is bf16, so that sums do not lose what bf16 cannot hold. */
export function inFloat32(b: Builder, x: Value, fn: (x: Value) => Value): Value {
  return x.type.dtype === "bf16" ? b.convert(fn(b.convert(x, "f32")), "bf16") : fn(x);
}
