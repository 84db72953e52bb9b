/**
 * Loops. On the xla backend they are one StableHLO `while` on the device, in and out of `jit`; on other
 * backends a host loop with the same results. The device loop has no reverse-mode derivative: put
 * gradients inside the body.
 */
import { tf } from "./tf.ts";
import { activeCore } from "./core.ts";
import { fillTree, leavesOf, tidyTree, type Tree, typeOf } from "./tree.ts";
import { dynamicUpdateSlice } from "./ops.ts";

function checkSameTypes(action: string, before: tf.Tensor[], after: tf.Tensor[]): void {
  if (before.length !== after.length) {
    throw new TypeError(
      `${action}: the body returned ${after.length} tensors for a state of ${before.length}`,
    );
  }
  for (const [i, x] of before.entries()) {
    if (typeOf(x) !== typeOf(after[i]!)) {
      throw new TypeError(
        `${action}: the body turned state leaf ${i} from ${typeOf(x)} into ${typeOf(after[i]!)}`,
      );
    }
  }
}

/**
 * Repeats `state = body(state)` while `cond(state)` (a bool or int32 scalar) holds and returns the last
 * state. The body must keep every leaf's shape and dtype.
 */
export function whileLoop<S extends Tree>(
  cond: (state: S) => tf.Tensor,
  body: (state: S) => S,
  init: S,
): S {
  const core = activeCore();
  if (core !== undefined) return core.whileLoop(cond, body, init);
  const first = leavesOf(init, "whileLoop state");
  let leaves = first.map((leaf) => tf.clone(leaf));
  const state = () => fillTree(init, leaves);
  while (tf.tidy(() => cond(state()).dataSync()[0]) !== 0) {
    const next = leavesOf(tidyTree(() => body(state())), "whileLoop state");
    checkSameTypes("whileLoop", first, next);
    for (const old of leaves) if (!next.includes(old)) old.dispose();
    leaves = next;
  }
  return state();
}

/**
 * Runs `[carry, y] = f(carry, i)` for i = 0..length-1 (int32 scalar) and returns the last carry with the
 * y's stacked on a new first axis.
 */
export function scan<C extends Tree, Y extends Tree>(
  f: (carry: C, i: tf.Tensor) => [C, Y],
  init: C,
  length: number,
): [C, Y] {
  if (!Number.isInteger(length) || length < 1) {
    throw new RangeError(`scan: length must be a positive integer, found ${length}`);
  }
  const core = activeCore();
  return core !== undefined ? deviceScan(f, init, length) : hostScan(f, init, length);
}

function hostScan<C extends Tree, Y extends Tree>(
  f: (carry: C, i: tf.Tensor) => [C, Y],
  init: C,
  length: number,
): [C, Y] {
  return tidyTree(() => {
    let carry = init;
    const columns: tf.Tensor[][] = [];
    let shape: Y | undefined;
    for (let i = 0; i < length; i++) {
      const [next, y] = tidyTree(() => f(carry, tf.scalar(i, "int32")));
      checkSameTypes("scan", leavesOf(init), leavesOf(next, "scan carry"));
      shape ??= y;
      for (const [column, leaf] of leavesOf(y, "scan output").entries()) {
        (columns[column] ??= []).push(leaf);
      }
      carry = next;
    }
    const last = fillTree(carry, leavesOf(carry).map((leaf) => tf.clone(leaf)));
    return [last, fillTree(shape!, columns.map((column) => tf.stack(column)))];
  });
}

/** A while loop over (i, carry, outputs), each output row written in place. */
function deviceScan<C extends Tree, Y extends Tree>(
  f: (carry: C, i: tf.Tensor) => [C, Y],
  init: C,
  length: number,
): [C, Y] {
  return tidyTree(() => {
    // The first step gives the outputs' shapes; the loop starts at the second.
    const [carry, first] = f(init, tf.scalar(0, "int32"));
    checkSameTypes("scan", leavesOf(init), leavesOf(carry, "scan carry"));
    const row = (out: tf.Tensor, y: tf.Tensor, i: tf.Tensor) =>
      dynamicUpdateSlice(out, tf.expandDims(y, 0), [i, ...y.shape.map(() => 0)]);
    const start = tf.scalar(0, "int32");
    const outs = leavesOf(first, "scan output").map((y) =>
      row(tf.zeros([length, ...y.shape], y.dtype as "float32"), y, start)
    );
    const end = whileLoop(
      (s) => tf.less(s.i, length),
      (s) => {
        const [next, y] = f(s.carry, s.i);
        const rows = leavesOf(y, "scan output").map((leaf, k) => row(s.outs[k]!, leaf, s.i));
        return { i: tf.add(s.i, tf.scalar(1, "int32")), carry: next, outs: rows };
      },
      { i: tf.scalar(1, "int32") as tf.Tensor, carry, outs },
    );
    return [end.carry, fillTree(first, end.outs)];
  });
}
