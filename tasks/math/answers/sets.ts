/**
 * Sets of real numbers as unions of intervals: from intervals, unions, inequalities and set-builders.
 * Ends are ordered by their values in doubles and kept as expressions, to be compared exactly.
 */
import { type Node, type Of, type RelationOperator, symbolsIn } from "./node.ts";
import { normalForm } from "./normal_form.ts";
import { realValue } from "./numeric.ts";
import { integer } from "./parse.ts";
import { addPolynomials, attempt, constantOf } from "./polynomial.ts";
import * as q from "./rational.ts";

interface End {
  readonly value: number;
  readonly node: Node;
}

/** From `low` to `high`, each end in it or not; a point is both ends. */
export interface Piece {
  readonly low: End;
  readonly high: End;
  readonly hasLow: boolean;
  readonly hasHigh: boolean;
}

/** Pieces in order that neither overlap nor touch. */
export type RealSet = readonly Piece[];

const infinite = (sign: 1 | -1): End => ({
  value: sign * Infinity,
  node: sign > 0
    ? { t: "constant", name: "infinity" }
    : { t: "negate", a: { t: "constant", name: "infinity" } },
});
const all: RealSet = [{ low: infinite(-1), high: infinite(1), hasLow: false, hasHigh: false }];

/** An end of an interval; undefined where it has no real value. */
function end(node: Node): End | undefined {
  if (symbolsIn(node).length > 0) return undefined;
  const value = realValue(node);
  if (value === undefined) return undefined;
  return Math.abs(value) === Infinity ? infinite(value > 0 ? 1 : -1) : { value, node };
}

const close = (a: number, b: number) =>
  a === b || (Number.isFinite(a) && Math.abs(a - b) <= 1e-11 * Math.max(1, Math.abs(a)));

/** A set of one piece, empty where its ends say so. */
function piece(low: End, high: End, hasLow: boolean, hasHigh: boolean): RealSet {
  const point = close(low.value, high.value);
  if (point ? !(hasLow && hasHigh) : low.value > high.value) return [];
  return [{
    low,
    high,
    hasLow: hasLow && low.value !== -Infinity,
    hasHigh: hasHigh && high.value !== Infinity,
  }];
}

function union(a: RealSet, b: RealSet): RealSet {
  const sorted = [...a, ...b].sort((x, y) =>
    close(x.low.value, y.low.value)
      ? Number(y.hasLow) - Number(x.hasLow)
      : x.low.value - y.low.value
  );
  const merged: Piece[] = [];
  for (const next of sorted) {
    const last = merged.at(-1);
    const meets = last !== undefined &&
      (close(last.high.value, next.low.value)
        ? last.hasHigh || next.hasLow
        : next.low.value < last.high.value);
    if (last === undefined || !meets) {
      merged.push(next);
      continue;
    }
    const same = close(last.high.value, next.high.value);
    const further = same ? last.hasHigh : last.high.value > next.high.value;
    merged[merged.length - 1] = {
      ...last,
      high: further ? last.high : next.high,
      hasHigh: same ? last.hasHigh || next.hasHigh : further ? last.hasHigh : next.hasHigh,
    };
  }
  return merged;
}

function complement(set: RealSet): RealSet {
  const gaps: Piece[] = [];
  let [low, hasLow] = [infinite(-1), false];
  for (const { low: from, high: to, hasLow: includes, hasHigh } of set) {
    gaps.push(...piece(low, from, hasLow, from.value !== -Infinity && !includes));
    [low, hasLow] = [to, !hasHigh];
  }
  if (low.value !== Infinity) gaps.push(...piece(low, infinite(1), hasLow, false));
  return gaps;
}

const intersection = (a: RealSet, b: RealSet) => complement(union(complement(a), complement(b)));

