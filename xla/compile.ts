/**
 * `jit`: one compiled program for a function of tensors. On the xla backend the function is traced once
 * per structure of its arguments; on any other backend it is simply called.
 */
import { activeCore } from "./core.ts";
import { isTensor, mapTree, tidyTree, type Tree, visitLeaves } from "./tree.ts";

export interface JitOptions {
  /** Shown in errors and dumps; the function's own name where left out. */
  name?: string;
  /** Indices of arguments whose buffers the program may reuse. They are consumed by the call. */
  donate?: number[];
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
): (...args: A) => R {
  let compiled: ((...args: A) => R) | undefined;
  return (...args) => {
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
}

function disposeDonated(args: unknown[], donate: number[]): void {
  for (const index of donate) {
    visitLeaves(args[index], (leaf) => {
      if (isTensor(leaf) && !leaf.isDisposed) leaf.dispose();
    });
  }
}
