/**
 * What a mathematical answer is made of once its LaTeX has been read. Expressions, and around them the
 * structure that answers come in: tuples, sets, relations, matrices, text.
 */
import type { Rational } from "./rational.ts";

export type SetOperator = "union" | "intersection" | "difference";
export type RelationOperator = "=" | "<" | "<=" | ">" | ">=" | "!=" | "in";

export type Node =
  /** `decimals`: digits after the point where the numeral has one. `digits`: the numeral as written. */
  | {
    readonly t: "number";
    readonly value: Rational;
    readonly digits: string;
    readonly decimals?: number;
  }
  | { readonly t: "symbol"; readonly name: string }
  | { readonly t: "constant"; readonly name: "pi" | "e" | "i" | "infinity" }
  | { readonly t: "add"; readonly terms: readonly Node[] }
  | { readonly t: "multiply"; readonly factors: readonly Node[] }
  | { readonly t: "divide"; readonly a: Node; readonly b: Node }
  | { readonly t: "negate"; readonly a: Node }
  | { readonly t: "power"; readonly base: Node; readonly exponent: Node }
  | { readonly t: "root"; readonly index: Node; readonly a: Node }
  /** A function by name; `log` may have its base as a second argument. */
  | { readonly t: "call"; readonly name: string; readonly args: readonly Node[] }
  | {
    readonly t: "big";
    readonly name: "sum" | "product" | "integral";
    readonly parts: readonly Node[];
  }
  /** `a ± b`; -1 is ∓. */
  | { readonly t: "plusminus"; readonly sign: 1 | -1; readonly a: Node }
  | { readonly t: "degrees"; readonly a: Node }
  | { readonly t: "percent"; readonly a: Node }
  /** A number of `digits` in a base other than ten. */
  | {
    readonly t: "based";
    readonly negative: boolean;
    readonly digits: string;
    readonly base: string;
  }
  | { readonly t: "ratio"; readonly parts: readonly Node[] }
  | { readonly t: "text"; readonly text: string }
  /** A quantity with a unit that is not part of its value, kept where it tells times of day apart. */
  | { readonly t: "halfday"; readonly half: "am" | "pm"; readonly a: Node }
  /** Things in brackets: a point, an interval, a vector. */
  | {
    readonly t: "tuple";
    readonly open: string;
    readonly close: string;
    readonly items: readonly Node[];
  }
  /** Several answers side by side, in bare braces or none; `by` is what joins them. */
  | { readonly t: "list"; readonly items: readonly Node[]; readonly by: "comma" | "and" | "or" }
  | { readonly t: "set"; readonly items: readonly Node[]; readonly condition?: Node }
  | { readonly t: "reals" }
  | { readonly t: "setop"; readonly op: SetOperator; readonly a: Node; readonly b: Node }
  | {
    readonly t: "matrix";
    readonly rows: readonly (readonly Node[])[];
    readonly determinant: boolean;
  }
  | {
    readonly t: "relation";
    readonly sides: readonly Node[];
    readonly ops: readonly RelationOperator[];
  };

export type Of<T extends Node["t"]> = Extract<Node, { t: T }>;

/** The nodes right below `node`. */
export function children(node: Node): readonly Node[] {
  switch (node.t) {
    case "add":
      return node.terms;
    case "multiply":
      return node.factors;
    case "divide":
    case "setop":
      return [node.a, node.b];
    case "negate":
    case "plusminus":
    case "degrees":
    case "percent":
    case "halfday":
      return [node.a];
    case "power":
      return [node.base, node.exponent];
    case "root":
      return [node.index, node.a];
    case "call":
      return node.args;
    case "big":
    case "ratio":
      return node.parts;
    case "tuple":
    case "list":
      return node.items;
    case "set":
      return node.condition === undefined ? node.items : [...node.items, node.condition];
    case "matrix":
      return node.rows.flat();
    case "relation":
      return node.sides;
    case "number":
    case "symbol":
    case "constant":
    case "based":
    case "text":
    case "reals":
      return [];
    default:
      return node satisfies never;
  }
}

/** Whether `node` or anything in it satisfies `test`. */
export function some(node: Node, test: (node: Node) => boolean): boolean {
  return test(node) || children(node).some((child) => some(child, test));
}

const structural: ReadonlySet<Node["t"]> = new Set<Node["t"]>([
  "plusminus",
  "based",
  "ratio",
  "text",
  "halfday",
  "tuple",
  "list",
  "set",
  "reals",
  "setop",
  "matrix",
  "relation",
]);

/** Whether `node` is a plain expression with a value, free of structure. */
export function isExpression(node: Node): boolean {
  return !some(node, ({ t }) => structural.has(t));
}

/** Names of the free symbols in `node`, sorted. */
export function symbolsIn(node: Node): string[] {
  const names = new Set<string>();
  some(node, (each) => {
    if (each.t === "symbol") names.add(each.name);
    return false;
  });
  return [...names].sort();
}
