/**
 * `jit`: one compiled program for a function of tensors. On the xla backend the function is traced once
 * per structure of its arguments; on any other backend it is simply called.
 */
import { activeCore } from "./core.ts";
import type { MemoryPlan } from "./pjrt/executable.ts";
import { isTensor, mapTree, tidyTree, type Tree, visitLeaves } from "./tree.ts";

export interface JitOptions {
  /** Shown in errors and dumps; the function's own name where left out. */
  name?: string;
  /** Indices of arguments whose buffers the program may reuse. They are consumed by the call. */
  donate?: number[];
  /** Which settings of the caller lower the memory it takes; part of the error where memory runs out. */
  memoryHint?: string;
}

/** A compiled function. */
export interface Compiled<A extends unknown[], R> {
  (...args: A): R;
  /**
   * What a call with such arguments needs on each device, in bytes, as the compiler planned it. Traces and
   * compiles where need be, runs nothing. Undefined on backends that compile no programs.
   */
  memoryPlan(...args: A): MemoryPlan | undefined;
}

/**
 * Wraps `fn` so that it runs as one program. Arguments are pytrees of tensors; any other leaf (number,
 * string, boolean, null, undefined) is static: a new value means a new program. The results are ordinary
 * tensors that the caller owns.
 * @throws TypeError where a result leaf is not a tensor.
 */
export function jit<A extends unknown[], R extends Tree>(
  fn: (...args: A) => R,
  options: JitOptions = {},
): Compiled<A, R> {
  let compiled: Compiled<A, R> | undefined;
  const call = (...args: A): R => {
    const core = activeCore();
    if (core !== undefined && !core.inline) return (compiled ??= core.jit(fn, options))(...args);
    const given = new Set<unknown>();
    visitLeaves(args, (leaf) => given.add(leaf));
    // A result is always a new tensor, as it is from a compiled program.
    const results = tidyTree(() =>
      mapTree(fn(...args), (leaf) => given.has(leaf) ? leaf.clone() : leaf)
    ) as R;
    disposeDonated(args, options.donate ?? []);
    return results;
  };
  return Object.assign(call, {
    memoryPlan(...args: A): MemoryPlan | undefined {
      const core = activeCore();
      if (core === undefined || core.inline) return undefined;
      return (compiled ??= core.jit(fn, options)).memoryPlan(...args);
    },
  });
}

function disposeDonated(args: unknown[], donate: number[]): void {
  for (const index of donate) {
    visitLeaves(args[index], (leaf) => {
      if (isTensor(leaf) && !leaf.isDisposed) leaf.dispose();
    });
  }
}
