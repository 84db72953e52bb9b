/**
 * Tensor operations beside tfjs's own: slices at positions known only on the device, stop-gradient and
 * the compute dtype. Each has a gradient and runs on every backend.
 */
import { tf } from "./tf.ts";
import { activeCore, type Core } from "./core.ts";
import { type Mesh, meshOf, shardingOf, type Spec } from "./mesh.ts";
import { keepingTape } from "./tape.ts";

type Start = number | tf.Tensor;

function checkStarts(action: string, x: tf.Tensor, starts: readonly Start[]): void {
  if (starts.length !== x.rank) {
    throw new RangeError(
      `${action} of shape [${x.shape}] needs ${x.rank} starts, found ${starts.length}`,
    );
  }
}

/** Start indices on the host, clamped as XLA clamps them: the window always lies inside. */
function hostStarts(starts: readonly Start[], shape: number[], sizes: readonly number[]): number[] {
  return starts.map((start, i) => {
    const value = typeof start === "number" ? start : start.dataSync()[0]!;
    return Math.max(0, Math.min(value, shape[i]! - sizes[i]!));
  });
}

/** Starts as int32 scalar tensors for the device kernels. */
function scalarStarts(starts: readonly Start[]): tf.Tensor[] {
  return starts.map((start) => {
    const scalar = typeof start === "number" ? tf.scalar(start, "int32") : start;
    return scalar.rank === 0 ? scalar : tf.reshape(scalar, []);
  });
}

function named(starts: readonly tf.Tensor[]): Record<string, tf.Tensor> {
  return Object.fromEntries(starts.map((start, i) => [`start${i}`, start]));
}

/** Positions have no derivative; tfjs wants a number for each all the same. */
function noGradients(starts: readonly tf.Tensor[]): tf.Tensor[] {
  return starts.map(() => tf.scalar(0));
}

/**
 * A kernel of the xla backend with its gradient. `gradients` gets dy and the inputs that `saves` names,
 * and returns a gradient for every input.
 */
function differentiable(
  core: Core,
  kernel: string,
  inputs: Record<string, tf.Tensor>,
  attrs: Record<string, unknown>,
  saves: readonly string[],
  gradients: (dy: tf.Tensor, saved: tf.Tensor[]) => tf.Tensor[],
): tf.Tensor {
  const names = Object.keys(inputs);
  const run = tf.customGrad((...args) => {
    const save = args.pop() as unknown as tf.GradSaveFunc;
    const named = Object.fromEntries(names.map((name, i) => [name, args[i] as tf.Tensor]));
    save(saves.map((name) => named[name]!));
    return { value: core.run(kernel, named, attrs), gradFunc: gradients };
  });
  return run(...Object.values(inputs));
}

/**
 * The window of `sizes` that begins at `starts`. Starts may be int32 scalars computed on the device and
 * are clamped so that the window lies inside (StableHLO dynamic_slice).
 */
export function dynamicSlice<T extends tf.Tensor>(
  x: T,
  starts: readonly Start[],
  sizes: readonly number[],
): T {
  checkStarts("dynamicSlice", x, starts);
  if (sizes.length !== x.rank || sizes.some((size, i) => size < 0 || size > x.shape[i]!)) {
    throw new RangeError(`dynamicSlice: sizes [${sizes}] do not fit shape [${x.shape}]`);
  }
  return tf.tidy(() => {
    const core = activeCore();
    if (core === undefined || starts.every((start) => typeof start === "number")) {
      return tf.slice(x, hostStarts(starts, x.shape, sizes), [...sizes]) as T;
    }
    const at = named(scalarStarts(starts));
    return differentiable(
      core,
      "DynamicSlice",
      { x, ...at },
      { sizes: [...sizes] },
      Object.keys(at),
      (dy, saved) => [dynamicUpdateSlice(tf.zeros(x.shape), dy, saved), ...noGradients(saved)],
    ) as T;
  });
}

/**
 * `x` with the window at `starts` replaced by `update` (same rank, no larger than `x`). Starts are
 * clamped (StableHLO dynamic_update_slice). In a compiled loop or with a donated `x` it happens in place.
 */
export function dynamicUpdateSlice<T extends tf.Tensor>(
  x: T,
  update: tf.Tensor,
  starts: readonly Start[],
): T {
  checkStarts("dynamicUpdateSlice", x, starts);
  if (update.rank !== x.rank || update.shape.some((size, i) => size > x.shape[i]!)) {
    throw new RangeError(
      `dynamicUpdateSlice: an update of shape [${update.shape}] does not fit shape [${x.shape}]`,
    );
  }
  if (update.dtype !== x.dtype) {
    throw new TypeError(`dynamicUpdateSlice: update is ${update.dtype}, the tensor ${x.dtype}`);
  }
  return tf.tidy(() => {
    const core = activeCore();
    if (core !== undefined) {
      const at = named(scalarStarts(starts));
      const size = update.shape;
      return differentiable(
        core,
        "DynamicUpdateSlice",
        { x, update, ...at },
        {},
        Object.keys(at),
        (dy, saved) => [
          dynamicUpdateSlice(dy, tf.zeros(size), saved),
          dynamicSlice(dy, saved, size),
          ...noGradients(saved),
        ],
      ) as T;
    }
    const begin = hostStarts(starts, x.shape, update.shape);
    const padding = begin.map((b, i) =>
      [b, x.shape[i]! - b - update.shape[i]!] as [number, number]
    );
    if (x.rank === 0) return tf.clone(update) as T;
    const inside = tf.pad(tf.onesLike(update).toInt(), padding).toBool();
    const placed = tf.pad(update, padding);
    return tf.where(inside, placed, x) as T;
  });
}

