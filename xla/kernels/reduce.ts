/** Reductions, softmax, scans, sorting. Sums of bfloat16 are kept in float32 until the last step. */
import { type Builder, type DType, isFloat, type Reducer, type Value } from "../hlo/mod.ts";
import { lower } from "./registry.ts";
import {
  asFloat,
  axesOf,
  axisOf,
  broadcastAlong,
  inFloat32,
  range,
  reducedShape,
  type X,
} from "./util.ts";

interface AxisAttrs {
  axis: number | number[];
  keepDims: boolean;
}

function reduce(b: Builder, x: Value, attrs: AxisAttrs, init: number, reducer: Reducer): Value {
  const axes = axesOf(attrs.axis, x.type.shape.length);
  const folded = b.reduce(x, b.scalar(init, x.type.dtype), axes, reducer);
  return b.reshape(folded, reducedShape(x.type.shape, axes, attrs.keepDims));
}

/** bool counts as int32. */
function asNumber(b: Builder, x: Value): Value {
  return x.type.dtype === "i1" ? b.convert(x, "i32") : x;
}

lower(
  "Sum",
  (b, { x }: X, attrs: AxisAttrs) =>
    inFloat32(b, asNumber(b, x), (v) => reduce(b, v, attrs, 0, "add")),
);

lower(
  "Prod",
  (b, { x }: X, attrs: AxisAttrs) =>
    inFloat32(b, asNumber(b, x), (v) => reduce(b, v, attrs, 1, "multiply")),
);

lower("Mean", (b, { x }: X, attrs: AxisAttrs) =>
  inFloat32(b, asFloat(b, x), (v) => {
    const axes = axesOf(attrs.axis, v.type.shape.length);
    const count = axes.reduce((product, axis) => product * v.type.shape[axis]!, 1);
    const sum = reduce(b, v, attrs, 0, "add");
    return b.div(sum, b.like(count, sum));
  }));

const LOWEST: Partial<Record<DType, number>> = { i32: -(2 ** 31), i1: 0 };
const HIGHEST: Partial<Record<DType, number>> = { i32: 2 ** 31 - 1, i1: 1 };

interface ReductionAttrs {
  reductionIndices: number | number[];
  keepDims: boolean;
}

lower(
  "Max",
  (b, { x }: X, { reductionIndices, keepDims }: ReductionAttrs) =>
    reduce(
      b,
      x,
      { axis: reductionIndices, keepDims },
      LOWEST[x.type.dtype] ?? -Infinity,
      "maximum",
    ),
);

/** tfjs names Min's axes `axis`, unlike Max's. */
lower(
  "Min",
  (b, { x }: X, attrs: AxisAttrs) =>
    reduce(b, x, attrs, HIGHEST[x.type.dtype] ?? Infinity, "minimum"),
);

lower("All", (b, { x }: X, attrs: AxisAttrs) => reduce(b, b.convert(x, "i1"), attrs, 1, "and"));
lower("Any", (b, { x }: X, attrs: AxisAttrs) => reduce(b, b.convert(x, "i1"), attrs, 0, "or"));

/**
 * Index of the first extreme element. Two plain reductions (the extreme, then the least index that has
 * it) vectorise where one reduction of pairs does not. NaN never wins.
 */
function argExtreme(b: Builder, x: Value, axis: number, largest: boolean): Value {
  const at = axisOf(Array.isArray(axis) ? axis[0]! : axis, x.type.shape.length);
  const number = asNumber(b, x);
  const { shape, dtype } = number.type;
  const worst = largest ? LOWEST[dtype] ?? -Infinity : HIGHEST[dtype] ?? Infinity;
  const v = isFloat(dtype)
    ? b.select(b.compare("NE", number, number), b.like(worst, number), number)
    : number;
  const best = b.reduce(v, b.scalar(worst, dtype), [at], largest ? "maximum" : "minimum");
  const index = b.iota(shape, "i32", at);
  const hit = b.compare("EQ", v, broadcastAlong(b, best, shape, [at]));
  const candidates = b.select(hit, index, b.like(2 ** 31 - 1, index));
  return b.reduce(candidates, b.scalar(2 ** 31 - 1, "i32"), [at], "minimum");
}

lower("ArgMax", (b, { x }: X, { axis }: { axis: number }) => argExtreme(b, x, axis, true));
lower("ArgMin", (b, { x }: X, { axis }: { axis: number }) => argExtreme(b, x, axis, false));

/** x - max, its exponential, and the exponentials' sum, all of the full shape. */
function shifted(
  b: Builder,
  x: Value,
  axis: number,
): { centred: Value; exponentials: Value; sum: Value } {
  const { shape, dtype } = x.type;
  const max = b.reduce(x, b.scalar(-Infinity, dtype), [axis], "maximum");
  const centred = b.sub(x, broadcastAlong(b, max, shape, [axis]));
  const exponentials = b.exp(centred);
  const sum = b.reduce(exponentials, b.scalar(0, dtype), [axis], "add");
  return { centred, exponentials, sum };
}

lower(
  "Softmax",
  (b, { logits }: { logits: Value }, { dim }: { dim: number }) =>
    inFloat32(b, asFloat(b, logits), (x) => {
      const axis = axisOf(dim, x.type.shape.length);
      const { exponentials, sum } = shifted(b, x, axis);
      return b.div(exponentials, broadcastAlong(b, sum, x.type.shape, [axis]));
    }),
);

lower(
  "LogSoftmax",
  (b, { logits }: { logits: Value }, { axis }: { axis: number }) =>
    inFloat32(b, asFloat(b, logits), (x) => {
      const at = axisOf(axis, x.type.shape.length);
      const { centred, sum } = shifted(b, x, at);
      return b.sub(centred, broadcastAlong(b, b.log(sum), x.type.shape, [at]));
    }),
);

interface ScanAttrs {
  axis: number;
  exclusive: boolean;
  reverse: boolean;
}

/** Running fold along an axis: a window over all that came before, which XLA computes in blocks. */
function scan(
  b: Builder,
  x: Value,
  { axis, exclusive, reverse }: ScanAttrs,
  identity: number,
  reducer: Reducer,
): Value {
  const rank = x.type.shape.length;
  const at = axisOf(axis, rank);
  const size = x.type.shape[at]!;
  if (size === 0) return x;
  const only = (amount: number) => range(rank).map((i) => i === at ? amount : 0);
  const init = b.scalar(identity, x.type.dtype);
  const [low, high] = reverse ? [-1, 1] : [1, -1];
  const source = exclusive ? b.pad(x, init, only(low), only(high)) : x;
  return b.reduceWindow(source, init, {
    dimensions: range(rank).map((i) => i === at ? size : 1),
    padding: range(rank).map((i) => i !== at ? [0, 0] : reverse ? [0, size - 1] : [size - 1, 0]),
  }, reducer);
}

lower(
  "Cumsum",
  (b, { x }: X, attrs: ScanAttrs) =>
    inFloat32(b, asNumber(b, x), (v) => scan(b, v, attrs, 0, "add")),
);
lower(
  "Cumprod",
  (b, { x }: X, attrs: ScanAttrs) =>
    inFloat32(b, asNumber(b, x), (v) => scan(b, v, attrs, 1, "multiply")),
);

/** The k largest of the last axis in falling order; among equals the lower index first. */
lower("TopK", (b, { x }: X, { k }: { k: number; sorted: boolean }) => {
  const number = asNumber(b, x);
  const [values, indices] = b.topK(number, k);
  return [b.convert(values, x.type.dtype), indices];
});
