/**
 * The grammar of a game: how actions are commanded and what is said, as rules of text with
 * conditions. Parsed rules are shared between the games that have them in common.
 */
import { UserError } from "../../errors.ts";
import { GrammarProblem } from "./grammar_problem.ts";
import { parseQuery, type Query } from "./query.ts";
import { quoted, Source } from "./source.ts";
import { parseSymbols, type Symbol } from "./symbols.ts";

export interface Rule {
  /** The rule applies where this has an answer. */
  readonly condition: Query | undefined;
  readonly symbols: readonly Symbol[];
}

export interface ActionText {
  readonly name: string;
  readonly template: readonly Symbol[];
  readonly feedback: readonly Symbol[];
}

export interface Grammar {
  /** By the action's name in lower case. */
  readonly actions: ReadonlyMap<string, ActionText>;
  /** The first rule of a name whose condition holds is used. */
  rules(name: string): readonly Rule[] | undefined;
  /** The first line that has the text, or the last one. */
  lineOf(text: string): number;
}

/** Text rules and actions as read, before they are put together. */
interface Document {
  readonly actions: ActionText[];
  readonly blocks: { readonly source: Source; readonly line: number }[];
}

const rulesByText = new Map<string, WeakRef<Rule>>();
const tables = new Map<string, WeakRef<Grammar>>();

/**
 * The grammar in `source`. The rule that differs from game to game, the goal's wording, is kept apart
 * so that all others are shared. @throws {UserError} with the line
 */
export function grammarOf(source: Source): Grammar {
  const { own, text } = cut(source.text);
  let shared = tables.get(text)?.deref();
  if (shared === undefined) {
    for (const [key, value] of tables) if (value.deref() === undefined) tables.delete(key);
    shared = parseGrammar(source);
    tables.set(text, new WeakRef(shared));
  }
  if (own === undefined) return shared;
  const rules = ownRulesOf(new Source(source.name, own.text, own.line));
  const base = shared;
  return { ...base, rules: (name) => rules.get(name) ?? base.rules(name) };
}

/**
 * The text without the first `"task": [...]`, where that is a plain list; what was cut as JSON. A
 * grammar with several is not cut, for the last of them counts.
 */
function cut(text: string): { text: string; own: { text: string; line: number } | undefined } {
  const pattern = /"task"\s*:\s*\[\s*\{\s*"rhs"\s*:\s*"(?:[^"\\\n]|\\.)*"\s*\}\s*\]/g;
  const found = [...text.matchAll(pattern)];
  if (found.length !== 1 || text.split('"task"').length !== 2) return { text, own: undefined };
  const [match] = found[0]!;
  const at = found[0]!.index;
  return {
    text: text.slice(0, at) + '"task": []' + text.slice(at + match.length),
    own: { text: `{${match}}`, line: text.slice(0, at).split("\n").length },
  };
}

function ownRulesOf(source: Source): Map<string, readonly Rule[]> {
  return readRules(source.json(), source);
}

function parseGrammar(source: Source): Grammar {
  const { actions, blocks } = parseDocument(source);
  const rules = new Map<string, readonly Rule[]>();
  for (const block of blocks) {
    for (const [name, value] of readRules(block.source.json(), block.source)) {
      rules.set(name, value);
    }
  }
  return {
    actions: new Map(actions.map((action) => [action.name.toLowerCase(), action])),
    rules: (name) => rules.get(name),
    lineOf(near) {
      const at = near === "" ? -1 : source.text.indexOf(near);
      return source.lineAt(at < 0 ? source.text.length : at);
    },
  };
}

/** Rules by name. Lines of rules are found by their names: JSON does not keep them. */
function readRules(json: unknown, source: Source): Map<string, readonly Rule[]> {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    source.fail(source.firstLine, "an object of rules");
  }
  const rules = new Map<string, readonly Rule[]>();
  for (const [name, list] of Object.entries(json)) {
    const line = () => source.lineAt(Math.max(0, source.text.indexOf(JSON.stringify(name))));
    if (!Array.isArray(list)) source.fail(line(), `a list of rules for '${name}'`);
    rules.set(
      name,
      list.map((each: unknown) => {
        if (typeof each !== "object" || each === null || !("rhs" in each)) {
          source.fail(line(), `rules with "rhs" for '${name}'`, quoted(JSON.stringify(each)));
        }
        const condition = "condition" in each ? each.condition : "";
        if (typeof each.rhs !== "string" || typeof condition !== "string") {
          source.fail(line(), `texts as "rhs" and "condition" of '${name}'`);
        }
        return rule(each.rhs, condition, source, line);
      }),
    );
  }
  return rules;
}

