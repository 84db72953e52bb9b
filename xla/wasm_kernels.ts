/**
 * Kernels for tfjs's wasm backend where neither its own nor the cpu kernel will do: the one is missing,
 * wrong or slow, the other takes time that training cannot spare. Each gets the wasm kernel that it
 * stands for and may leave the call to it or, by returning undefined, to the cpu kernel.
 */
import { tf } from "./tf.ts";

type Call = Parameters<tf.KernelFunc>[0];
type Info = tf.TensorInfo;

/** @returns undefined where the cpu kernel must run */
export type OwnKernel = (call: Call, native: tf.KernelFunc | undefined) => Info | undefined;

/** Runs another kernel of the wasm backend. */
function run(name: string, call: Call, inputs: Record<string, Info>, attrs: object): Info {
  const kernel = tf.getKernel(name, "wasm")!;
  return kernel.kernelFunc({
    inputs,
    attrs: attrs as tf.NamedAttrMap,
    backend: call.backend,
  }) as Info;
}

/** tfjs copies here, which costs time and looks like a leak to its own check. */
const identity: OwnKernel = ({ inputs, backend }) => {
  const { dataId, shape, dtype } = inputs.x as Info;
  (backend as tf.KernelBackend).incRef(dataId);
  return { dataId, shape, dtype };
};

/** tfjs truncates numbers to bytes to make them bool, so that 0.5 and 256 become false. */
const cast: OwnKernel = (call, native) => {
  const x = call.inputs.x as Info;
  const { dtype } = call.attrs as unknown as { dtype: tf.DataType };
  if (dtype !== "bool" || x.dtype === "bool") return native!(call) as Info;
  const backend = call.backend as tf.KernelBackend;
  const value = x.dtype === "int32" ? Int32Array.of(0) : Float32Array.of(0);
  const zero: Info = { dataId: backend.write(value, [], x.dtype), shape: [], dtype: x.dtype };
  const result = run("NotEqual", call, { a: x, b: zero }, {});
  backend.disposeData(zero.dataId);
  return result;
};

/**
 * The wasm backend multiplies plain matrices with XNNPACK but transposed ones in a simple loop, so the
 * transposition comes first.
 */
const batchMatMul: OwnKernel = (call, native) => {
  const { a, b } = call.inputs as { a: Info; b: Info };
  const { transposeA, transposeB } = call.attrs as unknown as Record<string, boolean>;
  const isPlain = [a, b].every(({ shape, dtype }) =>
    dtype === "float32" && tf.util.sizeFromShape(shape.slice(0, -2)) === 1
  );
  if (!isPlain || !(transposeA || transposeB)) return native!(call) as Info;
  const turned: Info[] = [];
  const plain = (x: Info, transpose: boolean | undefined): Info => {
    if (!transpose) return x;
    const rank = x.shape.length;
    const perm = [...x.shape.keys()];
    [perm[rank - 2], perm[rank - 1]] = [rank - 1, rank - 2];
    turned.push(run("Transpose", call, { x }, { perm }));
    return turned.at(-1)!;
  };
  const inputs = { a: plain(a, transposeA), b: plain(b, transposeB) };
  const result = native!({
    ...call,
    inputs,
    attrs: { transposeA: false, transposeB: false },
  }) as Info;
  for (const { dataId } of turned) (call.backend as tf.KernelBackend).disposeData(dataId);
  return result;
};

/**
 * Rows of `x` [rows, ...] added up by segment: the gradient of a gather. tfjs's cpu kernel takes a pass
 * over `x` for every segment, here every word of the vocabulary.
 */
const unsortedSegmentSum: OwnKernel = ({ inputs, attrs, backend }) => {
  const { x, segmentIds } = inputs as { x: Info; segmentIds: Info };
  const { numSegments } = attrs as unknown as { numSegments: number };
  if (segmentIds.shape.length !== 1 || x.dtype !== "float32") return undefined;
  const host = backend as tf.KernelBackend;
  const values = host.readSync(x.dataId) as Float32Array;
  const segments = host.readSync(segmentIds.dataId) as Int32Array;
  const shape = [numSegments, ...x.shape.slice(1)];
  const size = tf.util.sizeFromShape(x.shape.slice(1));
  const sums = new Float32Array(numSegments * size);
  for (const [row, segment] of segments.entries()) {
    if (segment < 0 || segment >= numSegments) continue;
    const [from, to] = [row * size, segment * size];
    for (let i = 0; i < size; i++) sums[to + i]! += values[from + i]!;
  }
  return { dataId: host.write(sums, shape, "float32"), shape, dtype: "float32" };
};

export const OWN_KERNELS: Readonly<Record<string, OwnKernel>> = {
  BatchMatMul: batchMatMul,
  Cast: cast,
  Identity: identity,
  UnsortedSegmentSum: unsortedSegmentSum,
};
