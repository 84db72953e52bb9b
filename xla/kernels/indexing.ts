/**
 * Gather, scatter, segments, counting, searching. Indices outside the operand are clamped when
 * reading and dropped when writing, where tfjs's cpu kernels throw: a compiled program cannot.
 */
import { tf } from "../tf.ts";
import { type Builder, sizeOf, tensor, type Value } from "../hlo/mod.ts";
import { lower } from "./registry.ts";
import { axisOf, broadcastTo, range, type X } from "./util.ts";

/** As tfjs's own checks want it. */
const shapeOf = (x: Value) => ({ shape: [...x.type.shape] }) as tf.Tensor;

interface GatherAttrs {
  axis: number;
  batchDims: number;
}

lower(
  "GatherV2",
  (b, { x, indices }: { x: Value; indices: Value }, { axis, batchDims }: GatherAttrs) => {
    const rank = x.type.shape.length;
    const at = axisOf(axis, rank);
    tf.backend_util.segment_util.collectGatherOpShapeInfo(
      shapeOf(x),
      shapeOf(indices),
      at,
      batchDims ?? 0,
    );
    const batch = axisOf(batchDims ?? 0, indices.type.shape.length);
    const indexRank = indices.type.shape.length;
    const batching = range(batch);
    // Result: x's dimensions before the axis, the index dimensions after the batch, x's after the axis.
    const offsetDims = range(rank).filter((i) => i >= batch && i !== at).map((i) =>
      i < at ? i : i - 1 + indexRank - batch
    );
    return b.gather(
      x,
      b.convert(indices, "i32"),
      x.type.shape.map((size, i) => i === at || i < batch ? 1 : size),
      {
        offsetDims: offsetDims,
        collapsedSliceDims: [at],
        startIndexMap: [at],
        indexVectorDim: indexRank,
        operandBatchingDims: batching,
        startIndicesBatchingDims: batching,
      },
    );
  },
);

lower("GatherNd", (b, { params, indices }: { params: Value; indices: Value }) => {
  const depth = indices.type.shape.at(-1)!;
  const indexRank = indices.type.shape.length;
  const rank = params.type.shape.length;
  return b.gather(
    params,
    b.convert(indices, "i32"),
    params.type.shape.map((size, i) => i < depth ? 1 : size),
    {
      offsetDims: range(rank - depth).map((i) => indexRank - 1 + i),
      collapsedSliceDims: range(depth),
      startIndexMap: range(depth),
      indexVectorDim: indexRank - 1,
    },
  );
});

/** Writes (or adds) update slices at the index tuples in the last dimension of `indices`. */
function scatterNd(
  b: Builder,
  base: Value,
  indices: Value,
  updates: Value,
  combine: (old: Value, update: Value) => Value,
): Value {
  // A vector of indices holds one-element tuples.
  const depth = indices.type.shape.length > 1 ? indices.type.shape.at(-1)! : 1;
  const count = depth === 0 ? 1 : sizeOf(indices.type.shape) / depth;
  const tuples = b.reshape(b.convert(indices, "i32"), [count, depth]);
  const window = base.type.shape.slice(depth);
  const wide = broadcastTo(
    b,
    b.convert(updates, base.type.dtype),
    updates.type.shape.length === 0 ? [count, ...window] : updates.type.shape,
  );
  return b.scatter(base, tuples, b.reshape(wide, [count, ...window]), {
    updateWindowDims: range(window.length).map((i) => i + 1),
    insertedWindowDims: range(depth),
    scatterDimsToOperandDims: range(depth),
    indexVectorDim: 1,
  }, combine);
}

lower(
  "ScatterNd",
  (b, { indices, updates }: { indices: Value; updates: Value }, { shape }: { shape: number[] }) => {
    const base = b.splat(0, tensor(shape, updates.type.dtype));
    return scatterNd(b, base, indices, updates, (old, update) => b.add(old, update));
  },
);

lower(
  "TensorScatterUpdate",
  (b, inputs: { tensor: Value; indices: Value; updates: Value }) =>
    scatterNd(b, inputs.tensor, inputs.indices, inputs.updates, (_, update) => update),
);

interface SparseToDenseInputs {
  sparseIndices: Value;
  sparseValues: Value;
  defaultValue: Value;
}

