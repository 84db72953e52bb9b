/**
 * A PDDL domain: types, predicates and actions. Games of one data version share their domain, so a
 * parsed domain is kept and reused (`domainOf`).
 */
import { type Effect, type Formula, headed, parseEffects, parseFormula } from "./formula.ts";
import { parseTyped, truth, type Typed, type Vocabulary } from "./formula.ts";
import { describe, type List, type Node, parseLists } from "./lists.ts";
import { quoted, type Source } from "./source.ts";

export interface Predicate {
  readonly id: number;
  readonly name: string;
  readonly arity: number;
  /** Whether some action can change it. */
  readonly fluent: boolean;
}

export interface Action {
  readonly name: string;
  readonly parameters: readonly Typed[];
  readonly precondition: Formula;
  readonly effects: readonly Effect[];
}

export interface Domain {
  readonly name: string;
  /** Every declared type with itself and all its supertypes. */
  readonly types: ReadonlyMap<string, ReadonlySet<string>>;
  readonly constants: readonly Typed[];
  readonly predicates: ReadonlyMap<string, Predicate>;
  readonly actions: readonly Action[];
}

const parsed = new Map<string, WeakRef<Domain>>();

/** The domain in `source`, parsed once per text. @throws {UserError} with the line */
export function domainOf(source: Source): Domain {
  const known = parsed.get(source.text)?.deref();
  if (known !== undefined) return known;
  for (const [text, domain] of parsed) if (domain.deref() === undefined) parsed.delete(text);
  const domain = parseDomain(source);
  parsed.set(source.text, new WeakRef(domain));
  return domain;
}

/** `(define (WHAT name) ...)`: the name and the remaining sections. */
export function definition(source: Source, what: string): { name: string; sections: Node[] } {
  const root = parseLists(source);
  const [define, title, ...sections] = root.items;
  if (define?.text !== "define") source.fail(root.line, "'define'", describe(define));
  if (title === undefined) source.fail(root.line, `'(${what} NAME)'`, "the end of the list");
  const { head, list } = headed(source, title, `'(${what} NAME)'`);
  const name = list.items[1];
  if (head !== what || list.items.length !== 2 || name?.text === undefined) {
    source.fail(list.line, `'(${what} NAME)'`, describe(list));
  }
  return { name: name.text, sections };
}

function parseDomain(source: Source): Domain {
  const { name, sections } = definition(source, "domain");
  const types = new Map([["object", ["object"]]]);
  const constants: Typed[] = [];
  const arities = new Map<string, { arity: number }>();
  const actionLists: List[] = [];
  const seen = new Set<string>();
  for (const section of sections) {
    const { head, list } = headed(source, section, "a section such as '(:action ...)'");
    const rest = list.items.slice(1);
    if (head !== ":action") {
      if (seen.has(head)) source.fail(list.line, `one '${head}' section`, "a second");
      seen.add(head);
    }
    switch (head) {
      case ":requirements":
      case ":functions":
        break;
      case ":types":
        for (const { name, type } of parseTyped(source, rest)) types.set(name, [name, type]);
        break;
      case ":constants":
        constants.push(...parseTyped(source, rest));
        break;
      case ":predicates":
        for (const node of rest) {
          const { head, list } = headed(source, node, "a predicate with its parameters");
          arities.set(head, { arity: parseTyped(source, list.items.slice(1), true).length });
        }
        break;
      case ":action":
        actionLists.push(list);
        break;
      default:
        source.fail(
          list.line,
          ":requirements, :types, :constants, :predicates, :functions or :action",
          quoted(head),
        );
    }
  }
  const vocabulary: Vocabulary = {
    source,
    predicates: arities,
    objects: new Set(constants.map((each) => each.name)),
  };
  const actions = actionLists.map((list) => parseAction({ ...vocabulary, objects: anyName }, list));
  const names = new Set<string>();
  for (const [index, { name }] of actions.entries()) {
    if (names.has(name)) {
      source.fail(actionLists[index]!.line, "one action of a name", quoted(name));
    }
    names.add(name);
  }
  const changed = new Set(
    actions.flatMap((action) => action.effects.map((effect) => effect.atom.predicate)),
  );
  const predicates = new Map<string, Predicate>();
  for (const [name, { arity }] of arities) {
    predicates.set(name, { id: predicates.size, name, arity, fluent: changed.has(name) });
  }
  return { name, types: closure(types), constants, predicates, actions };
}

/** Names of objects in a domain's actions are those of the problem, not known yet. */
const anyName = { has: () => true };

/** Each type with all that it descends from; types that nothing declares have no ancestors. */
function closure(types: ReadonlyMap<string, readonly string[]>): Map<string, Set<string>> {
  const result = new Map<string, Set<string>>();
  for (const name of types.keys()) {
    const all = new Set<string>();
    const open = [name];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      if (all.has(next)) continue;
      all.add(next);
      open.push(...(types.get(next) ?? []));
    }
    result.set(name, all);
  }
  return result;
}

function parseAction(vocabulary: Vocabulary, list: List): Action {
  const source: Source = vocabulary.source;
  const name = list.items[1];
  if (name?.text === undefined) source.fail(list.line, "an action's name", describe(name));
  const parts = new Map<string, Node>();
  for (let at = 2; at < list.items.length; at += 2) {
    const [key, value] = [list.items[at]!, list.items[at + 1]];
    if (
      key.text !== ":parameters" && key.text !== ":precondition" && key.text !== ":effect"
    ) source.fail(key.line, ":parameters, :precondition or :effect", describe(key));
    if (value?.items === undefined) {
      source.fail(key.line, `a list after ${key.text}`, describe(value));
    }
    if (parts.has(key.text)) source.fail(key.line, `one ${key.text}`, "a second");
    parts.set(key.text, value);
  }
  const parameters = parseTyped(source, parts.get(":parameters")?.items ?? [], true);
  const scope = new Set(parameters.map((each) => each.name));
  const condition = parts.get(":precondition");
  const effect = parts.get(":effect");
  if (effect === undefined) source.fail(list.line, `an :effect in action '${name.text}'`);
  return {
    name: name.text,
    parameters,
    precondition: condition === undefined ? truth : parseFormula(vocabulary, condition, scope),
    effects: parseEffects(vocabulary, effect, scope),
  };
}
