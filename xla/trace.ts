/**
 * One tracing of a function: the StableHLO being written, the data it closes over, and the rule that a
 * value is used only while its trace, and the region of the trace it was made in, is open.
 */
import { tf } from "./tf.ts";
import { Builder, type TensorType, type Value } from "./hlo/mod.ts";
import type { Entry } from "./entry.ts";
import { type Mesh, meshText, type Sharding, shardingOf } from "./mesh.ts";
import { typeOf } from "./tree.ts";

/** Host values of up to this many elements are written into the program; larger ones are arguments. */
const INLINE_CONSTANT_ELEMENTS = 16;

/** Data that a function closes over: a further argument of its program. */
export interface Hoisted {
  readonly argument: number;
  readonly entry: Entry;
  /** A variable is read anew at every call, as its value changes. */
  readonly variable: tf.Variable | undefined;
}

export class Trace {
  readonly name: string;
  readonly builder = new Builder();
  readonly hoisted: Hoisted[] = [];
  readonly lone: boolean;
  /** Names of the kernels traced, in order. */
  readonly kernels: string[] = [];
  /** One line a kernel, for dumps. */
  readonly ops: string[] = [];
  /** For each open region, the tensors it uses that may come from outside of it. */
  readonly #captured: Set<tf.Tensor>[] = [];
  /** The mesh that the program runs on; one device where undefined. */
  #mesh: Mesh | undefined;
  /** Layouts on the mesh that values of the program are known to have, by their names. */
  readonly #shardings = new Map<string, Sharding>();
  #open = [0];
  #nextScope = 1;
  #closed = false;
  readonly #arguments = new Map<object, Value>();
  readonly #constants = new Map<Entry, { value: Value; scope: number }>();

  /** @param options.lone the program is known to be this one kernel; see `lone_matmul.ts` */
  constructor(name: string, options: { lone?: boolean } = {}) {
    this.name = name;
    this.lone = options.lone ?? false;
  }

  get scope(): number {
    return this.#open.at(-1)!;
  }

  /** Runs `body` in a nested region. */
  inScope<R>(body: () => R): R {
    this.#open.push(this.#nextScope++);
    try {
      return body();
    } finally {
      this.#open.pop();
    }
  }

  /** The tensors from outside that kernels use while `body` runs. */
  collectCaptured(body: () => void): Set<tf.Tensor> {
    const set = new Set<tf.Tensor>();
    this.#captured.push(set);
    try {
      body();
    } finally {
      this.#captured.pop();
    }
    return set;
  }

  noteCaptured(tensor: tf.Tensor): void {
    for (const set of this.#captured) set.add(tensor);
  }

  get mesh(): Mesh | undefined {
    return this.#mesh;
  }

  /** Makes the program one over `mesh`; all its shardings must be of the same. */
  useMesh(mesh: Mesh): void {
    if (this.#mesh !== undefined && meshText(this.#mesh) !== meshText(mesh)) {
      throw new Error(
        `jit '${this.name}': tensors on two meshes, ${meshText(this.#mesh)} and ${
          meshText(mesh)
        }; ` +
          `move them to one with shard()`,
      );
    }
    this.#mesh ??= mesh;
  }

  /** Notes the layout of a value: an argument's, or one that was asked for. */
  setSharding(value: Value, sharding: Sharding): void {
    this.useMesh(sharding.mesh);
    this.#shardings.set(value.id, sharding);
  }

  /** The layout of a value on the mesh where it is known, else one copy a device. */
  shardingOf(value: Value): Sharding {
    return this.#shardings.get(value.id) ?? shardingOf(this.#mesh!, [], value.type.shape);
  }

  close(): void {
    this.#closed = true;
  }

  argument(type: TensorType): Value {
    return this.builder.argument(type);
  }

  /** The value in this trace of any tensor: traced here, a small constant, or a further argument. */
  valueOf(info: tf.TensorInfo, entry: Entry, user: string): Value {
    const value = entry.trace === undefined
      ? this.#closedOver(info, entry)
      : this.#traced(entry, user);
    const same = value.type.shape.length === info.shape.length &&
      value.type.shape.every((size, i) => size === info.shape[i]);
    return same ? value : this.builder.reshape(value, info.shape);
  }

  #traced(entry: Entry, user: string): Value {
    if (entry.trace === this && !this.#closed && this.#open.includes(entry.scope)) {
      return entry.value!;
    }
    throw leaked(entry, `${user} in '${this.name}'`);
  }

  #closedOver(info: tf.TensorInfo, entry: Entry): Value {
    const variable = info instanceof tf.Variable ? info : undefined;
    if (variable === undefined && entry.host !== undefined && isSmall(entry)) {
      return this.#constant(entry);
    }
    const key = variable ?? entry;
    let value = this.#arguments.get(key);
    if (value === undefined) {
      const argument = this.builder.argumentTypes.length;
      // The data keep the shape they were made with; a tensor may be another view of them.
      const shape = entry.shards === undefined ? info.shape : entry.shape;
      value = this.builder.argument({ shape: [...shape], dtype: entry.hlo });
      this.#arguments.set(key, value);
      if (variable === undefined) entry.holds++;
      if (entry.shards !== undefined) this.setSharding(value, entry.shards.sharding);
      this.hoisted.push({ argument, entry, variable });
    }
    return value;
  }

  #constant(entry: Entry): Value {
    const known = this.#constants.get(entry);
    if (known !== undefined && this.#open.includes(known.scope)) return known.value;
    const data = entry.host as Float32Array | Int32Array | Uint8Array;
    const value = this.builder.constant(data, { shape: entry.shape, dtype: entry.hlo });
    this.#constants.set(entry, { value, scope: this.scope });
    return value;
  }
}

function isSmall(entry: Entry): boolean {
  const data = entry.host as ArrayLike<number>;
  if (data.length <= INLINE_CONSTANT_ELEMENTS) return true;
  const first = data[0];
  for (let i = 1; i < data.length; i++) if (!Object.is(data[i], first)) return false;
  return true;
}

/** The error for a traced value used where its trace is not open. */
export function leaked(entry: Entry, user: string): Error {
  const made = `${typeOf(entry as unknown as tf.TensorInfo)} made by ${entry.origin}`;
  return new Error(
    `${user}: uses a value (${made}) of the trace of '${
      entry.trace!.name
    }' outside of it. A traced value lives only while its function, or loop body, is traced: ` +
      `return it from there instead of storing it.`,
  );
}
