/**
 * PDDL conditions and effects as trees, parsed from lists. Names are checked against what a domain
 * declares; variables against the scope they stand in.
 */
import { nearest } from "../../errors.ts";
import { describe, detached, type List, type Node } from "./lists.ts";
import { quoted, type Source } from "./source.ts";

/** A name with its declared type, e.g. `?o - object`. */
export interface Typed {
  readonly name: string;
  readonly type: string;
  readonly line: number;
}

/** `(predicate arg ...)`: arguments are variables (`?o`) or names of objects. */
export interface Atom {
  readonly kind: "atom";
  readonly predicate: string;
  readonly args: readonly string[];
  readonly line: number;
}

export type Formula =
  | Atom
  | { readonly kind: "not"; readonly part: Formula }
  | { readonly kind: "and" | "or"; readonly parts: readonly Formula[] }
  | {
    readonly kind: "exists" | "forall";
    readonly variables: readonly Typed[];
    readonly part: Formula;
  };

/** What happens where `condition` holds, for all values of `variables`. */
export interface Effect {
  readonly variables: readonly Typed[];
  readonly condition: Formula;
  readonly atom: Atom;
  readonly negated: boolean;
}

/** What a formula may mention. */
export interface Vocabulary {
  readonly source: Source;
  /** Number of arguments by predicate. */
  readonly predicates: ReadonlyMap<string, { readonly arity: number }>;
  /** Names that are not variables; undefined where any is taken (checked once objects are known). */
  readonly objects?: { has(name: string): boolean };
}

export const truth: Formula = { kind: "and", parts: [] };

/**
 * `a b - t c`: names with types, `object` where none is given. As in the translator that ALFWorld
 * uses, a comma is part of the word it touches.
 */
export function parseTyped(source: Source, nodes: readonly Node[], variables = false): Typed[] {
  const result: Typed[] = [];
  let names: { name: string; line: number }[] = [];
  for (let at = 0; at < nodes.length; at++) {
    const node = nodes[at]!;
    if (node.items !== undefined) source.fail(node.line, "a name", describe(node));
    if (node.text === "-") {
      const type = nodes[++at];
      if (type === undefined || type.items !== undefined) {
        source.fail(node.line, "a type after '-'", describe(type));
      }
      const kind = detached(type.text);
      result.push(...names.map((each) => ({ ...each, type: kind })));
      names = [];
    } else {
      if (variables !== node.text.startsWith("?")) {
        source.fail(
          node.line,
          variables ? "a variable that begins with '?'" : "a name",
          describe(node),
        );
      }
      names.push({ name: node.text, line: node.line });
    }
  }
  result.push(...names.map((each) => ({ ...each, type: "object" })));
  return result;
}

/** The node as a list with a word in front. */
export function headed(source: Source, node: Node, what: string): { head: string; list: List } {
  if (node.items === undefined) source.fail(node.line, what, describe(node));
  const head = node.items[0];
  if (head === undefined || head.items !== undefined) {
    source.fail(node.line, what, describe(node.items[0] ?? node));
  }
  return { head: head.text, list: node };
}

/** The only node after a list's head, or a complaint. */
function only(source: Source, list: List, count: number, form: string): readonly Node[] {
  const rest = list.items.slice(1);
  if (rest.length !== count) source.fail(list.line, form, `${rest.length} parts`);
  return rest;
}

