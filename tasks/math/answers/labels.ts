/**
 * What an answer is called and what it is: in `x = 5`, `P(A) = \frac{1}{2}`, `(x, y) = (1, 2)` and
 * `125 + 7 = 132` the value is what counts, and the name only where both sides give one.
 */
import { type Node, some } from "./node.ts";

export interface Labelled {
  readonly value: Node;
  /** The name in front, written out; undefined where there is none. */
  readonly label?: string;
  /** Whether the name is one symbol. */
  readonly simple?: boolean;
}

/** The name that a node is, written out; undefined where it is an expression. */
function nameOf(node: Node): string | undefined {
  const joined = (parts: readonly Node[], by: string) => {
    const names = parts.map(nameOf);
    return names.every((name) => name !== undefined) ? names.join(by) : undefined;
  };
  switch (node.t) {
    case "symbol":
      return node.name;
    case "text":
      return node.text;
    case "constant":
      return node.name === "e" || node.name === "i" ? node.name : undefined;
    case "call": {
      const inner = joined(node.args, ",");
      return inner && `${node.name}(${inner})`;
    }
    case "multiply":
      return joined(node.factors, "");
    case "tuple":
      return joined(node.items, ",");
    case "ratio":
      return joined(node.parts, ":");
    case "list":
      return joined(node.items, ",");
    default:
      // A function of a number has a name too: f(2) = 5.
      return undefined;
  }
}

const isFunctionValue = (node: Node) =>
  node.t === "multiply" && node.factors.length === 2 && node.factors[0]!.t === "symbol" &&
  (node.factors[1]!.t === "number" || node.factors[1]!.t === "negate") &&
  /^[fghpqFGPVATS]$/.test(node.factors[0]!.name);

const isNumeric = (node: Node) => !some(node, ({ t }) => t === "symbol" || t === "text");

function mentions(node: Node, label: string): boolean {
  return some(node, (each) => each.t === "symbol" && each.name === label);
}

/** Takes the name off an answer, and the way it was computed. */
export function unlabel(node: Node): Labelled {
  if (node.t !== "relation") return { value: node };
  const { sides, ops } = node;
  if (ops.length === 1 && ops[0] === "in") {
    const label = nameOf(sides[0]!);
    return label === undefined ? { value: node } : { value: sides[1]!, label, simple: true };
  }
  if (ops.some((op) => op !== "=")) return { value: node };
  const [first, last] = [sides[0]!, sides.at(-1)!];
  for (const [name, value] of [[first, last], [last, first]] as const) {
    const label = nameOf(name) ?? (isFunctionValue(name) ? "f()" : undefined);
    if (label === undefined || (value === first && sides.length > 2)) continue;
    const simple = name.t === "symbol";
    if (simple && mentions(value, label)) continue;
    return { value, label, simple };
  }
  // A computation: its end is the answer.
  if (sides.length > 2 || isNumeric(first)) return { value: last };
  return { value: node };
}
