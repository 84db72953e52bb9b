/** Kernels that move elements: shape, slices, joining and splitting, padding. */
import { tf } from "../tf.ts";
import { type Builder, sameShape, sizeOf, type Value } from "../hlo/mod.ts";
import { type KernelInputs, lower } from "./registry.ts";
import { axesOf, axisOf, broadcastTo, listOf, range, type X } from "./util.ts";

lower("Reshape", (b, { x }: X, { shape }: { shape: number[] }) => {
  return b.reshape(x, tf.util.inferFromImplicitShape(shape, sizeOf(x.type.shape)));
});

lower("ExpandDims", (b, { input }: { input: Value }, { dim }: { dim: number }) => {
  const shape = input.type.shape;
  return b.reshape(input, shape.toSpliced(axisOf(dim, shape.length + 1), 0, 1));
});

lower("Transpose", (b, { x }: X, { perm }: { perm: number[] }) => b.transpose(x, perm));

lower("BroadcastTo", (b, { x }: X, { shape }: { shape: number[] }) => broadcastTo(b, x, shape));

lower(
  "Slice",
  (b, { x }: X, { begin, size }: { begin: number | number[]; size: number | number[] }) => {
    const [starts, sizes] = tf.slice_util.parseSliceParams(
      { shape: [...x.type.shape] } as tf.Tensor,
      begin,
      size,
    );
    tf.slice_util.assertParamsValid({ shape: x.type.shape } as tf.Tensor, starts!, sizes!);
    return b.slice(x, starts!, starts!.map((start, i) => start + sizes![i]!));
  },
);

lower("StridedSlice", (b, { x }: X, attrs: tf.StridedSliceAttrs) => {
  const info = tf.slice_util.sliceInfo(
    [...x.type.shape],
    attrs.begin,
    attrs.end,
    attrs.strides,
    attrs.beginMask,
    attrs.endMask,
    attrs.ellipsisMask,
    attrs.newAxisMask,
    attrs.shrinkAxisMask,
  );
  // An empty range comes out as -0.
  const size = tf.slice_util.computeOutShape(info.begin, info.end, info.strides).map((n) => n + 0);
  // XLA's strides are positive: where one is negative, slice what it visits, then turn it round.
  const reversed = range(size.length).filter((i) => info.strides[i]! < 0);
  const first = size.map((n, i) =>
    info.strides[i]! < 0 ? info.begin[i]! + (n - 1) * info.strides[i]! : info.begin[i]!
  );
  const steps = info.strides.map(Math.abs);
  const empty = size.some((n) => n === 0);
  const starts = empty ? size.map(() => 0) : first;
  const limits = empty ? size : first.map((start, i) => start + (size[i]! - 1) * steps[i]! + 1);
  return b.reshape(
    b.reverse(b.slice(x, starts, limits, steps), reversed),
    info.finalShape.map((n) => n + 0),
  );
});

lower("Concat", (b, inputs: KernelInputs, { axis }: { axis: number }) => {
  const values = listOf(inputs);
  const at = axisOf(axis, values[0]!.type.shape.length);
  tf.backend_util.assertParamsConsistent(values.map((v) => [...v.type.shape]), at);
  // An empty tensor may join any concat, whatever its other sizes.
  const filled = values.filter((v) => sizeOf(v.type.shape) > 0);
  return b.concatenate(filled.length === 0 ? values : filled, at);
});

lower("Pack", (b, inputs: KernelInputs, { axis }: { axis: number }) => {
  const values = listOf(inputs);
  const shape = values[0]!.type.shape;
  const at = axisOf(axis, shape.length + 1);
  for (const { type } of values) {
    if (!sameShape(type.shape, shape)) {
      throw new Error("All tensors passed to stack must have matching shapes");
    }
  }
  return b.concatenate(values.map((v) => b.reshape(v, shape.toSpliced(at, 0, 1))), at);
});

lower("Unpack", (b, { value }: { value: Value }, { axis }: { axis: number }) => {
  const shape = value.type.shape;
  const at = axisOf(axis, shape.length);
  return range(shape[at]!).map((i) =>
    b.reshape(cut(b, value, at, i, i + 1), shape.toSpliced(at, 1))
  );
});

lower(
  "SplitV",
  (
    b,
    { x }: X,
    { numOrSizeSplits, axis }: { numOrSizeSplits: number | number[]; axis: number },
  ) => {
    const at = axisOf(axis, x.type.shape.length);
    const sizes = tf.backend_util.prepareSplitSize(
      { shape: x.type.shape } as tf.Tensor,
      numOrSizeSplits,
      at,
    );
    let start = 0;
    return sizes.map((size) => cut(b, x, at, start, start += size));
  },
);

lower("Tile", (b, { x }: X, { reps }: { reps: number[] }) => {
  const shape = x.type.shape;
  // [n] repeated r times is [r, n] broadcast from [n] and flattened.
  const spread = shape.flatMap((size, i) => [reps[i]!, size]);
  const wide = b.broadcastInDim(x, spread, shape.map((_, i) => 2 * i + 1));
  return b.reshape(wide, shape.map((size, i) => size * reps[i]!));
});