function parseAtom(vocabulary: Vocabulary, node: Node, scope: ReadonlySet<string>): Atom {
  const { predicates, objects } = vocabulary;
  const source: Source = vocabulary.source;
  const { head, list } = headed(source, node, "a predicate with its arguments");
  const args = list.items.slice(1).map((arg) => {
    if (arg.items !== undefined) source.fail(arg.line, "a variable or an object", describe(arg));
    if (arg.text.startsWith("?") && !scope.has(arg.text)) {
      source.fail(arg.line, `a declared variable (${[...scope].join(" ") || "none"})`, arg.text);
    }
    if (!arg.text.startsWith("?") && objects !== undefined && !objects.has(arg.text)) {
      source.fail(arg.line, "the name of an object", quoted(arg.text));
    }
    return detached(arg.text);
  });
  const arity = head === "=" ? 2 : predicates.get(head)?.arity;
  if (arity === undefined) {
    const near = nearest(head, predicates.keys());
    source.fail(
      list.line,
      `a declared predicate${near === undefined ? "" : ` such as '${near}'`}`,
      quoted(head),
    );
  }
  if (arity !== args.length) {
    source.fail(list.line, `${arity} arguments for '${head}'`, String(args.length));
  }
  return { kind: "atom", predicate: detached(head), args, line: list.line };
}

/** @throws {UserError} with the line */
export function parseFormula(
  vocabulary: Vocabulary,
  node: Node,
  scope: ReadonlySet<string>,
): Formula {
  const source: Source = vocabulary.source;
  if (node.items?.length === 0) return truth;
  const { head, list } = headed(source, node, "a condition");
  const parse = (part: Node) => parseFormula(vocabulary, part, scope);
  switch (head) {
    case "and":
    case "or":
      return { kind: head, parts: list.items.slice(1).map(parse) };
    case "not":
      return { kind: "not", part: parse(only(source, list, 1, "one condition after 'not'")[0]!) };
    case "imply": {
      const [left, right] = only(source, list, 2, "two conditions after 'imply'");
      return { kind: "or", parts: [{ kind: "not", part: parse(left!) }, parse(right!)] };
    }
    case "exists":
    case "forall": {
      const [names, part] = only(source, list, 2, `variables and one condition after '${head}'`);
      if (names!.items === undefined) source.fail(list.line, "a list of variables");
      const variables = parseTyped(source, names!.items, true);
      const inner = new Set([...scope, ...variables.map((each) => each.name)]);
      return { kind: head, variables, part: parseFormula(vocabulary, part!, inner) };
    }
    default:
      return parseAtom(vocabulary, node, scope);
  }
}

/** Effects, flattened. Costs (`increase`) say nothing about the state and are left out. */
export function parseEffects(
  vocabulary: Vocabulary,
  node: Node,
  scope: ReadonlySet<string>,
): Effect[] {
  const source: Source = vocabulary.source;
  if (node.items?.length === 0) return [];
  const { head, list } = headed(source, node, "an effect");
  switch (head) {
    case "and":
      return list.items.slice(1).flatMap((part) => parseEffects(vocabulary, part, scope));
    case "increase":
      only(source, list, 2, "a function and an amount after 'increase'");
      return [];
    case "forall": {
      const [names, part] = only(source, list, 2, "variables and one effect after 'forall'");
      if (names!.items === undefined) source.fail(list.line, "a list of variables");
      const variables = parseTyped(source, names!.items, true);
      const inner = new Set([...scope, ...variables.map((each) => each.name)]);
      return parseEffects(vocabulary, part!, inner)
        .map((effect) => ({ ...effect, variables: [...variables, ...effect.variables] }));
    }
    case "when": {
      const [given, part] = only(source, list, 2, "a condition and an effect after 'when'");
      const condition = parseFormula(vocabulary, given!, scope);
      return parseEffects(vocabulary, part!, scope).map((effect) => ({
        ...effect,
        condition: { kind: "and", parts: [condition, effect.condition] },
      }));
    }
    case "not": {
      const [part] = only(source, list, 1, "one predicate after 'not'");
      const atom = parseAtom(vocabulary, part!, scope);
      return [{ variables: [], condition: truth, atom, negated: true }];
    }
    default: {
      if (head === "=") source.fail(list.line, "an effect", "'='");
      const atom = parseAtom(vocabulary, node, scope);
      return [{ variables: [], condition: truth, atom, negated: false }];
    }
  }
}
