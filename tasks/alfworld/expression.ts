/**
 * The expressions in braces of TextWorld's grammars, which the original hands to Python: attributes
 * of entities, texts, `+`, `or`, `and`, `not`, `a if b else c`, brackets. Nothing else is understood,
 * and nothing is ever run.
 */
import { GrammarProblem } from "./grammar_problem.ts";

/** What expressions know of an entity. */
export interface Entity {
  readonly id: string;
  readonly type: string;
  readonly name: string;
}

export type Value = string | null | Entity;

/** An expression, ready to be evaluated; `names` are the variables that it mentions. */
export interface Expression {
  readonly kind: "expression";
  readonly text: string;
  readonly names: readonly string[];
  evaluate(lookup: (name: string) => Entity): Value;
}

type Evaluate = Expression["evaluate"];

const tokens = /\s*(?:([A-Za-z_]\w*)|'([^']*)'|"([^"]*)"|([.+()]))\s*/y;

/** Attributes of the original's entities, those that ALFWorld's games leave empty included. */
const attributes: Readonly<Record<string, (entity: Entity) => Value>> = {
  id: (entity) => entity.id,
  type: (entity) => entity.type,
  name: (entity) => entity.name,
  definite: () => "the",
  indefinite: () => "a",
  noun: () => null,
  adj: () => null,
  desc: () => null,
  room_type: () => null,
  synonyms: () => null,
};

const truthy = (value: Value) => value !== null && value !== "";

/** A value as text, as Python's `str` has it. */
export function asText(value: Value): string {
  if (value === null) return "None";
  return typeof value === "string" ? value : value.name;
}

/** @throws {GrammarProblem} */
export function parseExpression(text: string): Expression {
  const parser = new Parser(text);
  const evaluate = parser.conditional();
  parser.end();
  return { kind: "expression", text, names: [...parser.names], evaluate };
}

/** A token: a word (names and keywords), a text, or a sign. */
type Token = { word: string } | { string: string } | { sign: string };

class Parser {
  readonly names = new Set<string>();
  readonly #tokens: Token[] = [];
  #at = 0;
  #depth = 0;

  constructor(readonly text: string) {
    tokens.lastIndex = 0;
    let end = 0;
    for (let found = tokens.exec(text); found !== null; found = tokens.exec(text)) {
      const [, word, single, double, sign] = found;
      if (word !== undefined) this.#tokens.push({ word });
      else if (sign !== undefined) this.#tokens.push({ sign });
      else this.#tokens.push({ string: single ?? double ?? "" });
      end = tokens.lastIndex;
    }
    if (end !== text.length) this.#fail(`'${text.slice(end, end + 20)}'`);
  }

  #fail(found: string): never {
    throw new GrammarProblem(
      `an expression such as "o.indefinite + ' ' + o.name" in braces`,
      `${found} in '{${this.text}}'`,
    );
  }

  #take(kind: "word" | "sign", value: string): boolean {
    const token = this.#tokens[this.#at] as Record<string, string> | undefined;
    if (token?.[kind] !== value) return false;
    this.#at++;
    return true;
  }

  end(): void {
    if (this.#at < this.#tokens.length) this.#fail("more than one expression");
  }

  conditional(): Evaluate {
    if (++this.#depth > 50) this.#fail("brackets more than 50 deep");
    const value = this.#or();
    this.#depth--;
    if (!this.#take("word", "if")) return value;
    const condition = this.#or();
    if (!this.#take("word", "else")) this.#fail("'if' without 'else'");
    const other = this.conditional();
    return (lookup) => truthy(condition(lookup)) ? value(lookup) : other(lookup);
  }

  #or(): Evaluate {
    let left = this.#and();
    while (this.#take("word", "or")) {
      const [first, second] = [left, this.#and()];
      left = (lookup) => {
        const value = first(lookup);
        return truthy(value) ? value : second(lookup);
      };
    }
    return left;
  }

  #and(): Evaluate {
    let left = this.#sum();
    while (this.#take("word", "and")) {
      const [first, second] = [left, this.#sum()];
      left = (lookup) => {
        const value = first(lookup);
        return truthy(value) ? second(lookup) : value;
      };
    }
    return left;
  }

  #sum(): Evaluate {
    let left = this.#primary();
    while (this.#take("sign", "+")) {
      const [first, second] = [left, this.#primary()];
      left = (lookup) => {
        const values = [first(lookup), second(lookup)];
        if (values.every((value) => typeof value === "string")) return values.join("");
        throw new GrammarProblem(
          "texts on both sides of '+'",
          `others in '{${this.text}}'`,
          this.text,
        );
      };
    }
    return left;
  }

  #primary(): Evaluate {
    const token = this.#tokens[this.#at++];
    if (token === undefined) this.#fail("nothing");
    if ("string" in token) return () => token.string;
    if ("sign" in token) {
      if (token.sign !== "(") this.#fail(`'${token.sign}'`);
      const inner = this.conditional();
      if (!this.#take("sign", ")")) this.#fail("'(' without ')'");
      return inner;
    }
    if (["or", "and", "not", "if", "else"].includes(token.word)) this.#fail(`'${token.word}'`);
    const name = token.word;
    this.names.add(name);
    if (!this.#take("sign", ".")) return (lookup) => lookup(name);
    const attribute = this.#tokens[this.#at++];
    const read = attribute !== undefined && "word" in attribute
      ? attributes[attribute.word]
      : undefined;
    if (read === undefined) this.#fail("an unknown attribute");
    return (lookup) => read(lookup(name));
  }
}
