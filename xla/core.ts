/**
 * The seam between the public operations and the xla backend. When the xla backend is active, the
 * operations that tfjs does not have (control flow, slices at traced positions, random bits) go through
 * it; on any other backend `activeCore()` is undefined and they take their portable path.
 */
import { tf } from "./tf.ts";
import type { Compiled, JitOptions } from "./compile.ts";
import type { DType } from "./hlo/mod.ts";
import type { Mesh, Sharding } from "./mesh.ts";
import type { Tree } from "./tree.ts";

/** What the xla backend offers beyond tfjs kernels. */
export interface Core {
  /** Runs a kernel of ours on the xla backend, on the tape like any tfjs kernel. */
  run(kernel: string, inputs: Record<string, tf.Tensor>, attrs: Record<string, unknown>): tf.Tensor;
  /** As `run`, of a kernel with several results. */
  runAll(
    kernel: string,
    inputs: Record<string, tf.Tensor>,
    attrs: Record<string, unknown>,
  ): tf.Tensor[];
  /** A tensor of these raw numbers on the device. */
  upload(data: ArrayBufferView<ArrayBuffer>, shape: readonly number[], dtype: DType): tf.Tensor;
  /** What the tensor's numbers are on the device. */
  elementType(x: tf.Tensor): DType;
  /** True where a compiled function must run as plain calls: inside a trace, or on a gradient's tape. */
  readonly inline: boolean;
  whileLoop<S extends Tree>(cond: (state: S) => tf.Tensor, body: (state: S) => S, init: S): S;
  jit<A extends unknown[], R extends Tree>(
    fn: (...args: A) => R,
    options: JitOptions,
  ): Compiled<A, R>;
  /** PJRT's name of the platform: "cpu", "cuda"... */
  readonly platform: string;
  /** Devices that a mesh can take. */
  readonly devices: number;
  /** The mesh of the program being traced, as far as its arguments have one. */
  readonly mesh: Mesh | undefined;
  /** `x` laid out over a mesh: a copy there, or a constraint inside a trace. */
  shard(x: tf.Tensor, sharding: Sharding): tf.Tensor;
}

let core: Core | undefined;

/** Called once by the xla backend when it starts. */
export function setCore(instance: Core): void {
  core = instance;
}

/** The xla backend where it is the active one. */
export function activeCore(): Core | undefined {
  return core !== undefined && tf.getBackend() === "xla" ? core : undefined;
}