function rule(rhs: string, condition: string, source: Source, line: () => number): Rule {
  const key = `${condition}\n\n${rhs}`;
  const known = rulesByText.get(key)?.deref();
  if (known !== undefined) return known;
  const made = located(source, line, (): Rule => ({
    condition: condition === "" ? undefined : parseQuery(condition),
    symbols: parseSymbols(rhs),
  }));
  if (rulesByText.size > 10_000) rulesByText.clear();
  rulesByText.set(key, new WeakRef(made));
  return made;
}

function located<T>(source: Source, line: () => number, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof GrammarProblem) source.fail(line(), error.expected, error.found);
    throw error;
  }
}

/** The outer form: `action NAME { template :: "..."; feedback :: "..."; }` and `grammar :: """..."""`. */
function parseDocument(source: Source): Document {
  const { text } = source;
  const document: Document = { actions: [], blocks: [] };
  let at = 0;
  const skip = () => {
    for (const pattern = /\s+|#.*/y; pattern.lastIndex = at, pattern.test(text);) {
      at = pattern.lastIndex;
    }
  };
  const line = () => source.lineAt(at);
  const read = (pattern: RegExp, expected: string): string => {
    skip();
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found === null) {
      const rest = text.slice(at).split("\n")[0]!;
      return source.fail(line(), expected, rest === "" ? "the end of the text" : quoted(rest));
    }
    at = pattern.lastIndex;
    return found[1] ?? found[0];
  };
  const block = (comments: boolean) => {
    read(/::/y, "'::'");
    skip();
    const start = line();
    const body = read(/"""((?:.|\n)*?)"""/y, '"""a block"""');
    read(/;/y, "';'");
    // Lines of an action's block that begin with '#' are comments.
    const plain = comments ? body.replace(/^[^\S\n]*#.*$/gm, "") : body;
    document.blocks.push({ source: new Source(source.name, plain, start), line: start });
  };
  const string = () => {
    read(/::/y, "'::'");
    const value = read(/"([^"]*)"/y, '"a text"');
    read(/;/y, "';'");
    return value;
  };
  for (skip(); at < text.length; skip()) {
    const word = read(/grammar|action(?![\w/-])/y, "'action' or 'grammar'");
    if (word === "grammar") {
      block(false);
      continue;
    }
    const name = read(/[\w/-]+/y, "an action's name");
    const start = line();
    let template: string | undefined, feedback: string | undefined;
    read(/\{/y, "'{'");
    for (
      let part = read(/template|feedback|pddl|grammar|\}/y, "template, feedback, grammar or '}'");
      part !== "}";
      part = read(/template|feedback|pddl|grammar|\}/y, "template, feedback, grammar or '}'")
    ) {
      if (part === "template") template = string();
      else if (part === "feedback") feedback = string();
      else if (part === "grammar") block(true);
      else {
        read(/::/y, "'::'");
        read(/"""(?:.|\n)*?"""/y, '"""a block"""');
        read(/;/y, "';'");
      }
    }
    if (template === undefined || feedback === undefined) {
      return source.fail(start, `a template and a feedback in action '${name}'`);
    }
    const texts = [template, feedback] as const;
    const [command, reply] = located(source, () => start, () => texts.map(parseSymbols));
    document.actions.push({ name, template: command!, feedback: reply! });
  }
  return document;
}

/**
 * For what turns out only when a grammar is followed. @throws {UserError} always: the line and what was
 * expected there; the file is named by the game
 */
export function grammarFault(grammar: Grammar, { expected, found, near }: GrammarProblem): never {
  throw new UserError(
    `grammar, line ${grammar.lineOf(near)}: expected ${expected}, found ${found}`,
  );
}
