/**
 * The tfjs backend `xla`: tensors on PJRT devices. Inside a trace a kernel adds its lowering to the
 * program being written; outside it runs as a program of its own, compiled once per types and
 * attributes. A kernel without a lowering runs as tfjs's own cpu kernel on host copies.
 */
import { tf } from "./tf.ts";
import { Builder, sameShape, type Value } from "./hlo/mod.ts";
import { type KernelInputs, type Lowering, lowerings, Unsupported } from "./kernels/mod.ts";
import { Entry } from "./entry.ts";
import { runCpuKernel } from "./host_kernel.ts";
import { hostArray, hostValues, readBytes } from "./host_data.ts";
import { layoutText, type Sharding } from "./mesh.ts";
import { gatherParts, gatherPartsSync, uploadParts } from "./sharded_data.ts";
import { leaked, type Trace } from "./trace.ts";
import { OWN_LOWERINGS } from "./lowerings.ts";
import { cutIntoBlocks } from "./lone_matmul.ts";
import type { Client } from "./pjrt/client.ts";
import type { Executable } from "./pjrt/executable.ts";
import type { Programs } from "./programs.ts";
import { typeOf } from "./tree.ts";

type Inputs = Record<string, tf.TensorInfo | tf.TensorInfo[] | null | undefined>;
type Attrs = Record<string, unknown>;
type Outputs = tf.TensorInfo | tf.TensorInfo[];

/** A one-kernel program and the types of its results. */
interface KernelProgram {
  executable: Executable;
  results: readonly Value["type"][];
  single: boolean;
}

export class XlaBackend extends tf.KernelBackend {
  readonly client: Client;
  readonly programs: Programs;
  /** The trace that kernels go into; none while they run at once. */
  trace: Trace | undefined;
  readonly #moved = new WeakMap<object, Entry>();
  readonly #kernels = new Map<string, KernelProgram | Unsupported>();
  #count = 0;

  constructor(client: Client, programs: Programs) {
    super();
    this.client = client;
    this.programs = programs;
  }

  /** The entry behind a tensor's data; moves data of other tfjs backends here. */
  entryOf(dataId: object): Entry {
    if (dataId instanceof Entry) {
      if (dataId.gone !== undefined) throw new Error(dataId.gone);
      return dataId;
    }
    let entry = this.#moved.get(dataId);
    if (entry === undefined) {
      (tf.engine() as unknown as tf.DataMover).moveData(this, dataId);
      entry = this.#moved.get(dataId);
    }
    if (entry === undefined || entry.gone !== undefined) {
      throw new Error(entry?.gone ?? "this tensor's data are not on any backend");
    }
    return entry;
  }

