/**
 * The table of lowerings: for each tfjs kernel, a pure function that appends the kernel's StableHLO to
 * a builder. The backend turns every entry into a tfjs kernel (inside `jit` it adds to the trace's
 * program, outside it compiles a one-kernel program).
 *
 * tfjs types in StableHLO: float32 = f32 (or bf16, see `asType`), int32 = i32, bool = i1,
 * complex64 = c64. Results have the type tfjs's own cpu kernel gives them; the backend maps them back
 * (i1 to bool, i32 to int32, f32 and bf16 to float32, c64 to complex64).
 */
import type { Builder, Value } from "../hlo/mod.ts";

/** Inputs by tfjs's names. Kernels that take a list (Concat, Pack, AddN, Einsum) get it under 0, 1, ... */
export type KernelInputs = Readonly<Record<string, Value | Value[]>>;
export type KernelAttrs = Readonly<Record<string, unknown>>;

/**
 * Throws `Unsupported` (before or after emitting) where the kernel needs run-time shapes or a case XLA
 * has not; the backend then runs tfjs's cpu kernel instead, or reports the op inside `jit`.
 */
export type Lowering = (b: Builder, inputs: KernelInputs, attrs: KernelAttrs) => Value | Value[];

/** This kernel cannot be lowered for these inputs and attributes; the message says what is missing. */
export class Unsupported extends Error {
  override name = "Unsupported";
}

export const lowerings = new Map<string, Lowering>();

/**
 * Registers the lowering of the tfjs kernel `name`, once. `fn` declares the inputs and attributes that
 * tfjs gives this kernel (its `...Inputs` and `...Attrs` types say them).
 */
export function lower<Inputs, Attrs = unknown>(
  name: string,
  fn: (b: Builder, inputs: Inputs, attrs: Attrs) => Value | Value[],
): void {
  if (lowerings.has(name)) throw new Error(`kernel ${name} is lowered twice`);
  lowerings.set(name, fn as Lowering);
}