/** Solves `a op b` for its one symbol, where that is linear. */
function solve(a: Node, op: RelationOperator, b: Node): RealSet | undefined {
  const flipped: Partial<Record<RelationOperator, RelationOperator>> = {
    "<": ">",
    ">": "<",
    "<=": ">=",
    ">=": "<=",
  };
  const from = (op: RelationOperator | undefined, bound: End): RealSet | undefined => {
    switch (op) {
      case "<":
      case "<=":
        return piece(infinite(-1), bound, false, op === "<=");
      case ">":
      case ">=":
        return piece(bound, infinite(1), op === ">=", false);
      case "=":
        return piece(bound, bound, true, true);
      case "!=":
        return complement(piece(bound, bound, true, true));
      default:
        return undefined;
    }
  };
  for (const [symbol, bound, turned] of [[a, b, false], [b, a, true]] as const) {
    const limit = symbol.t === "symbol" ? end(bound) : undefined;
    if (limit !== undefined) return from(turned ? flipped[op] ?? op : op, limit);
  }
  const [name, ...others] = symbolsIn({ t: "add", terms: [a, b] });
  if (name === undefined || others.length > 0) return undefined;
  const linear = attempt(() => {
    const [x, y] = [normalForm(a), normalForm(b)];
    const [c, d] = [constantOf(x.denominator), constantOf(y.denominator)];
    if (c === undefined || d === undefined) return undefined;
    const left = addPolynomials(new Map(), x.numerator, q.divide(q.one, c));
    const gap = addPolynomials(left, y.numerator, q.negate(q.divide(q.one, d)));
    const [slope, rest] = [gap.get(name)?.coefficient, gap.get("")?.coefficient ?? q.zero];
    return slope === undefined || gap.size !== (rest.n === 0n ? 1 : 2)
      ? undefined
      : { slope, rest };
  });
  if (linear === undefined) return undefined;
  const root = q.negate(q.divide(linear.rest, linear.slope));
  const node: Node = { t: "divide", a: integer(root.n), b: integer(root.d) };
  return from(linear.slope.n < 0n ? flipped[op] ?? op : op, { value: q.toNumber(root), node });
}

function fromRelation({ sides, ops }: Of<"relation">): RealSet | undefined {
  if (ops[0] === "in" && ops.length === 1) return toRealSet(sides[1]!);
  let set: RealSet | undefined = all;
  for (const [i, op] of ops.entries()) {
    const part = op === "in" ? toRealSet(sides[i + 1]!) : solve(sides[i]!, op, sides[i + 1]!);
    if (part === undefined) return undefined;
    set = intersection(set, part);
  }
  return set;
}

const combine = (sets: (RealSet | undefined)[], by: (a: RealSet, b: RealSet) => RealSet) =>
  sets.every((set) => set !== undefined) ? sets.reduce(by, sets[0] ?? []) : undefined;

function points(items: readonly Node[]): RealSet | undefined {
  return combine([
    [],
    ...items.map((item) => {
      const at = end(item);
      return at === undefined ? undefined : piece(at, at, true, true);
    }),
  ], union);
}

/** The set of real numbers that a node describes; undefined where it describes none. */
export function toRealSet(node: Node): RealSet | undefined {
  switch (node.t) {
    case "reals":
      return all;
    case "tuple": {
      const [low, high] = node.items.map(end);
      if (node.items.length !== 2 || low === undefined || high === undefined || node.open === "<") {
        return undefined;
      }
      if (!(low.value < high.value)) return undefined;
      return piece(low, high, node.open === "[", node.close === "]");
    }
    case "set":
      if (node.condition === undefined) return points(node.items);
      if (node.items.length !== 1) return undefined;
      if (node.items[0]!.t === "relation") {
        return combine([node.items[0]!, node.condition].map(toRealSet), intersection);
      }
      return toRealSet(node.condition);
    case "relation":
      return fromRelation(node);
    case "list":
      return combine(node.items.map(toRealSet), node.by === "or" ? union : intersection);
    case "setop": {
      const sets = [toRealSet(node.a), toRealSet(node.b)];
      return combine(
        sets,
        {
          union,
          intersection,
          difference: (a: RealSet, b: RealSet) => intersection(a, complement(b)),
        }[node.op],
      );
    }
    default:
      return undefined;
  }
}

/** Whether a node is a set of numbers beyond doubt: not a point `(a, b)`, a list or an equation. */
export function isSetOfReals(node: Node): boolean {
  switch (node.t) {
    case "reals":
    case "setop":
      return true;
    case "tuple":
      return node.items.length === 2 && (node.open === "[" || node.close === "]" ||
        node.items.some((item) => Math.abs(realValue(item) ?? 0) === Infinity));
    case "set":
      return node.condition !== undefined || node.items.length === 0;
    case "relation":
      return node.ops.some((op) => op !== "=");
    case "list":
      return node.items.every((item) =>
        isSetOfReals(item) ||
        (node.by === "or" && toRealSet(item) !== undefined && item.t === "tuple")
      );
    default:
      return false;
  }
}