  #adopt(entry: Entry): Entry {
    this.#count++;
    return entry;
  }

  override write(values: tf.BackendValues, shape: number[], dtype: tf.DataType): object {
    return this.#adopt(Entry.ofHost(values, shape, dtype));
  }

  override move(
    dataId: object,
    values: tf.BackendValues,
    shape: number[],
    dtype: tf.DataType,
    refCount: number,
  ): void {
    const entry = this.#adopt(Entry.ofHost(values, shape, dtype));
    entry.refs = refCount;
    this.#moved.set(dataId, entry);
  }

  /** A tensor's data as a buffer, uploaded on first use. */
  bufferOf(entry: Entry): bigint {
    if (entry.buffer !== 0n) return entry.buffer;
    if (entry.trace !== undefined) throw leaked(entry, "running a program");
    if (!entry.onDevice) {
      throw new Error(`a ${entry.dtype} tensor cannot be used on the xla backend's device`);
    }
    if (entry.shards !== undefined) {
      const whole = this.#bytesOf(entry);
      return entry.buffer = this.client.bufferFromHost(whole, entry.hlo as "f32", entry.shape);
    }
    entry.buffer = this.client.bufferFromHost(hostArray(entry), entry.hlo as "f32", entry.shape);
    if (tf.util.sizeFromShape([...entry.shape]) > 64) entry.host = undefined;
    return entry.buffer;
  }

  /**
   * A tensor's data on every device of a mesh, laid out as `sharding` says; copied there where they are
   * not, and kept.
   * @param shape of the tensor, which may be another view of the same data
   */
  partsOf(entry: Entry, sharding: Sharding, shape: readonly number[]): readonly bigint[] {
    const layout = layoutText(sharding);
    if (
      entry.shards !== undefined && layoutText(entry.shards.sharding) === layout &&
      sameShape(entry.shape, shape)
    ) {
      return entry.shards.buffers;
    }
    const key = `${layout}[${shape}]`;
    let buffers = entry.placed?.get(key);
    if (buffers === undefined) {
      if (entry.trace !== undefined) throw leaked(entry, "placing a tensor on a mesh");
      buffers = uploadParts(this.client, this.#bytesOf(entry), shape, entry.hlo, sharding);
      (entry.placed ??= new Map()).set(key, buffers);
    }
    return buffers;
  }

  /** A new tensor with the data of `x` laid out over a mesh. */
  place(x: tf.Tensor, sharding: Sharding): tf.Tensor {
    const entry = this.entryOf(x.dataId);
    if (!entry.onDevice) throw new TypeError(`shard: a ${x.dtype} tensor has no place on a device`);
    if (entry.trace !== undefined) throw leaked(entry, "shard");
    const buffers = uploadParts(this.client, this.#bytesOf(entry), x.shape, entry.hlo, sharding);
    return this.tensorOfParts(buffers, { shape: x.shape, dtype: entry.hlo }, sharding);
  }

  tensorOfParts(buffers: readonly bigint[], type: Value["type"], sharding: Sharding): tf.Tensor {
    const entry = Entry.ofShards({ sharding, buffers }, type.shape, type.dtype);
    return makeTensor(this.#adopt(entry), this);
  }

  /** The data in host memory as the device keeps them. */
  #bytesOf(entry: Entry): ArrayBufferView<ArrayBuffer> {
    if (entry.host !== undefined) return hostArray(entry);
    const bytes = readBytes(entry);
    if (entry.buffer !== 0n) this.client.readSync(entry.buffer, bytes);
    else gatherPartsSync(this.client, entry, bytes);
    return bytes;
  }

  /** A new tensor around a buffer that a program returned. */
  tensorOf(buffer: bigint, type: Value["type"]): tf.Tensor {
    const entry = this.#adopt(Entry.ofBuffer(buffer, type.shape, type.dtype));
    return makeTensor(entry, this);
  }

  /** A new tensor around a value of the open trace. */
  tracedTensor(value: Value, origin: string): tf.Tensor {
    return makeTensor(this.#traced(value, origin), this);
  }

  #traced(value: Value, origin: string): Entry {
    const trace = this.trace!;
    return this.#adopt(Entry.ofValue(value, trace, trace.scope, origin));
  }

  override readSync(dataId: object): tf.BackendValues {
    const entry = this.entryOf(dataId);
    if (entry.host !== undefined) return entry.host;
    if (entry.trace !== undefined) throw readError(entry);
    return hostValues(entry, this.#bytesOf(entry) as Float32Array);
  }

  override async read(dataId: object): Promise<tf.BackendValues> {
    const entry = this.entryOf(dataId);
    if (entry.host !== undefined) return entry.host;
    if (entry.trace !== undefined) throw readError(entry);
    const bytes = readBytes(entry);
    if (entry.buffer !== 0n) await this.client.read(entry.buffer, bytes);
    else await gatherParts(this.client, entry, bytes);
    return hostValues(entry, bytes);
  }

  override disposeData(dataId: object, force = false): boolean {
    const entry = dataId instanceof Entry ? dataId : this.#moved.get(dataId);
    if (entry === undefined || entry.gone !== undefined) return true;
    entry.refs--;
    if (!force && entry.refs > 0) return false;
    this.#count--;
    entry.gone = "this tensor has been disposed";
    if (dataId !== entry) this.#moved.delete(dataId);
    if (entry.holds === 0) this.#free(entry);
    return true;
  }

  /** Ends a compiled program's hold on data it closed over. */
  release(entry: Entry): void {
    entry.holds--;
    if (entry.holds === 0 && entry.gone !== undefined) this.#free(entry);
  }

  #free(entry: Entry): void {
    if (entry.buffer !== 0n) this.client.destroyBuffer(entry.buffer);
    entry.buffer = 0n;
    for (const buffer of entry.shards?.buffers ?? []) this.client.destroyBuffer(buffer);
    for (const buffer of [...entry.placed?.values() ?? []].flat()) {
      this.client.destroyBuffer(buffer);
    }
    entry.shards = undefined;
    entry.placed = undefined;
    entry.host = undefined;
    entry.value = undefined;
    entry.trace = undefined;
  }

  override incRef(dataId: object): void {
    this.entryOf(dataId).refs++;
  }

  override refCount(dataId: object): number {
    const entry = dataId instanceof Entry ? dataId : this.#moved.get(dataId);
    return entry === undefined || entry.gone !== undefined ? 0 : entry.refs;
  }

  override numDataIds(): number {
    return this.#count;
  }

  override memory(): { unreliable: boolean } {
    return { unreliable: false };
  }

  override floatPrecision(): 32 {
    return 32;
  }

  override epsilon(): number {
    return 1e-7;
  }

  override dispose(): void {}

  override timerAvailable(): boolean {
    return false;
  }

  override async time(f: () => void): Promise<tf.BackendTimingInfo> {
    const start = performance.now();
    f();
    await Promise.resolve();
    return { kernelMs: performance.now() - start };
  }

  /** Runs or traces one kernel. */
  run(name: string, lowering: Lowering | undefined, inputs: Inputs, attrs: Attrs): Outputs {
    const shared = this.#share(name, inputs, attrs);
    if (shared !== undefined) return shared;
    if (this.trace !== undefined) return this.#trace(this.trace, name, lowering, inputs, attrs);
    const list = Object.values(inputs).flat().filter((x) => x != null);
    const onDevice = list.every((x) => this.entryOf(x.dataId).onDevice);
    if (lowering === undefined || !onDevice) return this.#runOnHost(name, inputs, attrs);
    // Names belong to the key: a kernel may leave out one of two optional inputs of the same type.
    const types = Object.entries(inputs).flatMap(([input, x]) =>
      [x].flat().filter((x) => x != null)
        .map((x) => `${input}:${this.entryOf(x.dataId).hlo}[${x.shape}]`)
    );
    const key = kernelKey(name, types, attrs);
    let program = this.#kernels.get(key);
    if (program === undefined) {
      program = this.#compile(name, lowering, inputs, attrs);
      this.#kernels.set(key, program);
    }
    if (program instanceof Unsupported) return this.#runOnHost(name, inputs, attrs);
    return this.#execute(program, list);
  }

  /** Kernels that change nothing on the device give the same data another name. */
  #share(name: string, inputs: Inputs, attrs: Attrs): tf.TensorInfo | undefined {
    if (name !== "Identity" && name !== "Reshape" && name !== "ExpandDims" && name !== "Cast") {
      return undefined;
    }
    const x = (inputs.x ?? inputs.input) as tf.TensorInfo;
    const entry = this.entryOf(x.dataId);
    let shape = x.shape;
    if (name === "Cast" && attrs.dtype !== x.dtype) return undefined;
    if (name === "Reshape" || name === "ExpandDims") {
      // A traced value has one shape, so here the lowering must say so in the program.
      if (entry.trace !== undefined) return undefined;
      shape = name === "Reshape"
        ? tf.util.inferFromImplicitShape(
          attrs.shape as number[],
          tf.util.sizeFromShape(x.shape),
        )
        : expanded(x.shape, attrs.dim as number);
      if (tf.util.sizeFromShape(shape) !== tf.util.sizeFromShape(x.shape)) return undefined;
    }
    if (entry.trace !== undefined) this.trace?.valueOf(x, entry, name);
    entry.refs++;
    return { dataId: x.dataId, shape, dtype: x.dtype };
  }

  #trace(
    trace: Trace,
    name: string,
    lowering: Lowering | undefined,
    inputs: Inputs,
    attrs: Attrs,
  ): Outputs {
    if (lowering === undefined) throw notCompilable(name, trace, "XLA has no lowering for it yet");
    const valueOf = (x: tf.TensorInfo): Value => {
      const entry = this.entryOf(x.dataId);
      if (!entry.onDevice && entry.trace === undefined) {
        throw notCompilable(name, trace, `it has a ${x.dtype} input`);
      }
      if (entry.scope !== trace.scope && x instanceof tf.Tensor) trace.noteCaptured(x);
      return trace.valueOf(x, entry, name);
    };
    let result: Value | Value[];
    try {
      const cut = trace.lone && name === "BatchMatMul" && this.client.platform === "cpu";
      const lower = cut ? cutIntoBlocks(lowering) : lowering;
      result = lower(trace.builder, mapInputs(inputs, valueOf), attrs);
    } catch (error) {
      if (error instanceof Unsupported) throw notCompilable(name, trace, error.message, error);
      throw error;
    }
    const outputs = (Array.isArray(result) ? result : [result]).map((value): tf.TensorInfo => {
      const entry = this.#traced(value, `'${name}'`);
      return { dataId: entry, shape: [...entry.shape], dtype: entry.dtype };
    });
    trace.kernels.push(name);
    trace.ops.push(
      `${name} ${Object.values(inputs).flat().map((x) => x ? typeOf(x) : "-").join(" ")} -> ${
        outputs.map(typeOf).join(" ")
      }`,
    );
    return Array.isArray(result) ? outputs : outputs[0]!;
  }

  #compile(
    name: string,
    lowering: Lowering,
    inputs: Inputs,
    attrs: Attrs,
  ): KernelProgram | Unsupported {
    const cut = name === "BatchMatMul" && this.client.platform === "cpu";
    const builder = new Builder();
    const argument = (x: tf.TensorInfo) =>
      builder.argument({ shape: [...x.shape], dtype: this.entryOf(x.dataId).hlo });
    let result: Value | Value[];
    try {
      result = (cut ? cutIntoBlocks(lowering) : lowering)(
        builder,
        mapInputs(inputs, argument),
        attrs,
      );
    } catch (error) {
      if (error instanceof Unsupported) return error;
      throw error;
    }
    const values = Array.isArray(result) ? result : [result];
    const text = builder.module(values, { name });
    return {
      executable: this.programs.get(text, name),
      results: values.map((value) => value.type),
      single: !Array.isArray(result),
    };
  }

  #execute(program: KernelProgram, list: readonly tf.TensorInfo[]): Outputs {
    const { executable } = program;
    const addresses = executable.inputs(list.length);
    for (let i = 0; i < list.length; i++) {
      addresses[i] = this.bufferOf(this.entryOf(list[i]!.dataId));
    }
    executable.run();
    const outputs = program.results.map((type, i): tf.TensorInfo => {
      const entry = this.#adopt(Entry.ofBuffer(executable.outputs[i]!, type.shape, type.dtype));
      return { dataId: entry, shape: [...type.shape], dtype: entry.dtype };
    });
    return program.single ? outputs[0]! : outputs;
  }

  /** tfjs's cpu kernel on host copies: for strings, complex numbers and what XLA cannot express. */
  #runOnHost(name: string, inputs: Inputs, attrs: Attrs): Outputs {
    return runCpuKernel(name, inputs, attrs, {
      read: ({ dataId }) => this.readSync(dataId),
      write: (values, shape, dtype) => this.write(values, shape, dtype),
    });
  }
}

