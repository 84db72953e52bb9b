/**
 * `Builder`: a typed writer of one StableHLO function. Each method infers the result's type, checks
 * its operands (`HloError` names the op and the types) and appends one op. This file holds the ops
 * that compute across elements and the ones with regions: contractions, reductions, windows,
 * sorting, control flow, transforms.
 *
 * Non-goals: optimising (XLA does), broadcasting by NumPy's rules (the callers' business), dynamic
 * shapes.
 */
import { type Attributes, i64Array, operandsText } from "./emitter.ts";
import { dimension, MovementBuilder } from "./movement.ts";
import {
  type DType,
  HloError,
  sameType,
  tensor,
  type TensorType,
  typesText,
  typeText,
  type Value,
} from "./types.ts";

/** Combiners that reductions know by name. */
export type Reducer = "add" | "multiply" | "maximum" | "minimum" | "and" | "or";

export interface DotDimensions {
  lhsContracting: readonly number[];
  rhsContracting: readonly number[];
  lhsBatching?: readonly number[];
  rhsBatching?: readonly number[];
}

/** Low and high padding of each dimension. */
export type Padding = readonly (readonly [number, number])[];

export interface WindowOptions {
  dimensions: readonly number[];
  strides?: readonly number[];
  padding?: Padding;
  baseDilations?: readonly number[];
  windowDilations?: readonly number[];
}

/**
 * Layouts are strings with a letter a dimension: `b` batch, `f` feature, `i`/`o` kernel input/output
 * feature, digits spatial: `b01f`, `01io`.
 */
export interface ConvolutionOptions {
  input: string;
  kernel: string;
  output: string;
  strides: readonly number[];
  padding: Padding;
  inputDilations?: readonly number[];
  kernelDilations?: readonly number[];
  featureGroups?: number;
  batchGroups?: number;
}

export class Builder extends MovementBuilder {
  /** Contraction: batching dimensions first, then the free ones of `lhs`, then of `rhs`. `dtype` sets the result's (and the accumulator's) type. */
  dotGeneral(lhs: Value, rhs: Value, dims: DotDimensions, dtype: DType = lhs.type.dtype): Value {
    const [lb, rb] = [dims.lhsBatching ?? [], dims.rhsBatching ?? []];
    const [lc, rc] = [dims.lhsContracting, dims.rhsContracting];
    const agree = (a: readonly number[], c: readonly number[]) =>
      a.length === c.length &&
      a.every((axis, i) => dimension("dot_general", lhs, axis) === rhs.type.shape[c[i]!]);
    if (lhs.type.dtype !== rhs.type.dtype || !agree(lb, rb) || !agree(lc, rc)) {
      throw new HloError(
        `dot_general: ${typeText(lhs.type)} and ${
          typeText(rhs.type)
        }, batching [${lb}] x [${rb}], contracting [${lc}] x [${rc}]`,
      );
    }
    const free = (v: Value, used: readonly number[]) =>
      v.type.shape.filter((_, i) => !used.includes(i));
    const shape = [
      ...lb.map((i) => lhs.type.shape[i]!),
      ...free(lhs, [...lb, ...lc]),
      ...free(rhs, [...rb, ...rc]),
    ];
    const batching = lb.length === 0
      ? ""
      : ` batching_dims = [${lb.join(", ")}] x [${rb.join(", ")}],`;
    const result = tensor(shape, dtype);
    return this.short(
      `stablehlo.dot_general ${lhs.id}, ${rhs.id},${batching} contracting_dims = [${
        lc.join(", ")
      }] x [${rc.join(", ")}], precision = [DEFAULT, DEFAULT]`,
      `${typesText([lhs.type, rhs.type])} -> ${typeText(result)}`,
      result,
    );
  }

  /** Folds the dimensions `axes` away with a named combiner, from the scalar `init`. */
  reduce(x: Value, init: Value, axes: readonly number[], reducer: Reducer): Value {
    if (axes.length === 0) return x;
    const shape = withoutAxes("reduce", x, axes);
    const result = tensor(shape, x.type.dtype);
    return this.short(
      `stablehlo.reduce(${x.id} init: ${init.id}) applies stablehlo.${reducer} across dimensions = [${
        axes.join(", ")
      }]`,
      `${typesText([x.type, init.type])} -> ${typeText(result)}`,
      result,
    );
  }

