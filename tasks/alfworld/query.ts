/**
 * TextWorld's conjunctive queries over the facts of a state, e.g.
 * `atlocation(a:agent, l:location) & not_inreceptacle(o:object, r:receptacle)`. Different variables
 * stand for different entities; a `not_` fact exists only once an action has made its opposite false.
 */
import { GrammarProblem } from "./grammar_problem.ts";

export interface Placeholder {
  readonly name: string;
  readonly type: string;
}

export interface QueryAtom {
  readonly predicate: string;
  readonly negated: boolean;
  /** Indices into the query's placeholders. */
  readonly args: readonly number[];
}

export interface Query {
  readonly text: string;
  /** In order of first mention. */
  readonly placeholders: readonly Placeholder[];
  readonly atoms: readonly QueryAtom[];
}

const atom = /^\s*(!?[\w/]+)\s*\(([^()]*)\)\s*$/;
const placeholder = /^\s*([\w']+)\s*(?::\s*([\w/-]+))?\s*$/;

/** @throws {GrammarProblem} */
export function parseQuery(text: string): Query {
  const placeholders: Placeholder[] = [];
  const number = (part: string): number => {
    const found = placeholder.exec(part);
    if (found === null) throw new GrammarProblem("'name:type'", `'${part}' in '${text}'`);
    const [, name = "", type = name] = found;
    const known = placeholders.findIndex((each) => each.name === name && each.type === type);
    return known >= 0 ? known : placeholders.push({ name, type }) - 1;
  };
  const atoms = text.replace(/#.*$/gm, "").split("&").map((part): QueryAtom => {
    const found = atom.exec(part);
    if (found === null) {
      throw new GrammarProblem("'predicate(name:type, ...)'", `'${part.trim()}' in '${text}'`);
    }
    const [, predicate = "", args = ""] = found;
    const negated = predicate.startsWith("not_");
    return {
      predicate: negated ? predicate.slice(4) : predicate,
      negated,
      args: args.trim() === "" ? [] : args.split(",").map(number),
    };
  });
  return { text, placeholders, atoms };
}