/** Registers a tfjs kernel for every lowering, and for every cpu kernel that has none. */
export function registerKernels(): void {
  const all = new Map<string, Lowering | undefined>();
  for (const kernel of tf.getKernelsForBackend("cpu")) all.set(kernel.kernelName, undefined);
  for (const table of [lowerings, OWN_LOWERINGS]) {
    for (const [name, lowering] of table) all.set(name, lowering);
  }
  for (const [kernelName, lowering] of all) {
    tf.registerKernel({
      kernelName,
      backendName: "xla",
      kernelFunc: ({ inputs, attrs, backend }) =>
        (backend as XlaBackend).run(
          kernelName,
          lowering,
          inputs as Inputs,
          (attrs ?? {}) as unknown as Attrs,
        ) as tf.TensorInfo | tf.TensorInfo[],
    });
  }
}

/** Applies `map` to every input; lists stay lists (an array of inputs has numeric keys). */
function mapInputs<T>(
  inputs: Inputs,
  map: (x: tf.TensorInfo) => T,
): KernelInputs & Record<string, T> {
  const out: Record<string, unknown> = {};
  for (const [key, x] of Object.entries(inputs)) {
    if (x != null) out[key] = Array.isArray(x) ? x.map(map) : map(x);
  }
  return out as KernelInputs & Record<string, T>;
}