/** `x`, through which no gradient flows. */
export function stopGradient<T extends tf.Tensor>(x: T): T {
  const identity = tf.customGrad((input) => ({
    value: tf.clone(input as tf.Tensor),
    gradFunc: (dy: tf.Tensor) => [tf.zerosLike(dy)],
  }));
  return identity(x) as T;
}

/**
 * `x` in the dtype to compute with. A bfloat16 tensor keeps tfjs dtype float32 outside and reads back as
 * float32; its gradient is cast back to the dtype of `x`. Backends without bfloat16 compute in float32.
 */
export function asType<T extends tf.Tensor>(x: T, dtype: "bfloat16" | "float32"): T {
  const core = activeCore();
  if (core === undefined) return tf.clone(x);
  return differentiable(core, "AsType", { x }, { dtype }, ["x"], (dy, [like]) => [
    core.run("AsTypeOf", { x: dy, like: like! }, {}),
  ]) as T;
}

const barrier = (core: Core, x: tf.Tensor, after: tf.Tensor) =>
  core.run("OptimizationBarrier", { x, after }, {});

/**
 * `x`, such that the compiler computes what follows of it once more, after `after`, in place of keeping
 * what was computed of it before. For gradients that need little memory; `x` itself on other backends.
 */
export function computeAgain<T extends tf.Tensor>(x: T, after: tf.Tensor): T {
  const core = activeCore();
  if (core === undefined) return x;
  // XLA's compiler for the CPU drops barriers before it merges equal computations: adding a zero that
  // it cannot know of makes this one another.
  const zero = tf.minimum(tf.abs(tf.slice(tf.reshape(after, [-1]), 0, 1)), 0);
  return tf.add(barrier(core, x, after), tf.reshape(zero, [])) as T;
}

/**
 * `x · wᵀ` of few rows with a large matrix: float32 [n, in] x [out, in] -> [n, out]. No gradient. On
 * XLA's CPU the matrix is the left side: it is read in the order in which it lies in memory, at up to 1.5 times
 * the speed, and only the few rows are turned around.
 */
export function matMulRows(x: tf.Tensor2D, w: tf.Tensor2D): tf.Tensor2D {
  const core = activeCore();
  if (core?.platform !== "cpu") return tf.matMul(x, w, false, true);
  return core.run("MatMulRows", { x, w }, {}) as tf.Tensor2D;
}

/** Rows of a matrix up to which XLA's CPU multiplies faster one by one, see {@link matMulPairs}. */
const FEW_ROWS = 2;

/**
 * `a · b` of many pairs of small matrices: [..., rows, inner] x [..., inner, columns] ->
 * [..., rows, columns]. No gradient. XLA's CPU hands each pair to a library for large products, whose
 * start costs more than two short rows do; products of a single row are loops of the program's own.
 */
export function matMulPairs(a: tf.Tensor4D, b: tf.Tensor4D): tf.Tensor4D {
  const [outer, pairs, rows, inner] = a.shape;
  const alone = rows > 1 && rows <= FEW_ROWS && activeCore()?.platform === "cpu";
  if (!alone) return tf.matMul(a, b);
  const row = (i: number) => tf.slice(a, [0, 0, i, 0], [outer, pairs, 1, inner]);
  return tf.concat4d(Array.from({ length: rows }, (_, i) => tf.matMul(row(i), b)), 2);
}

/**
 * `fn` whose intermediate results are not kept for the backward pass but computed again there. Gradients
 * reach the arguments only, not tensors that `fn` closes over. Outside the xla backend, `fn` itself.
 */
export function checkpoint<A extends tf.Tensor[]>(
  fn: (...args: A) => tf.Tensor,
): (...args: A) => tf.Tensor {
  return (...args) => {
    const core = activeCore();
    if (core === undefined) return fn(...args);
    const run = tf.customGrad((...inputsAndSave) => {
      const save = inputsAndSave.pop() as unknown as tf.GradSaveFunc;
      const inputs = inputsAndSave as tf.Tensor[];
      save(inputs);
      return {
        value: fn(...inputs as A),
        gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
          const again = saved.map((x, i) => i === 0 ? computeAgain(x, dy) : barrier(core, x, dy));
          return keepingTape(() => tf.grads((...xs: tf.Tensor[]) => fn(...xs as A))(again, dy));
        },
      };
    });
    return run(...args);
  };
}

/**
 * A mesh over the first devices of the backend, with named axes: `makeMesh({ data: 2, model: 2 })`.
 * @throws UserError where it takes more devices than there are (backends other than xla have one)
 */
export function makeMesh(axes: Readonly<Record<string, number>>): Mesh {
  return meshOf(axes, activeCore()?.devices ?? 1);
}

/** The mesh that the function being traced runs on, where its arguments are on one. */
export function tracedMesh(): Mesh | undefined {
  return activeCore()?.mesh;
}

/**
 * `x` laid out over `mesh`: cut along the axes that `spec` names for its dimensions, whole on every device
 * along the others. Outside `jit` the data are copied there; a compiled function that gets such a tensor
 * runs on the whole mesh, partitioned by XLA. Inside `jit` it is a constraint on that partitioning.
 * @throws RangeError where the spec does not fit the mesh or the shape
 */
export function shard<T extends tf.Tensor>(x: T, mesh: Mesh, spec: Spec): T {
  const sharding = shardingOf(mesh, spec, x.shape);
  const core = activeCore();
  if (core === undefined) return tf.clone(x);
  const run = tf.customGrad((input) => ({
    value: core.shard(input as tf.Tensor, sharding),
    gradFunc: (dy: tf.Tensor) => [core.shard(dy, sharding)],
  }));
  return run(x) as T;
}
