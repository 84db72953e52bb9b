/**
 * Running tfjs's own cpu kernels for another backend: inputs are read to the host, the kernel runs
 * there, its results are written back. For what that backend has no kernel for or computes wrongly.
 */
import { tf } from "./tf.ts";

type Inputs = Record<string, tf.TensorInfo | tf.TensorInfo[] | null | undefined>;

/** How a backend's data reach the host and come back. */
export interface HostAccess {
  /** Values of a tensor; a complex tensor's are interleaved real and imaginary parts. */
  read(x: tf.TensorInfo): tf.BackendValues;
  /** New data with these values, in the array type that tfjs keeps the dtype in. */
  write(values: tf.BackendValues, shape: number[], dtype: tf.DataType): object;
}

/**
 * The results of the cpu kernel `name`, as new data of the other backend.
 * @throws Error where tfjs has no such cpu kernel, and whatever the kernel throws
 */
export function runCpuKernel(
  name: string,
  inputs: Inputs,
  attrs: Record<string, unknown>,
  access: HostAccess,
): tf.TensorInfo | tf.TensorInfo[] {
  const kernel = tf.getKernel(name, "cpu");
  if (kernel == null) {
    throw new Error(`kernel '${name}' runs neither on ${tf.getBackend()} nor on the host`);
  }
  const cpu = tf.findBackend("cpu") as tf.KernelBackend;
  const used = new Set<object>();
  const copy = (x: tf.TensorInfo): tf.TensorInfo => {
    const info = toCpu(cpu, access.read(x), x);
    used.add(info.dataId);
    return info;
  };
  try {
    const result = kernel.kernelFunc({
      inputs: copyInputs(inputs, copy) as unknown as tf.NamedTensorInfoMap,
      attrs: attrs as tf.NamedAttrMap,
      backend: cpu,
    });
    const outputs = [result].flat().map(({ dataId, shape, dtype }): tf.TensorInfo => {
      used.add(dataId);
      const values = asStored(cpu.readSync(dataId), dtype);
      return { dataId: access.write(values, shape, dtype), shape, dtype };
    });
    return Array.isArray(result) ? outputs : outputs[0]!;
  } finally {
    for (const dataId of used) cpu.disposeData(dataId, true);
  }
}

/** Kernels of a list (AddN, Concat) are given an array, and use it as one. */
function copyInputs(inputs: Inputs, copy: (x: tf.TensorInfo) => tf.TensorInfo): unknown {
  if (Array.isArray(inputs)) return inputs.map(copy);
  return Object.fromEntries(
    Object.entries(inputs).filter(([, x]) => x != null)
      .map(([key, x]) => [key, Array.isArray(x) ? x.map(copy) : copy(x!)]),
  );
}

function toCpu(
  cpu: tf.KernelBackend,
  values: tf.BackendValues,
  { shape, dtype }: tf.TensorInfo,
): tf.TensorInfo {
  if (dtype !== "complex64") return { dataId: cpu.write(values, shape, dtype), shape, dtype };
  // The cpu backend keeps the parts of a complex tensor apart.
  const part = (offset: number): tf.TensorInfo => ({
    dataId: cpu.write(
      (values as Float32Array).filter((_, i) => i % 2 === offset),
      shape,
      "float32",
    ),
    shape,
    dtype: "float32",
  });
  const [real, imag] = [part(0), part(1)];
  const kernel = tf.getKernel("Complex", "cpu")!;
  const result = kernel.kernelFunc({ inputs: { real, imag }, attrs: {}, backend: cpu });
  for (const { dataId } of [real, imag]) cpu.disposeData(dataId);
  return result as tf.TensorInfo;
}

/** Some cpu kernels return an int32 or bool tensor in an array of another type. */
function asStored(values: tf.BackendValues, dtype: tf.DataType): tf.BackendValues {
  if (dtype === "string" || dtype === "complex64") return values;
  return tf.util.toTypedArray(values as tf.TypedArray, dtype);
}
