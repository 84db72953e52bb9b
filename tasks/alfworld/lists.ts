/**
 * Nested lists, the outer form of PDDL: words in lower case, comments from `;` to the end of a line,
 * a `?` always begins a word. One list must make up the whole text.
 */
import { Buffer } from "node:buffer";
import { quoted, type Source } from "./source.ts";

export interface Word {
  readonly text: string;
  readonly items?: undefined;
  readonly line: number;
}

export interface List {
  readonly text?: undefined;
  readonly items: readonly Node[];
  readonly line: number;
}

export type Node = Word | List;

/** Deeper nesting than any real domain has; a guard for recursion over the lists. */
const deepest = 200;

/** @throws {UserError} with the line, on unbalanced brackets, characters outside ASCII, depth > 200 */
export function parseLists(source: Source): List {
  const text = source.text.toLowerCase();
  const open: { items: Node[]; line: number }[] = [];
  let root: List | undefined;
  let line = source.firstLine;
  let at = 0;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === 10) line++;
    if (code <= 32) {
      at++;
    } else if (code === 59) {
      const end = text.indexOf("\n", at);
      at = end < 0 ? text.length : end;
    } else if (code === 40) {
      if (root !== undefined) source.fail(line, "the end of the text", "'('");
      if (open.length === deepest) source.fail(line, `lists nested at most ${deepest} deep`);
      open.push({ items: [], line });
      at++;
    } else if (code === 41) {
      const list = open.pop() ?? source.fail(line, root ? "the end of the text" : "'('", "')'");
      const parent = open.at(-1);
      if (parent === undefined) root = list;
      else parent.items.push(list);
      at++;
    } else {
      const end = endOfWord(text, at, (code) => source.fail(line, "ASCII text", character(code)));
      const word = text.slice(at, end);
      const list = open.at(-1) ??
        source.fail(line, root ? "the end of the text" : "'('", quoted(word));
      list.items.push({ text: word, line });
      at = end;
    }
  }
  const unclosed = open.at(-1);
  if (unclosed !== undefined) {
    source.fail(line, `')' for the list opened on line ${unclosed.line}`, "the end of the text");
  }
  return root ?? source.fail(line, "'('", "the end of the text");
}

function endOfWord(text: string, start: number, stranger: (code: number) => never): number {
  let at = start;
  do {
    const code = text.charCodeAt(at);
    if (code > 126) stranger(code);
    at++;
    if (at === text.length) break;
    const next = text.charCodeAt(at);
    if (next <= 32 || next === 40 || next === 41 || next === 59 || next === 63) break;
  } while (true);
  return at;
}

const character = (code: number) => `character U+${code.toString(16).padStart(4, "0")}`;

/** A node as shown in messages. */
export function describe(node: Node | undefined): string {
  if (node === undefined) return "the end of the list";
  if (node.items === undefined) return quoted(node.text);
  const head = node.items[0];
  return head?.items === undefined && head !== undefined ? `'(${head.text} ...)'` : "a list";
}

/** A copy of a word that does not keep the text it was cut from alive. */
export function detached(text: string): string {
  return Buffer.from(text, "latin1").toString("latin1");
}
