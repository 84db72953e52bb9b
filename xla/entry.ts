/**
 * What stands behind a tensor of the xla backend. An entry holds host values not uploaded yet, a buffer
 * on the device, or a value of the program being traced. The entry object itself is the tensor's
 * `dataId`, so finding it costs nothing.
 */
import type { tf } from "./tf.ts";
import type { DType, Value } from "./hlo/mod.ts";
import type { Sharding } from "./mesh.ts";
import type { Trace } from "./trace.ts";

/** tfjs's dtype to the element type on the device. Strings stay on the host. */
export const DEVICE_DTYPE: Readonly<Record<string, DType>> = {
  float32: "f32",
  int32: "i32",
  bool: "i1",
  complex64: "c64",
};

/** The tfjs dtype under which a device element type is seen. */
export function tfjsDtype(dtype: DType): tf.DataType {
  switch (dtype) {
    case "f32":
    case "bf16":
      return "float32";
    case "i32":
    case "i8":
      return "int32";
    case "i1":
      return "bool";
    case "c64":
      return "complex64";
    default:
      throw new Error(`a kernel returned element type ${dtype}, which tfjs does not have`);
  }
}

/** Data cut over a mesh: one buffer a device. */
export interface Shards {
  readonly sharding: Sharding;
  readonly buffers: readonly bigint[];
}

export class Entry {
  /** Tensors that share the data. */
  refs = 1;
  /** Compiled programs that closed over the data and keep it after the last tensor is gone. */
  holds = 0;
  /** Address of the PJRT buffer; 0 while there is none. */
  buffer = 0n;
  /** How the data lie on a mesh, where they do. */
  shards: Shards | undefined;
  /** Copies on a mesh of data that are not at home there, by layout. */
  placed: Map<string, readonly bigint[]> | undefined;
  host: tf.BackendValues | undefined;
  value: Value | undefined;
  trace: Trace | undefined;
  /** The region of the trace that the value belongs to. */
  scope = 0;
  /** For traced values, the kernel or argument that made it. */
  origin = "";
  /** Why the data are gone, once they are. */
  gone: string | undefined;
  readonly shape: readonly number[];
  readonly dtype: tf.DataType;
  readonly hlo: DType;

  constructor(shape: readonly number[], dtype: tf.DataType, hlo: DType) {
    this.shape = shape;
    this.dtype = dtype;
    this.hlo = hlo;
  }

  static ofHost(values: tf.BackendValues, shape: readonly number[], dtype: tf.DataType): Entry {
    const entry = new Entry(shape, dtype, DEVICE_DTYPE[dtype] ?? "ui8");
    entry.host = values;
    return entry;
  }

  static ofBuffer(buffer: bigint, shape: readonly number[], hlo: DType): Entry {
    const entry = new Entry(shape, tfjsDtype(hlo), hlo);
    entry.buffer = buffer;
    return entry;
  }

  static ofShards(shards: Shards, shape: readonly number[], hlo: DType): Entry {
    const entry = new Entry(shape, tfjsDtype(hlo), hlo);
    entry.shards = shards;
    return entry;
  }

  static ofValue(value: Value, trace: Trace, scope: number, origin: string): Entry {
    const entry = new Entry(value.type.shape, tfjsDtype(value.type.dtype), value.type.dtype);
    entry.value = value;
    entry.trace = trace;
    entry.scope = scope;
    entry.origin = origin;
    return entry;
  }

  /** True where the data can live on the device. */
  get onDevice(): boolean {
    return this.dtype in DEVICE_DTYPE;
  }
}