  /** Folds several arrays of one shape at once: `combine(left..., right...)` returns as many scalars (argMax and the like). */
  reduceTogether(
    xs: readonly Value[],
    inits: readonly Value[],
    axes: readonly number[],
    combine: (left: Value[], right: Value[]) => Value[],
  ): Value[] {
    const scalars = xs.map((x) => tensor([], x.type.dtype));
    const { text } = this.region(
      [...scalars, ...scalars],
      (...args) => combine(args.slice(0, xs.length), args.slice(xs.length)),
    );
    const results = xs.map((x) => tensor(withoutAxes("reduce", x, axes), x.type.dtype));
    return this.generic("stablehlo.reduce", [...xs, ...inits], results, {
      properties: { dimensions: i64Array(axes) },
      regions: [text],
    });
  }

  /** Folds each window of `x`; one result element a window. */
  reduceWindow(x: Value, init: Value, window: WindowOptions, reducer: Reducer): Value {
    const full = completeWindow("reduce_window", x, window);
    const shape = x.type.shape.map((size, i) => windowCount(size, full, i));
    const { text } = this.region([init.type, init.type], (a, c) => [this.binary(reducer, a!, c!)]);
    return this.generic("stablehlo.reduce_window", [x, init], [tensor(shape, x.type.dtype)], {
      properties: {
        base_dilations: i64Array(full.baseDilations),
        padding: paddingText(full.padding),
        window_dilations: i64Array(full.windowDilations),
        window_dimensions: i64Array(full.dimensions),
        window_strides: i64Array(full.strides),
      },
      regions: [text],
    })[0]!;
  }

  /** Sends each element of `source` to the place in its window of `x` that `select` prefers (GE: first maximum), adding where windows overlap. */
  selectAndScatter(
    x: Value,
    source: Value,
    init: Value,
    window: WindowOptions,
    select: "GE" | "LE",
  ): Value {
    const full = completeWindow("select_and_scatter", x, window);
    const scalar = tensor([], x.type.dtype);
    const pick = this.region([scalar, scalar], (a, c) => [this.compare(select, a!, c!)]);
    const sum = this.region([scalar, scalar], (a, c) => [this.add(a!, c!)]);
    return this.generic("stablehlo.select_and_scatter", [x, source, init], [x.type], {
      properties: {
        padding: paddingText(full.padding),
        window_dimensions: i64Array(full.dimensions),
        window_strides: i64Array(full.strides),
      },
      regions: [pick.text, sum.text],
    })[0]!;
  }

  convolution(input: Value, kernel: Value, options: ConvolutionOptions): Value {
    const spatial = options.strides.map((_, i) => String(i));
    const ones = spatial.map(() => 1);
    const inputDilations = options.inputDilations ?? ones;
    const kernelDilations = options.kernelDilations ?? ones;
    const groups = options.featureGroups ?? 1;
    const batchGroups = options.batchGroups ?? 1;
    const size = (v: Value, layout: string, letter: string) =>
      dimension("convolution", v, layout.indexOf(letter));
    if (
      size(input, options.input, "f") !== size(kernel, options.kernel, "i") * groups ||
      input.type.dtype !== kernel.type.dtype
    ) {
      throw new HloError(
        `convolution: ${typeText(input.type)} [${options.input}] by ${
          typeText(kernel.type)
        } [${options.kernel}] in ${groups} feature groups`,
      );
    }
    const sizes: Record<string, number> = {
      b: size(input, options.input, "b") / batchGroups,
      f: size(kernel, options.kernel, "o"),
    };
    for (const [i, digit] of spatial.entries()) {
      const [low, high] = options.padding[i]!;
      const base = dilated(size(input, options.input, digit), inputDilations[i]!) + low + high;
      const window = dilated(size(kernel, options.kernel, digit), kernelDilations[i]!);
      sizes[digit] = base < window ? 0 : Math.floor((base - window) / options.strides[i]!) + 1;
    }
    const result = tensor([...options.output].map((letter) => sizes[letter]!), input.type.dtype);
    const layout = (letters: string) => `[${[...letters].join(", ")}]`;
    const padding = options.padding.map(([low, high]) => `[${low}, ${high}]`).join(", ");
    return this.short(
      `stablehlo.convolution(${input.id}, ${kernel.id}) ` +
        `dim_numbers = ${layout(options.input)}x${layout(options.kernel)}->${
          layout(options.output)
        }, ` +
        `window = {stride = [${options.strides.join(", ")}], pad = [${padding}], ` +
        `lhs_dilate = [${inputDilations.join(", ")}], rhs_dilate = [${
          kernelDilations.join(", ")
        }]} ` +
        `{batch_group_count = ${batchGroups} : i64, feature_group_count = ${groups} : i64}`,
      `${typesText([input.type, kernel.type])} -> ${typeText(result)}`,
      result,
    );
  }

