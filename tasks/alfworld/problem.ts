/**
 * A PDDL problem: objects, what holds at the start, the goal. Objects are numbered in the order of
 * their names, which is the order in which the original lists them.
 */
import { definition, type Domain } from "./domain.ts";
import { type Formula, headed, parseFormula, parseTyped, type Typed } from "./formula.ts";
import { describe, detached, type Node } from "./lists.ts";
import { sharedText } from "./shared_text.ts";
import { quoted, type Source } from "./source.ts";

export interface Problem {
  readonly name: string;
  /** Names in ascending order; an object's number is its place. */
  readonly objects: readonly string[];
  /** Declared type by object. */
  readonly types: readonly string[];
  /** What holds at the start, flat: predicate's id, then its arguments, then the next. */
  readonly init: Uint16Array;
  readonly goal: Formula;
}

/** Most objects and predicates that a problem may have: they are stored in 16 bits. */
const mostObjects = 65_000;

/** @throws {UserError} with the line */
export function parseProblem(source: Source, domain: Domain): Problem {
  const { name, sections } = definition(source, "problem");
  const parts = new Map<string, { rest: readonly Node[]; line: number }>();
  for (const section of sections) {
    const { head, list } = headed(source, section, "a section such as '(:init ...)'");
    if (![":domain", ":requirements", ":objects", ":init", ":goal", ":metric"].includes(head)) {
      source.fail(list.line, ":domain, :objects, :init, :goal or :metric", quoted(head));
    }
    if (parts.has(head)) source.fail(list.line, `one '${head}' section`, "a second");
    parts.set(head, { rest: list.items.slice(1), line: list.line });
  }
  const required = (key: string) =>
    parts.get(key) ?? source.fail(source.lineAt(source.text.length), `a '${key}' section`);

  const { rest: [domainName], line } = required(":domain");
  if (domainName?.text !== domain.name) {
    source.fail(line, `the domain's name '${domain.name}'`, describe(domainName));
  }
  const declared = [
    ...domain.constants,
    ...parseTyped(source, parts.get(":objects")?.rest ?? []),
  ];
  const types = typesByName(source, domain, declared);
  const objects = [...types.keys()].sort().map((name) => sharedText(detached(name)));
  const numbers = new Map(objects.map((name, number) => [name, number]));
  const { rest: [goal, ...more], line: goalLine } = required(":goal");
  if (goal === undefined || more.length > 0) source.fail(goalLine, "one condition in ':goal'");
  return {
    name: detached(name),
    objects,
    types: objects.map((name) => types.get(name)!),
    init: parseInit(source, domain, required(":init").rest, numbers),
    goal: parseFormula(
      { source, predicates: domain.predicates, objects: numbers },
      goal,
      new Set(),
    ),
  };
}

function typesByName(source: Source, domain: Domain, declared: Typed[]): Map<string, string> {
  const known = new Map([...domain.types.keys()].map((name) => [name, name]));
  const types = new Map<string, string>();
  for (const { name, type, line } of declared) {
    if (types.has(name)) source.fail(line, "one object of a name", quoted(name));
    types.set(name, known.get(type) ?? source.fail(line, "a declared type", quoted(type)));
  }
  if (types.size > mostObjects) source.fail(1, `at most ${mostObjects} objects`, `${types.size}`);
  return types;
}

function parseInit(
  source: Source,
  domain: Domain,
  nodes: readonly Node[],
  numbers: ReadonlyMap<string, number>,
): Uint16Array {
  const flat: number[] = [];
  if (domain.predicates.size > mostObjects) source.fail(1, `at most ${mostObjects} predicates`);
  for (const node of nodes) {
    const { head, list } = headed(source, node, "a fact");
    // Numbers (costs, distances) and what does not hold say nothing: unstated facts are false.
    if (head === "=" || head === "not") continue;
    const predicate = domain.predicates.get(head);
    if (predicate === undefined) {
      source.fail(list.line, "a declared predicate", quoted(head));
    }
    if (list.items.length - 1 !== predicate.arity) {
      source.fail(
        list.line,
        `${predicate.arity} arguments for '${head}'`,
        `${list.items.length - 1}`,
      );
    }
    flat.push(predicate.id);
    for (let at = 1; at < list.items.length; at++) {
      const arg = list.items[at]!;
      const number = arg.text === undefined ? undefined : numbers.get(arg.text);
      if (number === undefined) source.fail(arg.line, "the name of an object", describe(arg));
      flat.push(number);
    }
  }
  return Uint16Array.from(flat);
}
