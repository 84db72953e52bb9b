/**
 * The commands of a game, sorted, and the operators behind each. A command whose wording depends on
 * what changes in play has no fixed text; its operators are worded anew at every step.
 */
import type { Domain } from "./domain.ts";
import { type Grammar, grammarFault } from "./grammar.ts";
import { GrammarProblem } from "./grammar_problem.ts";
import { type Grounding, narrow, type Numbers } from "./ground.ts";
import type { Query } from "./query.ts";
import type { Choice, Symbol } from "./symbols.ts";
import { sharedText, TextList } from "./shared_text.ts";
import type { Context, Facts, Teller } from "./telling.ts";

export interface Commands {
  /** In ascending order, each once. */
  readonly texts: TextList;
  /** Command by operator proper; `texts.length` where the wording is not fixed. */
  readonly ofOperator: Numbers;
  /** Most operators that a command has. */
  readonly mostOperators: number;
  /** Operators whose wording is not fixed. */
  readonly unfixed: readonly number[];
}

/** The context of an operator: its action's parameters. */
export function contextOf(domain: Domain, grounding: Grounding, operator: number): Context {
  const { parameters } = domain.actions[grounding.actions[operator]!]!;
  let context: Context | undefined;
  parameters.forEach(({ name, type }, at) => {
    const object = grounding.args[grounding.argStart[operator]! + at]!;
    context = { name: name.slice(1), type, object, outer: context };
  });
  return context ?? noParameters;
}

/** What an action without parameters is told with: a name that no grammar can mention. */
const noParameters: Context = { name: "", type: "", object: -1, outer: undefined };

/** @throws {UserError} where the grammar does not know an action */
export function commandsOf(
  domain: Domain,
  grammar: Grammar,
  grounding: Grounding,
  teller: Teller,
  facts: Facts,
): Commands {
  const wordings = domain.actions.map((action) => {
    const text = grammar.actions.get(action.name);
    if (text === undefined) return undefined;
    const uses = new Uses(domain, grammar, text.template);
    const names = action.parameters.map((each) => each.name.slice(1));
    const places = names.flatMap((name, at) => uses.names.has(name) ? [at] : []);
    return {
      template: text.template,
      fluent: uses.fluent,
      places,
      known: new Map<string, string>(),
    };
  });
  const wording = new Array<string | undefined>(grounding.goalStart);
  const unfixed: number[] = [];
  for (let operator = 0; operator < grounding.goalStart; operator++) {
    const action = grounding.actions[operator]!;
    const found = wordings[action];
    if (found === undefined) {
      grammarFault(
        grammar,
        new GrammarProblem(`an action '${domain.actions[action]!.name}'`, "none"),
      );
    }
    if (found.fluent) {
      unfixed.push(operator);
      continue;
    }
    const start = grounding.argStart[operator]!;
    const key = found.places.map((at) => grounding.args[start + at]!).join();
    let text = found.known.get(key);
    if (text === undefined) {
      text = sharedText(teller.tell(found.template, contextOf(domain, grounding, operator), facts));
      found.known.set(key, text);
    }
    wording[operator] = text;
  }
  const distinct = [...new Set(wording.filter((text) => text !== undefined))].sort();
  const number = new Map(distinct.map((text, index) => [text, index]));
  const ofOperator = wording.map((text) =>
    text === undefined ? distinct.length : number.get(text)!
  );
  const counts = new Uint32Array(distinct.length + 1);
  for (const each of ofOperator) counts[each]!++;
  return {
    texts: new TextList(distinct),
    ofOperator: narrow(ofOperator),
    mostOperators: counts.reduce((most, count) => Math.max(most, count), 0),
    unfixed,
  };
}

/** What a text mentions, the rules that it leads to included. */
class Uses {
  readonly names = new Set<string>();
  fluent = false;
  readonly #seen = new Set<string>();

  constructor(readonly domain: Domain, readonly grammar: Grammar, symbols: readonly Symbol[]) {
    this.#symbols(symbols);
  }

  #symbols(symbols: readonly Symbol[]): void {
    for (const symbol of symbols) {
      if (symbol.kind === "rule") this.#rule(symbol.name);
      else if (symbol.kind === "choice") this.#choice(symbol);
      else if (symbol.kind === "list") {
        this.#choice(symbol.choice);
        for (const name of ["list_empty", "list_separator", "list_last_separator"]) {
          this.#rule(name);
        }
      }
    }
  }

  #choice({ content, query }: Choice): void {
    if (query !== undefined) this.#query(query);
    if (content.kind === "rule") this.#rule(content.name);
    else for (const name of content.names) this.names.add(name);
  }

  #query({ placeholders, atoms }: Query): void {
    for (const { name } of placeholders) this.names.add(name);
    for (const { predicate, negated } of atoms) {
      if (negated || this.domain.predicates.get(predicate)?.fluent === true) this.fluent = true;
    }
  }

  #rule(name: string): void {
    if (this.#seen.has(name)) return;
    this.#seen.add(name);
    for (const { condition, symbols } of this.grammar.rules(name) ?? []) {
      if (condition !== undefined) this.#query(condition);
      this.#symbols(symbols);
    }
  }
}