  /** Sorts `xs` together along `axis`; `before(a, b)` gets one scalar pair per array: [a0, a1...], [b0, b1...]. */
  sort(
    xs: readonly Value[],
    axis: number,
    before: (a: Value[], b: Value[]) => Value,
    options: { stable?: boolean } = {},
  ): Value[] {
    const pairs = xs.flatMap((x) => [tensor([], x.type.dtype), tensor([], x.type.dtype)]);
    const { text } = this.region(pairs, (...args) => [
      before(args.filter((_, i) => i % 2 === 0), args.filter((_, i) => i % 2 === 1)),
    ]);
    return this.generic("stablehlo.sort", xs, xs.map((x) => x.type), {
      properties: { dimension: `${axis} : i64`, is_stable: String(options.stable ?? true) },
      regions: [text],
    });
  }

  /** The `k` largest of the last dimension in falling order, and their indices (i32); equal values in index order. */
  topK(x: Value, k: number): [values: Value, indices: Value] {
    const shape = x.type.shape.with(-1, k);
    const types = [tensor(shape, x.type.dtype), tensor(shape, "i32")];
    const both = this.multiple(
      `chlo.top_k(${x.id}, k = ${k})`,
      `${typeText(x.type)} -> ${typesText(types)}`,
      types,
    );
    return [both[0]!, both[1]!];
  }

  /** Runs `body` on the carried values as long as `condition` (one i1 scalar) holds. */
  while(
    init: readonly Value[],
    condition: (...carried: Value[]) => Value,
    body: (...carried: Value[]) => readonly Value[],
  ): Value[] {
    const types = init.map((v) => v.type);
    const test = this.region(types, (...carried) => [condition(...carried)]);
    const step = this.region(types, body);
    requireTypes("while: body returns", types, step.results);
    return this.generic("stablehlo.while", init, types, { regions: [test.text, step.text] });
  }

  /** The results of `onTrue` or `onFalse` by an i1 scalar; only the branch taken runs. */
  if(condition: Value, onTrue: () => readonly Value[], onFalse: () => readonly Value[]): Value[] {
    const branches = [this.region([], onTrue), this.region([], onFalse)];
    return this.#branch("stablehlo.if", condition, branches);
  }

  /** The results of branch `index` (i32 scalar; out of range means the last). */
  case(index: Value, branches: readonly (() => readonly Value[])[]): Value[] {
    return this.#branch("stablehlo.case", index, branches.map((branch) => this.region([], branch)));
  }

  /** Hides the operands' origin from the optimiser, so that what follows is not merged with what came before. */
  optimizationBarrier(values: readonly Value[]): Value[] {
    const types = values.map((v) => v.type);
    return this.multiple(
      `stablehlo.optimization_barrier ${operandsText(values)}`,
      types.map(typeText).join(", "),
      types,
    );
  }

  /** `x` laid out over the mesh `@mesh` as `sharding` says, such as `[{"data"}, {}]` (Shardy). */
  shardingConstraint(x: Value, sharding: string): Value {
    return this.short(
      `sdy.sharding_constraint ${x.id} <@mesh, ${sharding}>`,
      typeText(x.type),
      x.type,
    );
  }

