/**
 * tfjs's WebAssembly backend, completed: it lacks kernels that training needs, refuses dtypes and
 * layouts, and computes some wrongly without a word. Each such case runs as tfjs's own cpu kernel on
 * host copies. Importing this module registers the backend; only code that uses it does so.
 */
import "@tensorflow/tfjs-backend-wasm";
import { type HostAccess, runCpuKernel } from "./host_kernel.ts";
import { tf } from "./tf.ts";
import { OWN_KERNELS } from "./wasm_kernels.ts";

type Inputs = Record<string, tf.TensorInfo | tf.TensorInfo[] | null | undefined>;
type Attrs = Record<string, unknown>;
type Call = Parameters<tf.KernelFunc>[0];

/** Kernels that trap in the module, which ends it, or compute wrongly whatever they are given. */
const BROKEN = new Set([
  "ClipByValue",
  "SparseFillEmptyRows",
  "SparseReshape",
  "SparseSegmentMean",
  "SparseSegmentSum",
]);

/** Kernels that give the same data another shape, whatever they hold. */
const SHARING = new Set(["ExpandDims", "Identity", "Reshape"]);

type Case = (inputs: Record<string, tf.TensorInfo>, attrs: Attrs) => boolean;

/** XNNPACK refuses windows of one element, and nobody looks at its answer. */
const hasUnitWindow: Case = (_, { filterSize }) =>
  [filterSize as number | number[]].flat().every((size) => size === 1);

/** Cases that a wasm kernel computes wrongly without a word, or refuses after it took memory. */
const WRONG: Record<string, Case> = {
  AvgPool: hasUnitWindow,
  Bincount: ({ x }) => x!.shape.length !== 1,
  Fill: (_, { dtype, value }) => dtype === "string" || typeof value === "string",
  // It reads every batch but the first from the wrong place.
  GatherV2: (_, { batchDims }) => Boolean(batchDims),
  MaxPool: hasUnitWindow,
  // It does not check its bounds.
  Slice: ({ x }, { begin, size }) => {
    const of = x as tf.Tensor;
    const [starts, sizes] = tf.slice_util.parseSliceParams(of, begin as number[], size as number[]);
    return starts!.some((start, i) => start < 0 || start + sizes![i]! > of.shape[i]!);
  },
};

function accessOf(backend: tf.KernelBackend): HostAccess {
  return {
    read: ({ dataId }) => backend.readSync(dataId),
    write: (values, shape, dtype) => backend.write(values, shape, dtype),
  };
}

function completeKernels(): void {
  for (const { kernelName } of tf.getKernelsForBackend("cpu")) {
    const native = tf.getKernel(kernelName, "wasm");
    if (native != null) tf.unregisterKernel(kernelName, "wasm");
    tf.registerKernel({
      ...native,
      kernelName,
      backendName: "wasm",
      kernelFunc: completed(kernelName, native?.kernelFunc),
    });
  }
}

/** Our kernel or `native`; the cpu kernel where that is missing, wrong or refuses. */
function completed(kernelName: string, native: tf.KernelFunc | undefined): tf.KernelFunc {
  const own = OWN_KERNELS[kernelName];
  const onHost: tf.KernelFunc = ({ inputs, attrs, backend }) =>
    runCpuKernel(
      kernelName,
      inputs as Inputs,
      attrs as Attrs | undefined ?? {},
      accessOf(backend as tf.KernelBackend),
    );
  const fast = own === undefined ? native : (call: Call) => own(call, native) ?? onHost(call);
  if (fast === undefined || BROKEN.has(kernelName)) return onHost;
  if (SHARING.has(kernelName)) return fast;
  const isWrong = WRONG[kernelName];
  return (call) => {
    const inputs = call.inputs as Inputs;
    const isForeign = Object.values(inputs).flat().some((x) =>
      x?.dtype === "complex64" || x?.dtype === "string"
    );
    if (isForeign || isWrong?.(inputs as Record<string, tf.TensorInfo>, call.attrs as Attrs)) {
      return onHost(call);
    }
    try {
      return fast(call);
    } catch (error) {
      // A trap leaves the module's memory in an unknown state; anything else is a refusal.
      if (error instanceof WebAssembly.RuntimeError) throw error;
      return onHost(call);
    }
  };
}

/** Lets the backend's data be complex too: it keeps them, but refuses to read them. */
function completeBackend(): void {
  const make = tf.findBackendFactory("wasm");
  tf.removeBackend("wasm");
  tf.registerBackend("wasm", async () => {
    const backend = await make() as tf.KernelBackend & WasmParts;
    const read = backend.readSync.bind(backend);
    backend.readSync = (dataId: object) => {
      const { memoryOffset, dtype, shape } = backend.dataIdMap.get(dataId);
      if (dtype !== "complex64") return read(dataId);
      const bytes = tf.util.sizeFromShape(shape) * 8;
      return new Float32Array(
        backend.wasm.HEAPU8.slice(memoryOffset, memoryOffset + bytes).buffer,
      );
    };
    return backend;
  }, 2);
}

/** What the wasm backend keeps its data in. */
interface WasmParts {
  wasm: { HEAPU8: Uint8Array<ArrayBuffer> };
  dataIdMap: {
    get(dataId: object): { memoryOffset: number; dtype: tf.DataType; shape: number[] };
  };
}

completeKernels();
completeBackend();
