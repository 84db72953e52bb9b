/** Pooling, morphological dilation and their gradients. Padding never counts: not in a maximum, not in a mean. */
import { tf } from "../tf.ts";
import { type Builder, isFloat, tensor, type Value } from "../hlo/mod.ts";
import { lower } from "./registry.ts";
import { type X } from "./util.ts";
import {
  axesOfInfo,
  type Axis,
  backwardPadding,
  elementAt,
  forwardPadding,
  padForWindows,
  spreadTo,
  taps,
  unpad,
} from "./windows.ts";

const { backend_util } = tf;

interface PoolAttrs {
  filterSize: number | [number, number] & [number, number, number];
  strides: number | [number, number] & [number, number, number];
  pad: "valid" | "same" | number;
  dimRoundingMode?: "floor" | "round" | "ceil";
}

/** Window geometry of a channels-last image ([batch, rows, columns, channels] or with depth before rows). */
function poolAxes(shape: readonly number[], attrs: PoolAttrs): Axis[] {
  const { filterSize, strides, pad, dimRoundingMode } = attrs;
  if (shape.length !== 4 && shape.length !== 5) {
    throw new Error(`pooling takes an image of rank 4 or 5, got shape [${shape}]`);
  }
  return axesOfInfo(
    shape.length === 5
      ? backend_util.computePool3DInfo(
        shape as [number, number, number, number, number],
        filterSize,
        strides,
        1,
        pad,
        dimRoundingMode,
      )
      : backend_util.computePool2DInfo(
        shape as [number, number, number, number],
        filterSize,
        strides,
        1,
        pad,
        dimRoundingMode,
      ),
  );
}

const windowOf = (axes: readonly Axis[]) => ({
  dimensions: [1, ...axes.map((axis) => axis.filter), 1],
  strides: [1, ...axes.map((axis) => axis.stride), 1],
});

/** tfjs's maxima of windows pass over NaN; a window of nothing else gives -Infinity. */
function withoutNaN(b: Builder, x: Value): Value {
  return isFloat(x.type.dtype) ? b.select(b.compare("NE", x, x), b.like(-Infinity, x), x) : x;
}

function maxPool(b: Builder, x: Value, axes: Axis[]): Value {
  const padding = [[0, 0], ...axes.map(forwardPadding), [0, 0]] as [number, number][];
  const lowest = x.type.dtype === "i32" ? -(2 ** 31) : -Infinity;
  return b.reduceWindow(
    withoutNaN(b, x),
    b.scalar(lowest, x.type.dtype),
    { ...windowOf(axes), padding },
    "maximum",
  );
}

/** For each output position along an axis, how many elements of its window are not padding (1 where all are). */
function counts(axis: Axis): number[] {
  return Array.from({ length: axis.output }, (_, i) => {
    const first = i * axis.stride - axis.low;
    return Array.from({ length: axis.filter }, (_, tap) => first + tap * axis.dilation)
      .filter((place) => place >= 0 && place < axis.input).length || 1;
  });
}

function avgPool(b: Builder, x: Value, axes: Axis[]): Value {
  const padding = [[0, 0], ...axes.map(forwardPadding), [0, 0]] as [number, number][];
  const sum = b.reduceWindow(x, b.scalar(0, x.type.dtype), { ...windowOf(axes), padding }, "add");
  return axes.reduce((value, axis, i) => {
    const count = b.constant(counts(axis), tensor([axis.output], x.type.dtype));
    return b.div(value, b.broadcastInDim(count, value.type.shape, [i + 1]));
  }, sum);
}

/** Each gradient element spread evenly over its window; as tfjs does, padding included. */
function avgPoolGrad(b: Builder, dy: Value, axes: Axis[]): Value {
  const padding = [[0, 0], ...axes.map(backwardPadding), [0, 0]] as [number, number][];
  const sum = b.reduceWindow(dy, b.scalar(0, dy.type.dtype), {
    dimensions: [1, ...axes.map((axis) => axis.filter), 1],
    baseDilations: [1, ...axes.map((axis) => axis.stride), 1],
    padding,
  }, "add");
  return b.div(sum, b.like(axes.reduce((size, axis) => size * axis.filter, 1), sum));
}

/** Each gradient element goes to the first maximum of its window. */
function maxPoolGrad(b: Builder, dy: Value, x: Value, axes: Axis[]): Value {
  const padded = padForWindows(b, withoutNaN(b, x), axes, -Infinity);
  const dx = b.selectAndScatter(padded, dy, b.scalar(0, x.type.dtype), windowOf(axes), "GE");
  return unpad(b, dx, axes);
}

const POOLS = { MaxPool: maxPool, MaxPool3D: maxPool, AvgPool: avgPool, AvgPool3D: avgPool };

for (const [name, pool] of Object.entries(POOLS)) {
  lower(name, (b, { x }: X, attrs: PoolAttrs) => {
    const axes = poolAxes(x.type.shape, attrs);
    // tfjs takes a one-element window that keeps the sizes for the identity, whatever its padding.
    const trivial = axes.every((axis) => axis.filter === 1 && axis.input === axis.output);
    return trivial ? x : pool(b, x, axes);
  });
}

interface GradInputs {
  dy: Value;
  input: Value;
}

