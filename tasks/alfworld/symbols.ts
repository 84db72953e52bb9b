/**
 * The text language of TextWorld's grammars: plain text, `#rule#`, `{expression}`,
 * `{expression | query}` and `[{expression | query}]` (a list in words). What cannot be parsed ends
 * the text, as in the original: the rest is left out.
 */
import { type Expression, parseExpression } from "./expression.ts";
import { parseQuery, type Query } from "./query.ts";

/** What stands in braces: an expression or a rule, once or for every answer to a query. */
export interface Choice {
  readonly kind: "choice";
  readonly content: Expression | RuleName;
  readonly query: Query | undefined;
}

export interface RuleName {
  readonly kind: "rule";
  readonly name: string;
}

export type Symbol =
  | { readonly kind: "text"; readonly text: string }
  | RuleName
  | Choice
  | { readonly kind: "list"; readonly choice: Choice };

const literal = /[^;|"<>\[\]#{}]*/y;
const tag = /[\w()/!<>\-\s,.]+/y;
const statement = /[^|\[\]{}\n<>]+/y;
const given = /[^;|{}\n\[\]#]+/y;
const bar = /\s*\|\s*/y;
const lineStart = /(?:\/\/.*|\s*)\n?/y;

/** @throws {GrammarProblem} on malformed expressions and queries */
export function parseSymbols(text: string): Symbol[] {
  const symbols: Symbol[] = [];
  let at = 0;

  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0];
    if (found !== undefined) at += found.length;
    return found;
  };
  // Before a symbol tabs are skipped, at the start of a line all blanks and a comment.
  const skip = () => {
    for (let before = -1; before !== at;) {
      before = at;
      while (text[at] === "\t") at++;
      if (at === 0 || text[at - 1] === "\n") match(lineStart);
    }
  };
  const token = (character: string): boolean => {
    skip();
    if (text[at] !== character) return false;
    at++;
    return true;
  };
  /** Runs `parse`; where it comes to nothing the place is as before. */
  const attempt = <T>(parse: () => T | undefined): T | undefined => {
    const start = at;
    const result = parse();
    if (result === undefined) at = start;
    return result;
  };
  const rule = () =>
    attempt((): RuleName | undefined => {
      if (!token("#")) return undefined;
      const name = match(tag);
      return name !== undefined && token("#") ? { kind: "rule", name } : undefined;
    });
  const choice = () =>
    attempt((): Choice | undefined => {
      if (!token("{")) return undefined;
      const name = rule();
      if (name === undefined) skip();
      const content = name ?? match(statement);
      if (content === undefined) return undefined;
      const query = attempt(() => match(bar) === undefined ? undefined : match(given));
      if (!token("}")) return undefined;
      return {
        kind: "choice",
        content: typeof content === "string" ? parseExpression(content) : content,
        query: query === undefined ? undefined : parseQuery(query),
      };
    });
  const list = () =>
    attempt((): Symbol | undefined => {
      if (!token("[")) return undefined;
      const inner = choice();
      return inner !== undefined && token("]") ? { kind: "list", choice: inner } : undefined;
    });
  const quotedText = () =>
    attempt((): Symbol | undefined => {
      if (!token('"')) return undefined;
      const content = match(literal)!;
      return token('"') ? { kind: "text", text: content } : undefined;
    });
  const plainText = (): Symbol => {
    skip();
    return { kind: "text", text: match(literal)! };
  };

  while (at < text.length) {
    const start = at;
    const symbol = list() ?? choice() ?? rule() ?? quotedText() ?? plainText();
    if (at === start) break;
    symbols.push(symbol);
  }
  return symbols;
}
