/**
 * StableHLO ops that move elements without computing on them: shape, layout, slices, gather and
 * scatter (scatter combines where several updates meet).
 */
import { i64Array, operandsText } from "./emitter.ts";
import { PointwiseBuilder } from "./pointwise.ts";
import {
  type DType,
  HloError,
  sameShape,
  sizeOf,
  tensor,
  type TensorType,
  typesText,
  typeText,
  type Value,
} from "./types.ts";

/** How `gather` reads: see the StableHLO specification; absent lists are empty. */
export interface GatherDimensions {
  offsetDims: readonly number[];
  collapsedSliceDims: readonly number[];
  startIndexMap: readonly number[];
  indexVectorDim: number;
  operandBatchingDims?: readonly number[];
  startIndicesBatchingDims?: readonly number[];
}

/** How `scatter` writes. */
export interface ScatterDimensions {
  updateWindowDims: readonly number[];
  insertedWindowDims: readonly number[];
  scatterDimsToOperandDims: readonly number[];
  indexVectorDim: number;
  inputBatchingDims?: readonly number[];
  scatterIndicesBatchingDims?: readonly number[];
}

export class MovementBuilder extends PointwiseBuilder {
  /** The same elements in row-major order under another shape; the same shape costs nothing. */
  reshape(x: Value, shape: readonly number[]): Value {
    if (sameShape(x.type.shape, shape)) return x;
    if (sizeOf(x.type.shape) !== sizeOf(shape)) {
      throw new HloError(`reshape: ${typeText(x.type)} has not the elements of shape [${shape}]`);
    }
    return this.#oneToOne(`stablehlo.reshape ${x.id}`, x, tensor(shape, x.type.dtype));
  }