for (const name of ["AvgPoolGrad", "AvgPool3DGrad"]) {
  lower(
    name,
    (b, { dy, input }: GradInputs, attrs: PoolAttrs) =>
      avgPoolGrad(b, dy, poolAxes(input.type.shape, attrs)),
  );
}

for (const name of ["MaxPoolGrad", "MaxPool3DGrad"]) {
  lower(
    name,
    (b, { dy, input }: GradInputs, attrs: PoolAttrs) =>
      maxPoolGrad(b, dy, input, poolAxes(input.type.shape, attrs)),
  );
}

/** The greatest of every window and, per window, what `label` says of the tap where it was first met. */
function argMaxOverTaps(
  b: Builder,
  axes: readonly Axis[],
  valueAt: (tap: number[], index: number) => Value,
  labelAt: (tap: number[], index: number, shape: readonly number[]) => Value,
): { best: Value; label: Value } {
  const [first, ...rest] = taps(axes).map((tap, index) => ({ tap, index }));
  let best = valueAt(first!.tap, first!.index);
  let label = labelAt(first!.tap, first!.index, best.type.shape);
  for (const { tap, index } of rest) {
    const value = valueAt(tap, index);
    const greater = b.compare("GT", value, best);
    best = b.select(greater, value, best);
    label = b.select(greater, labelAt(tap, index, value.type.shape), label);
  }
  return { best, label };
}

/** Maxima and their flat places in the input, [rows, columns, channels] or with the batch before. */
lower("MaxPoolWithArgmax", (b, { x }: X, attrs: PoolAttrs & { includeBatchInIndex: boolean }) => {
  const axes = poolAxes(x.type.shape, attrs);
  const padded = padForWindows(
    b,
    withoutNaN(b, x),
    axes,
    -Infinity,
  );
  const places = b.iota([x.type.shape.reduce((n, size) => n * size, 1)], "i32", 0);
  const perImage = x.type.shape.slice(1).reduce((n, size) => n * size, 1);
  const flat = attrs.includeBatchInIndex
    ? places
    : b.binary("remainder", places, b.like(perImage, places));
  const paddedPlaces = padForWindows(b, b.reshape(flat, x.type.shape), axes, 0);
  const { best, label } = argMaxOverTaps(
    b,
    axes,
    (tap) => elementAt(b, padded, axes, tap),
    (tap) => elementAt(b, paddedPlaces, axes, tap),
  );
  return [best, label];
});

interface DilationAttrs {
  strides: number | [number, number];
  pad: "valid" | "same" | number;
  dilations: number | [number, number];
}

/** max over the window of x + filter, and which tap gave it. `filter` is [rows, columns, channels]. */
function dilate(
  b: Builder,
  x: Value,
  filter: Value,
  attrs: DilationAttrs,
): { axes: Axis[]; best: Value; tap: Value } {
  const axes = axesOfInfo(backend_util.computeDilation2DInfo(
    x.type.shape as [number, number, number, number],
    filter.type.shape as [number, number, number],
    attrs.strides,
    attrs.pad as "valid" | "same",
    "NHWC",
    attrs.dilations,
  ));
  const lowest = x.type.dtype === "i32" ? -(2 ** 30) : -Infinity;
  const padded = padForWindows(b, x, axes, lowest);
  const channels = filter.type.shape[2]!;
  const weights = b.reshape(filter, [filter.type.shape[0]! * filter.type.shape[1]!, channels]);
  const { best, label } = argMaxOverTaps(
    b,
    axes,
    (tap, index) => {
      const values = elementAt(b, padded, axes, tap);
      const row = b.reshape(b.slice(weights, [index, 0], [index + 1, channels]), [channels]);
      return b.add(values, b.broadcastInDim(row, values.type.shape, [3]));
    },
    (_, index, shape) => b.splat(index, tensor(shape, "i32")),
  );
  return { axes, best, tap: label };
}

interface DilationInputs extends X {
  filter: Value;
}
interface DilationGradInputs extends DilationInputs {
  dy: Value;
}

lower(
  "Dilation2D",
  (b, { x, filter }: DilationInputs, attrs: DilationAttrs) => dilate(b, x, filter, attrs).best,
);

/** The part of dy whose maximum came from tap `index`. */
function from(b: Builder, dy: Value, tap: Value, index: number): Value {
  return b.select(b.compare("EQ", tap, b.like(index, tap)), dy, b.like(0, dy));
}

lower(
  "Dilation2DBackpropInput",
  (b, { x, filter, dy }: DilationGradInputs, attrs: DilationAttrs) => {
    const { axes, tap } = dilate(b, x, filter, attrs);
    const parts = taps(axes).map((offsets, index) =>
      spreadTo(b, from(b, dy, tap, index), axes, offsets)
    );
    return unpad(b, parts.reduce((sum, part) => b.add(sum, part)), axes);
  },
);

lower(
  "Dilation2DBackpropFilter",
  (b, { x, filter, dy }: DilationGradInputs, attrs: DilationAttrs) => {
    const { axes, tap } = dilate(b, x, filter, attrs);
    const zero = b.scalar(0, dy.type.dtype);
    const channels = filter.type.shape[2]!;
    const rows = taps(axes).map((_, index) =>
      b.reshape(b.reduce(from(b, dy, tap, index), zero, [0, 1, 2], "add"), [1, channels])
    );
    return b.reshape(b.concatenate(rows, 0), filter.type.shape);
  },
);
