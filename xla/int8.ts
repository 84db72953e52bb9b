/** StableHLO of int8 matrices: quantising rows, and products of whole numbers. */
import type { Builder, Value } from "./hlo/mod.ts";

/** Each row's largest magnitude, [rows, 1], by halving: XLA's own maximum takes care of NaN one by one. */
function largestMagnitudes(b: Builder, x: Value): Value {
  const [rows] = x.type.shape as [number, number];
  let top = b.unary("abs", x);
  for (let n = x.type.shape[1]!; n > 1;) {
    const half = Math.ceil(n / 2);
    const left = b.slice(top, [0, 0], [rows, half]);
    top = b.binary("maximum", left, b.slice(top, [0, n - half], [rows, n]));
    n = half;
  }
  return top;
}

/** float32 [rows, columns] -> int8 of that shape and float32 [rows]. */
export function quantized(b: Builder, given: Value): [Value, Value] {
  const x = b.convert(given, "f32");
  const [rows, columns] = x.type.shape as [number, number];
  const top = b.reshape(largestMagnitudes(b, x), [rows]);
  // A row of zeros stays one.
  const safe = b.binary("maximum", top, b.splat(1e-30, top.type));
  const factor = b.binary("divide", b.splat(127, top.type), safe);
  const scaled = b.mul(x, b.broadcastInDim(factor, [rows, columns], [0]));
  const values = b.convert(b.unary("round_nearest_even", scaled), "i8");
  return [values, b.mul(top, b.splat(1 / 127, top.type))];
}

/** `x · weightsᵀ`, scaled: float32 [n, columns], int8 [rows, columns], float32 [rows] -> float32 [n, rows]. */
export function int8Product(b: Builder, x: Value, weights: Value, scales: Value): Value {
  const [left, leftScales] = quantized(b, x);
  const contracting = { lhsContracting: [1], rhsContracting: [1] };
  const product = b.convert(b.dotGeneral(left, weights, contracting, "i32"), "f32");
  const { shape } = product.type;
  const scaled = b.mul(product, b.broadcastInDim(leftScales, shape, [0]));
  return b.mul(scaled, b.broadcastInDim(scales, shape, [1]));
}