lower(
  "PadV2",
  (
    b,
    { x }: X,
    { paddings, constantValue }: { paddings: [number, number][]; constantValue: number },
  ) =>
    b.pad(
      x,
      b.scalar(constantValue, x.type.dtype),
      paddings.map((p) => p[0]),
      paddings.map((p) => p[1]),
    ),
);

lower(
  "MirrorPad",
  (
    b,
    { x }: X,
    { paddings, mode }: { paddings: [number, number][]; mode: "reflect" | "symmetric" },
  ) => {
    const skip = mode === "reflect" ? 1 : 0;
    return paddings.reduce((value, [before, after], axis) => {
      const size = value.type.shape[axis]!;
      const low = b.reverse(cut(b, value, axis, skip, skip + before), [axis]);
      const high = b.reverse(cut(b, value, axis, size - skip - after, size - skip), [axis]);
      const parts = [low, value, high].filter((v) => v.type.shape[axis]! > 0);
      return parts.length === 0 ? value : b.concatenate(parts, axis);
    }, x);
  },
);

lower(
  "Reverse",
  (b, { x }: X, { dims }: { dims: number | number[] }) =>
    b.reverse(x, axesOf(dims, x.type.shape.length)),
);

lower("Diag", (b, { x }: X) => {
  const n = sizeOf(x.type.shape);
  const flat = b.reshape(x, [n]);
  const wide = b.broadcastInDim(flat, [n, n], [0]);
  const diagonal = b.compare("EQ", b.iota([n, n], "i32", 0), b.iota([n, n], "i32", 1));
  return b.reshape(b.select(diagonal, wide, b.like(0, wide)), [...x.type.shape, ...x.type.shape]);
});

interface BlockAttrs {
  blockShape: number[];
}

lower(
  "BatchToSpaceND",
  (b, { x }: X, { blockShape, crops }: BlockAttrs & { crops: number[][] }) => {
    const shape = [...x.type.shape];
    const prod = sizeOf(blockShape);
    const reshaped = tf.backend_util.getReshaped(shape, blockShape, prod);
    const permuted = tf.backend_util.getPermuted(reshaped.length, blockShape.length);
    const joined = tf.backend_util.getReshapedPermuted(shape, blockShape, prod);
    const whole = b.reshape(b.transpose(b.reshape(x, reshaped), permuted), joined);
    const cropped = (i: number) => crops[i - 1] ?? [0, 0];
    return b.slice(
      whole,
      joined.map((_, i) => cropped(i)[0]!),
      joined.map((n, i) => n - cropped(i)[1]!),
    );
  },
);

lower(
  "SpaceToBatchND",
  (b, { x }: X, { blockShape, paddings }: BlockAttrs & { paddings: number[][] }) => {
    const rank = x.type.shape.length;
    const full = [[0, 0], ...paddings, ...Array(rank - 1 - blockShape.length).fill([0, 0])] as [
      number,
      number,
    ][];
    const padded = b.pad(
      x,
      b.scalar(0, x.type.dtype),
      full.map((p) => p[0]),
      full.map((p) => p[1]),
    );
    const prod = sizeOf(blockShape);
    const shape = [...padded.type.shape];
    const reshaped = tf.backend_util.getReshaped(shape, blockShape, prod, false);
    const permuted = tf.backend_util.getPermuted(reshaped.length, blockShape.length, false);
    const joined = tf.backend_util.getReshapedPermuted(shape, blockShape, prod, false);
    return b.reshape(b.transpose(b.reshape(padded, reshaped), permuted), joined);
  },
);

lower(
  "DepthToSpace",
  (b, { x }: X, { blockSize, dataFormat }: { blockSize: number; dataFormat: string }) => {
    const nhwc = dataFormat === "NHWC";
    const [n, h, w, c] = (nhwc ? [0, 1, 2, 3] : [0, 2, 3, 1]).map((i) => x.type.shape[i]!) as [
      number,
      number,
      number,
      number,
    ];
    const depth = c / (blockSize * blockSize);
    if (nhwc) {
      const blocks = b.reshape(x, [n, h, w, blockSize, blockSize, depth]);
      return b.reshape(b.transpose(blocks, [0, 1, 3, 2, 4, 5]), [
        n,
        h * blockSize,
        w * blockSize,
        depth,
      ]);
    }
    const blocks = b.reshape(x, [n, blockSize, blockSize, depth, h, w]);
    return b.reshape(b.transpose(blocks, [0, 3, 4, 1, 5, 2]), [
      n,
      depth,
      h * blockSize,
      w * blockSize,
    ]);
  },
);

/** Elements start..limit of one axis. */
function cut(b: Builder, x: Value, axis: number, start: number, limit: number): Value {
  const { shape } = x.type;
  return b.slice(
    x,
    shape.map((_, i) => i === axis ? start : 0),
    shape.map((size, i) => i === axis ? limit : size),
  );
}
