/**
 * Text from grammar rules and a state of the world, as TextWorld derives it: queries bind different
 * entities to different variables, answers come in the order of ids, the first rule that applies wins.
 */
import type { Domain } from "./domain.ts";
import { asText, type Entity } from "./expression.ts";
import { type Grammar, grammarFault } from "./grammar.ts";
import type { Grounding } from "./ground.ts";
import type { Problem } from "./problem.ts";
import type { Query } from "./query.ts";
import { GrammarProblem } from "./grammar_problem.ts";
import type { Choice, Symbol } from "./symbols.ts";

/** Variables in force, the latest first. */
export interface Context {
  readonly name: string;
  readonly type: string;
  readonly object: number;
  readonly outer: Context | undefined;
}

/** Which facts hold, and which were made false by an action: a bit a fact. */
export interface Facts {
  readonly truth: Uint32Array;
  readonly denied: Uint32Array;
}

/** More symbols than any real text has; a guard against rules that never end. */
const mostSymbols = 100_000;

/** Tells about one game. */
export class Teller {
  #budget = 0;
  /** The rule that was followed last, for messages. */
  #latest = "";

  /** @param names what players call an object, by object */
  constructor(
    readonly domain: Domain,
    readonly grammar: Grammar,
    readonly grounding: Grounding,
    readonly problem: Problem,
    readonly names: readonly string[],
  ) {}

  /** @throws {UserError} where the grammar lacks a rule or does not end */
  tell(symbols: readonly Symbol[], context: Context | undefined, facts: Facts): string {
    this.#budget = mostSymbols;
    const parts: string[] = [];
    try {
      this.#all(symbols, context, facts, parts, 0);
    } catch (error) {
      if (error instanceof GrammarProblem) grammarFault(this.grammar, error);
      throw error;
    }
    return parts.join("");
  }