  /** A call of a function the runtime knows by name. */
  customCall(
    target: string,
    operands: readonly Value[],
    results: readonly TensorType[],
    properties: Attributes = {},
  ): Value[] {
    return this.generic("stablehlo.custom_call", operands, results, {
      properties: { call_target_name: JSON.stringify(target), ...properties },
    });
  }

  /** Fourier transform over the last `lengths.length` dimensions; RFFT and IRFFT change the last one's size and the type. */
  fft(x: Value, type: "FFT" | "IFFT" | "RFFT" | "IRFFT", lengths: readonly number[]): Value {
    const last = lengths.at(-1)!;
    const shape = type === "RFFT"
      ? x.type.shape.with(-1, Math.floor(last / 2) + 1)
      : type === "IRFFT"
      ? x.type.shape.with(-1, last)
      : x.type.shape;
    const result = tensor(shape, type === "IRFFT" ? "f32" : "c64");
    return this.short(
      `stablehlo.fft ${x.id}, type = ${type}, length = [${lengths.join(", ")}]`,
      `${typesText([x.type])} -> ${typeText(result)}`,
      result,
    );
  }

  /** Cholesky factor of each matrix (last two dimensions); the other triangle is undefined. */
  cholesky(x: Value, lower: boolean): Value {
    return this.generic("stablehlo.cholesky", [x], [x.type], {
      properties: { lower: String(lower) },
    })[0]!;
  }

  /** X with op(A) X = B, or X op(A) = B when not `leftSide`. */
  triangularSolve(
    a: Value,
    rhs: Value,
    options: { leftSide: boolean; lower: boolean; unitDiagonal: boolean; transpose: boolean },
  ): Value {
    return this.generic("stablehlo.triangular_solve", [a, rhs], [rhs.type], {
      properties: {
        left_side: String(options.leftSide),
        lower: String(options.lower),
        transpose_a: `#stablehlo<transpose ${options.transpose ? "TRANSPOSE" : "NO_TRANSPOSE"}>`,
        unit_diagonal: String(options.unitDiagonal),
      },
    })[0]!;
  }

  #branch(
    op: string,
    index: Value,
    branches: readonly { text: string; results: readonly Value[] }[],
  ): Value[] {
    const types = branches[0]!.results.map((v) => v.type);
    for (const { results } of branches) requireTypes(`${op}: branch returns`, types, results);
    return this.generic(op, [index], types, { regions: branches.map((branch) => branch.text) });
  }
}

function requireTypes(
  what: string,
  expected: readonly TensorType[],
  found: readonly Value[],
): void {
  const same = expected.length === found.length &&
    expected.every((type, i) => sameType(type, found[i]!.type));
  if (!same) {
    throw new HloError(
      `${what} ${typesText(found.map((v) => v.type))}, must be ${typesText(expected)}`,
    );
  }
}

function withoutAxes(op: string, x: Value, axes: readonly number[]): number[] {
  for (const axis of axes) dimension(op, x, axis);
  return x.type.shape.filter((_, i) => !axes.includes(i));
}

function completeWindow(op: string, x: Value, window: WindowOptions): Required<WindowOptions> {
  const rank = x.type.shape.length;
  const ones = Array<number>(rank).fill(1);
  const full = {
    strides: ones,
    padding: ones.map((): [number, number] => [0, 0]),
    baseDilations: ones,
    windowDilations: ones,
    ...window,
  };
  if (Object.values(full).some((list) => list.length !== rank)) {
    throw new HloError(`${op}: window ${JSON.stringify(window)} for ${typeText(x.type)}`);
  }
  return full;
}

function dilated(size: number, dilation: number): number {
  return size === 0 ? 0 : (size - 1) * dilation + 1;
}

function windowCount(size: number, window: Required<WindowOptions>, i: number): number {
  const [low, high] = window.padding[i]!;
  const base = dilated(size, window.baseDilations[i]!) + low + high;
  const extent = dilated(window.dimensions[i]!, window.windowDilations[i]!);
  return base < extent ? 0 : Math.floor((base - extent) / window.strides[i]!) + 1;
}

function paddingText(padding: Padding): string {
  return `dense<[${
    padding.map(([low, high]) => `[${low}, ${high}]`).join(", ")
  }]> : tensor<${padding.length}x2xi64>`;
}
