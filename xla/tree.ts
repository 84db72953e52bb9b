/**
 * Pytrees: tensors nested in arrays and plain objects. Flattening visits arrays by index and objects by
 * insertion order of their keys, so two trees built the same way have the same leaves in the same order.
 */
import { tf } from "./tf.ts";

/** A tensor, or an array or plain object of trees. */
export type Tree = tf.Tensor | readonly Tree[] | { readonly [key: string]: Tree };

/** The same structure with every tensor replaced by `L`. */
export type Mapped<T, L> = T extends tf.Tensor ? L
  : T extends object ? { [K in keyof T]: Mapped<T[K], L> }
  : T;

export function isTensor(x: unknown): x is tf.Tensor {
  return x instanceof tf.Tensor;
}

function isPlainObject(x: unknown): x is Record<string, unknown> {
  if (typeof x !== "object" || x === null) return false;
  const prototype = Object.getPrototypeOf(x);
  return prototype === Object.prototype || prototype === null;
}

/** Calls `visit` for every leaf (tensor or other value) with its path, e.g. `[0].weight`. */
export function visitLeaves(
  tree: unknown,
  visit: (leaf: unknown, path: string) => void,
  path = "",
): void {
  if (isTensor(tree)) visit(tree, path);
  else if (Array.isArray(tree)) {
    for (let i = 0; i < tree.length; i++) visitLeaves(tree[i], visit, `${path}[${i}]`);
  } else if (isPlainObject(tree)) {
    for (const key of Object.keys(tree)) visitLeaves(tree[key], visit, `${path}.${key}`);
  } else visit(tree, path);
}

/** The tensors of a tree in order; throws a TypeError where a leaf is not a tensor. */
export function leavesOf(tree: Tree, what = "the tree"): tf.Tensor[] {
  const leaves: tf.Tensor[] = [];
  visitLeaves(tree, (leaf, path) => {
    if (!isTensor(leaf)) {
      throw new TypeError(`${what}${path} must be a tensor, found ${describe(leaf)}`);
    }
    leaves.push(leaf);
  });
  return leaves;
}

/** A tree of the same structure with `map(leaf)` in place of each tensor; other leaves are kept. */
export function mapTree<T, L>(tree: T, map: (leaf: tf.Tensor, index: number) => L): Mapped<T, L> {
  let index = 0;
  const walk = (node: unknown): unknown => {
    if (isTensor(node)) return map(node, index++);
    if (Array.isArray(node)) return node.map(walk);
    if (isPlainObject(node)) {
      const out: Record<string, unknown> = {};
      for (const key of Object.keys(node)) out[key] = walk(node[key]);
      return out;
    }
    return node;
  };
  return walk(tree) as Mapped<T, L>;
}

/** The structure of `tree` filled with `leaves`, given in the order of {@link leavesOf}. */
export function fillTree<T>(tree: T, leaves: readonly tf.Tensor[]): T {
  return mapTree(tree, (_, i) => leaves[i]!) as unknown as T;
}

/** A short name of a value for error messages. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (isTensor(value)) return `a ${value.dtype} tensor of shape [${value.shape}]`;
  if (typeof value === "string") return `the string '${value.slice(0, 40)}'`;
  if (typeof value === "object") return `an object of ${value.constructor?.name ?? "no class"}`;
  return `the ${typeof value} ${String(value)}`;
}

/** `float32[2,3]`, as used in keys and messages. */
export function typeOf(x: tf.TensorInfo): string {
  return `${x.dtype}[${x.shape.join(",")}]`;
}

/** Reads every tensor of a tree to host memory; the reads overlap. */
export async function toHost<T>(tree: T): Promise<Mapped<T, tf.TypedArray>> {
  const leaves = leavesOf(tree as Tree);
  const data = await Promise.all(leaves.map((leaf) => leaf.data()));
  return mapTree(tree, (_, i) => data[i]!) as Mapped<T, tf.TypedArray>;
}

/** `tf.tidy` for a function that returns a tree. */
export function tidyTree<T>(fn: () => T): T {
  return tf.tidy(fn as () => tf.TensorContainer) as T;
}