lower(
  "SparseToDense",
  (b, inputs: SparseToDenseInputs, { outputShape }: { outputShape: number[] }) => {
    const { sparseIndices: indices, sparseValues } = inputs;
    const base = broadcastTo(
      b,
      b.convert(inputs.defaultValue, sparseValues.type.dtype),
      outputShape,
    );
    // A vector of indices is a list of places in a vector.
    const rank = indices.type.shape.length;
    const tuples = rank === 2
      ? indices
      : b.reshape(indices, [sizeOf(indices.type.shape) / outputShape.length, outputShape.length]);
    return scatterNd(b, base, tuples, sparseValues, (_, update) => update);
  },
);

/** Row n of `x` is added to row segmentIds[n]; ids outside 0..numSegments-1 are dropped. */
lower(
  "UnsortedSegmentSum",
  (
    b,
    { x, segmentIds }: { x: Value; segmentIds: Value },
    { numSegments }: { numSegments: number },
  ) => {
    const ids = segmentIds.type.shape;
    const window = x.type.shape.slice(ids.length);
    const accumulate = x.type.dtype === "bf16"
      ? b.convert(x, "f32")
      : x.type.dtype === "i1"
      ? b.convert(x, "i32")
      : x;
    const rows = b.reshape(accumulate, [sizeOf(ids), ...window]);
    const base = b.splat(0, tensor([numSegments, ...window], accumulate.type.dtype));
    const sum = scatterNd(
      b,
      base,
      b.reshape(segmentIds, [sizeOf(ids), 1]),
      rows,
      (old, update) => b.add(old, update),
    );
    return x.type.dtype === "bf16" ? b.convert(sum, "bf16") : sum;
  },
);

/** Sums of weights (or counts, without weights) by value; values outside 0..size-1 are dropped. */
function binCount(
  b: Builder,
  x: Value,
  weights: Value,
  size: number,
  rows: number,
  binary: boolean,
): Value {
  const columns = sizeOf(x.type.shape) / rows;
  const dtype = weights.type.dtype;
  const values = b.reshape(b.convert(x, "i32"), [rows, columns]);
  const row = b.iota([rows, columns], "i32", 0);
  const tuples = b.reshape(
    b.concatenate([b.reshape(row, [rows * columns, 1]), b.reshape(values, [rows * columns, 1])], 1),
    [rows * columns, 2],
  );
  const weighted = sizeOf(weights.type.shape) > 0 && !binary;
  const updates = weighted
    ? b.reshape(weights, [rows * columns])
    : b.splat(1, tensor([rows * columns], dtype));
  const base = b.splat(0, tensor([rows, size], dtype));
  const counts = scatterNd(
    b,
    base,
    tuples,
    updates,
    (old, update) => binary ? update : b.add(old, update),
  );
  return counts;
}

interface BinCountInputs extends X {
  weights: Value;
}

lower(
  "Bincount",
  (b, { x, weights }: BinCountInputs, { size }: { size: number }) =>
    b.reshape(binCount(b, x, weights, size, 1, false), [size]),
);

lower(
  "DenseBincount",
  (
    b,
    { x, weights }: BinCountInputs,
    { size, binaryOutput }: { size: number; binaryOutput?: boolean },
  ) =>
    x.type.shape.length === 2
      ? binCount(b, x, weights, size, x.type.shape[0]!, binaryOutput === true)
      // tfjs ignores binaryOutput for a vector.
      : b.reshape(binCount(b, x, weights, size, 1, false), [size]),
);

interface SearchInputs {
  sortedSequence: Value;
  values: Value;
}

/** How many of the row's elements lie below each value (or not above it, on the right side). */
lower(
  "SearchSorted",
  (b, { sortedSequence, values }: SearchInputs, { side }: { side: "left" | "right" }) => {
    const [rows, length] = sortedSequence.type.shape as [number, number];
    const shape = [rows, values.type.shape[1]!, length];
    const sequence = b.broadcastInDim(sortedSequence, shape, [0, 2]);
    const wanted = b.broadcastInDim(b.convert(values, sortedSequence.type.dtype), shape, [0, 1]);
    const below = b.convert(b.compare(side === "left" ? "LT" : "LE", sequence, wanted), "i32");
    return b.reduce(below, b.scalar(0, "i32"), [2], "add");
  },
);