/** JSON with the numbers that JSON has not, so that different attributes never share a key. */
function kernelKey(name: string, types: string[], attrs: Attrs): string {
  return `${name}|${types.join(" ")}|${
    JSON.stringify(attrs, (_, value) => {
      if (typeof value === "number" && (!Number.isFinite(value) || Object.is(value, -0))) {
        return `#${Object.is(value, -0) ? "-0" : value}`;
      }
      return typeof value === "function" ? String(value) : value;
    })
  }`;
}

function makeTensor(entry: Entry, backend: XlaBackend): tf.Tensor {
  const info = { dataId: entry, shape: entry.shape as number[], dtype: entry.dtype };
  return tf.engine().makeTensorFromTensorInfo(info, backend);
}

function expanded(shape: number[], dim: number): number[] {
  const at = dim < 0 ? shape.length + dim + 1 : dim;
  if (at < 0 || at > shape.length) {
    throw new Error(`expandDims: axis ${dim} must be in [${-shape.length - 1}, ${shape.length}]`);
  }
  return [...shape.slice(0, at), 1, ...shape.slice(at)];
}

function readError(entry: Entry): Error {
  return new Error(
    `reading a traced value: the ${
      typeOf(entry as unknown as tf.TensorInfo)
    } made by ${entry.origin} in jit '${
      entry.trace!.name
    }' has no numbers yet. Return it from the function and read the result, or compute the ` +
      `decision on the device (tf.where, whileLoop).`,
  );
}

function notCompilable(name: string, trace: Trace, why: string, cause?: Error): Error {
  return new Error(
    `op '${name}' cannot be used inside jit '${trace.name}': ${why}. Use it outside of jit.`,
    cause === undefined ? undefined : { cause },
  );
}