  /** Dimension i of the result is dimension `permutation[i]` of `x`; the identity costs nothing. */
  transpose(x: Value, permutation: readonly number[]): Value {
    if (permutation.every((axis, i) => axis === i)) return x;
    const shape = permutation.map((axis) => dimension("transpose", x, axis));
    if (new Set(permutation).size !== x.type.shape.length) {
      throw new HloError(
        `transpose: [${permutation}] is no permutation of the axes of ${typeText(x.type)}`,
      );
    }
    return this.#oneToOne(
      `stablehlo.transpose ${x.id}, dims = [${permutation.join(", ")}]`,
      x,
      tensor(shape, x.type.dtype),
    );
  }

  /** Dimension i of `x` becomes dimension `dims[i]` of the result; sizes match or are 1. */
  broadcastInDim(x: Value, shape: readonly number[], dims: readonly number[]): Value {
    const fits = dims.length === x.type.shape.length &&
      dims.every((d, i) => x.type.shape[i] === 1 || x.type.shape[i] === shape[d]);
    if (!fits) {
      throw new HloError(`broadcast_in_dim: ${typeText(x.type)} to [${shape}] by dims [${dims}]`);
    }
    if (sameShape(x.type.shape, shape) && dims.every((d, i) => d === i)) return x;
    return this.#oneToOne(
      `stablehlo.broadcast_in_dim ${x.id}, dims = [${dims.join(", ")}]`,
      x,
      tensor(shape, x.type.dtype),
    );
  }

  /** 0, 1, 2, ... along `axis`. */
  iota(shape: readonly number[], dtype: DType, axis: number): Value {
    const type = tensor(shape, dtype);
    if (shape[axis] === undefined) throw new HloError(`iota: no dimension ${axis} in [${shape}]`);
    return this.short(`stablehlo.iota dim = ${axis}`, typeText(type), type);
  }

  /** Elements `starts[i] <= index < limits[i]`, every `strides[i]`-th; all of `x` costs nothing. */
  slice(
    x: Value,
    starts: readonly number[],
    limits: readonly number[],
    strides?: readonly number[],
  ): Value {
    const step = strides ?? starts.map(() => 1);
    const shape = x.type.shape.map((size, i) => {
      const [start, limit] = [starts[i], limits[i]];
      if (
        start === undefined || limit === undefined || start < 0 || limit > size || start > limit ||
        step[i]! < 1
      ) {
        throw new HloError(
          `slice: [${starts}] to [${limits}] by [${step}] is not within ${typeText(x.type)}`,
        );
      }
      return Math.ceil((limit - start) / step[i]!);
    });
    if (sameShape(shape, x.type.shape)) return x;
    const ranges = shape.map((_, i) =>
      `${starts[i]}:${limits[i]}${step[i] === 1 ? "" : `:${step[i]}`}`
    );
    return this.#oneToOne(
      `stablehlo.slice ${x.id} [${ranges.join(", ")}]`,
      x,
      tensor(shape, x.type.dtype),
    );
  }

  /** A window of `sizes` at run-time `starts` (integer scalars, clamped so that the window fits). */
  dynamicSlice(x: Value, starts: readonly Value[], sizes: readonly number[]): Value {
    if (
      starts.length !== x.type.shape.length ||
      sizes.some((size, i) => size > (x.type.shape[i] ?? -1))
    ) {
      throw new HloError(
        `dynamic_slice: ${starts.length} starts and sizes [${sizes}] for ${typeText(x.type)}`,
      );
    }
    const result = tensor(sizes, x.type.dtype);
    const operands = [x, ...starts];
    return this.short(
      `stablehlo.dynamic_slice ${operandsText(operands)}, sizes = [${sizes.join(", ")}]`,
      `${typesText(operands.map((v) => v.type))} -> ${typeText(result)}`,
      result,
    );
  }

  /** `x` with `update` written at run-time `starts`, clamped so that the update fits. */
  dynamicUpdateSlice(x: Value, update: Value, starts: readonly Value[]): Value {
    const fits = starts.length === x.type.shape.length && update.type.dtype === x.type.dtype &&
      update.type.shape.length === starts.length &&
      update.type.shape.every((size, i) => size <= x.type.shape[i]!);
    if (!fits) {
      throw new HloError(
        `dynamic_update_slice: ${typeText(update.type)} at ${starts.length} starts into ${
          typeText(x.type)
        }`,
      );
    }
    const operands = [x, update, ...starts];
    return this.short(
      `stablehlo.dynamic_update_slice ${operandsText(operands)}`,
      `${typesText(operands.map((v) => v.type))} -> ${typeText(x.type)}`,
      x.type,
    );
  }

  /** Pads with the scalar `value`: `low` before, `high` after (negative crops), `interior` between elements. */
  pad(
    x: Value,
    value: Value,
    low: readonly number[],
    high: readonly number[],
    interior?: readonly number[],
  ): Value {
    const between = interior ?? low.map(() => 0);
    if ([...low, ...high, ...between].every((amount) => amount === 0)) return x;
    if (value.type.dtype !== x.type.dtype || value.type.shape.length !== 0) {
      throw new HloError(
        `pad: value is ${typeText(value.type)}, must be a scalar of ${typeText(x.type)}`,
      );
    }
    const shape = x.type.shape.map((size, i) =>
      low[i]! + size + Math.max(size - 1, 0) * between[i]! + high[i]!
    );
    const result = tensor(shape, x.type.dtype);
    const list = (name: string, values: readonly number[]) => `${name} = [${values.join(", ")}]`;
    return this.short(
      `stablehlo.pad ${x.id}, ${value.id}, ${list("low", low)}, ${list("high", high)}, ${
        list("interior", between)
      }`,
      `${typesText([x.type, value.type])} -> ${typeText(result)}`,
      result,
    );
  }

  concatenate(values: readonly Value[], axis: number): Value {
    const first = values[0];
    if (first === undefined) throw new HloError("concatenate: no operands");
    if (values.length === 1) return first;
    for (const { type } of values) {
      const fits = type.dtype === first.type.dtype &&
        type.shape.length === first.type.shape.length &&
        type.shape.every((size, i) => i === axis || size === first.type.shape[i]);
      if (!fits) {
        throw new HloError(
          `concatenate: ${typeText(type)} does not follow ${
            typeText(first.type)
          } along axis ${axis}`,
        );
      }
    }
    const total = values.reduce((sum, v) => sum + dimension("concatenate", v, axis), 0);
    const result = tensor(first.type.shape.with(axis, total), first.type.dtype);
    return this.short(
      `stablehlo.concatenate ${operandsText(values)}, dim = ${axis}`,
      `${typesText(values.map((v) => v.type))} -> ${typeText(result)}`,
      result,
    );
  }

  reverse(x: Value, axes: readonly number[]): Value {
    if (axes.length === 0) return x;
    return this.short(
      `stablehlo.reverse ${x.id}, dims = [${axes.join(", ")}]`,
      typeText(x.type),
      x.type,
    );
  }

  /** Windows of `sliceSizes` at the (clamped) start indices. */
  gather(x: Value, indices: Value, sliceSizes: readonly number[], dims: GatherDimensions): Value {
    const batching = dims.operandBatchingDims ?? [];
    const batch = indices.type.shape.filter((_, i) => i !== dims.indexVectorDim);
    const offsets = sliceSizes.filter((_, i) =>
      !dims.collapsedSliceDims.includes(i) && !batching.includes(i)
    );
    if (offsets.length !== dims.offsetDims.length || sliceSizes.length !== x.type.shape.length) {
      throw new HloError(
        `gather: slice sizes [${sliceSizes}] of ${
          typeText(x.type)
        } for offset dims [${dims.offsetDims}]`,
      );
    }
    const shape = Array.from({ length: batch.length + offsets.length }, (_, d) => {
      const offset = dims.offsetDims.indexOf(d);
      return offset < 0
        ? batch[d - dims.offsetDims.filter((o) => o < d).length]!
        : offsets[offset]!;
    });
    const numbers = attributes("stablehlo.gather", {
      offset_dims: dims.offsetDims,
      collapsed_slice_dims: dims.collapsedSliceDims,
      operand_batching_dims: batching,
      start_indices_batching_dims: dims.startIndicesBatchingDims ?? [],
      start_index_map: dims.startIndexMap,
    }, dims.indexVectorDim);
    return this.generic("stablehlo.gather", [x, indices], [tensor(shape, x.type.dtype)], {
      properties: {
        dimension_numbers: numbers,
        indices_are_sorted: "false",
        slice_sizes: i64Array(sliceSizes),
      },
    })[0]!;
  }

  /**
   * `x` with windows of `updates` combined in at the scatter indices (out-of-range windows are
   * skipped). `combine(old, update)` must be associative where indices repeat.
   */
  scatter(
    x: Value,
    indices: Value,
    updates: Value,
    dims: ScatterDimensions,
    combine: (old: Value, update: Value) => Value,
    options: { uniqueIndices?: boolean; indicesAreSorted?: boolean } = {},
  ): Value {
    if (x.type.dtype !== updates.type.dtype) {
      throw new HloError(`scatter: ${typeText(updates.type)} into ${typeText(x.type)}`);
    }
    const numbers = attributes("stablehlo.scatter", {
      update_window_dims: dims.updateWindowDims,
      inserted_window_dims: dims.insertedWindowDims,
      input_batching_dims: dims.inputBatchingDims ?? [],
      scatter_indices_batching_dims: dims.scatterIndicesBatchingDims ?? [],
      scatter_dims_to_operand_dims: dims.scatterDimsToOperandDims,
    }, dims.indexVectorDim);
    const scalar: TensorType = tensor([], x.type.dtype);
    const { text } = this.region([scalar, scalar], (old, update) => [combine(old!, update!)]);
    return this.generic("stablehlo.scatter", [x, indices, updates], [x.type], {
      properties: {
        indices_are_sorted: String(options.indicesAreSorted ?? false),
        scatter_dimension_numbers: numbers,
        unique_indices: String(options.uniqueIndices ?? false),
      },
      regions: [text],
    })[0]!;
  }

  #oneToOne(text: string, x: Value, result: TensorType): Value {
    return this.short(text, `${typesText([x.type])} -> ${typeText(result)}`, result);
  }
}

/** Size of dimension `axis`, or an error that names the op. */
export function dimension(op: string, x: Value, axis: number): number {
  const size = x.type.shape[axis];
  if (size === undefined) throw new HloError(`${op}: no dimension ${axis} in ${typeText(x.type)}`);
  return size;
}

function attributes(
  name: string,
  lists: Readonly<Record<string, readonly number[]>>,
  indexVectorDim: number,
): string {
  const parts = Object.entries(lists).filter(([, list]) => list.length > 0).map(([key, list]) =>
    `${key} = [${list.join(", ")}]`
  );
  return `#${name}<${[...parts, `index_vector_dim = ${indexVectorDim}`].join(", ")}>`;
}