  #all(
    symbols: readonly Symbol[],
    context: Context | undefined,
    facts: Facts,
    parts: string[],
    depth: number,
  ): void {
    for (const symbol of symbols) {
      switch (symbol.kind) {
        case "text":
          this.#spend(depth);
          parts.push(symbol.text);
          break;
        case "rule":
          this.#rule(symbol.name, context, facts, parts, depth);
          break;
        case "choice":
          for (const each of this.#answers(symbol, context, facts)) {
            this.#content(symbol, each, facts, parts, depth);
          }
          break;
        case "list":
          this.#list(symbol.choice, context, facts, parts, depth);
          break;
        default:
          symbol satisfies never;
      }
    }
  }

  #spend(depth: number): void {
    if (--this.#budget >= 0 && depth <= 500) return;
    const rule = this.#latest;
    throw new GrammarProblem(
      "rules that come to an end",
      `none at '${rule}'`,
      JSON.stringify(rule),
    );
  }

  #rule(
    name: string,
    context: Context | undefined,
    facts: Facts,
    parts: string[],
    depth: number,
  ): void {
    this.#latest = name;
    this.#spend(depth);
    const rules = this.grammar.rules(name);
    if (rules === undefined || rules.length === 0) {
      throw new GrammarProblem(`a rule '${name}'`, "none", `#${name}#`);
    }
    const rule = rules.find(({ condition }) =>
      condition === undefined || this.#query(condition, context, facts, 1).length > 0
    );
    if (rule === undefined) {
      throw new GrammarProblem(
        `a condition of rule '${name}' that holds`,
        "none",
        JSON.stringify(name),
      );
    }
    this.#all(rule.symbols, context, facts, parts, depth + 1);
  }

  /** Contexts to tell a choice's content in. */
  #answers(choice: Choice, context: Context | undefined, facts: Facts): (Context | undefined)[] {
    if (choice.query === undefined) return [context];
    return this.#query(choice.query, context, facts, Infinity);
  }

  #content(
    { content }: Choice,
    context: Context | undefined,
    facts: Facts,
    parts: string[],
    depth: number,
  ): void {
    this.#spend(depth);
    if (content.kind === "rule") this.#rule(content.name, context, facts, parts, depth + 1);
    else parts.push(asText(content.evaluate((name) => this.#entity(name, context, content.text))));
  }

  #entity(name: string, context: Context | undefined, text: string): Entity {
    for (let each = context; each !== undefined; each = each.outer) {
      if (each.name !== name) continue;
      const { object } = each;
      const { objects, types } = this.problem;
      return { id: objects[object]!, type: types[object]!, name: this.names[object]! };
    }
    throw new GrammarProblem(`something called '${name}'`, `nothing, in '{${text}}'`, text);
  }

  /** "a", "a, and b", "a, b, and c"; the words between are rules of the grammar. */
  #list(
    choice: Choice,
    context: Context | undefined,
    facts: Facts,
    parts: string[],
    depth: number,
  ): void {
    const answers = this.#answers(choice, context, facts);
    if (answers.length === 0) this.#rule("list_empty", context, facts, parts, depth + 1);
    answers.forEach((each, index) => {
      if (index > 0) {
        const separator = index === answers.length - 1 ? "list_last_separator" : "list_separator";
        this.#rule(separator, context, facts, parts, depth + 1);
      }
      this.#content(choice, each, facts, parts, depth);
    });
  }

  /** Up to `most` contexts, `context` with the query's variables bound. */
  #query(
    query: Query,
    context: Context | undefined,
    facts: Facts,
    most: number,
  ): (Context | undefined)[] {
    const found: (Context | undefined)[] = [];
    const { placeholders, atoms } = query;
    const values = new Int32Array(placeholders.length).fill(-1);
    const bound = placeholders.map(({ name, type }, index) => {
      for (let each = context; each !== undefined; each = each.outer) {
        if (each.name === name && each.type === type) {
          values[index] = each.object;
          return true;
        }
      }
      return false;
    });
    const used = (object: number) => {
      if (values.includes(object)) return true;
      for (let each = context; each !== undefined; each = each.outer) {
        if (each.object === object) return true;
      }
      return false;
    };
    const { factArgs, stride, predicateStart } = this.grounding;
    const isOf = (object: number, type: string) =>
      this.domain.types.get(this.problem.types[object]!)?.has(type) ?? false;

    const solve = (depth: number): void => {
      const atom = atoms[depth];
      if (atom === undefined) {
        let extended = context;
        placeholders.forEach(({ name, type }, index) => {
          if (!bound[index]) extended = { name, type, object: values[index]!, outer: extended };
        });
        found.push(extended);
        return;
      }
      const predicate = this.domain.predicates.get(atom.predicate);
      if (predicate === undefined || predicate.arity !== atom.args.length) return;
      const bits = atom.negated ? facts.denied : facts.truth;
      const fresh: number[] = [];
      const matches = (fact: number): boolean => {
        for (let at = 0; at < atom.args.length; at++) {
          const place = atom.args[at]!;
          const object = factArgs[fact * stride + at]!;
          if (values[place]! >= 0) {
            if (values[place] !== object) return false;
          } else {
            if (used(object) || !isOf(object, placeholders[place]!.type)) return false;
            values[place] = object;
            fresh.push(place);
          }
        }
        return true;
      };
      const end = predicateStart[predicate.id + 1]!;
      for (let fact = nextBit(bits, predicateStart[predicate.id]!, end); fact < end;) {
        if (matches(fact)) solve(depth + 1);
        for (let place = fresh.pop(); place !== undefined; place = fresh.pop()) values[place] = -1;
        if (found.length >= most) return;
        fact = nextBit(bits, fact + 1, end);
      }
    };
    solve(0);
    return found;
  }
}

/** The first set bit from `start` on, or `end`. */
export function nextBit(bits: Uint32Array, start: number, end: number): number {
  let at = start;
  while (at < end) {
    const word = bits[at >> 5]! >>> (at & 31);
    if (word !== 0) return Math.min(end, at + 31 - Math.clz32(word & -word));
    at = (at | 31) + 1;
  }
  return end;
}
