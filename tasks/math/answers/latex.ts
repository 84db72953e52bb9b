/**
 * Cuts an answer into tokens: LaTeX, the Unicode and plain-text mathematics that models write, and any
 * mixture of them. Looks (sizes, fonts, spacing) are dropped here; what is left are numbers, names,
 * words and operators. No macro is ever expanded: `\def` and unknown commands are refused.
 */
import {
  functions,
  greek,
  ignored,
  plainNames,
  shortUnits,
  signs,
  spaces,
  synonyms,
  textual,
  wrappers,
} from "./vocabulary.ts";

export type TokenKind = "number" | "name" | "text" | "op" | "end";

export interface Token {
  readonly kind: TokenKind;
  /** A numeral without separators, a symbol's name, words, or an operator or command. */
  readonly text: string;
  /** Digits that repeat for ever behind a numeral's last digit. */
  readonly repeating?: string;
  /** Whether white space stood before it. */
  readonly spaced: boolean;
}

/** An answer that cannot be read as mathematics. */
export class NotMathematics extends Error {}

const signPattern = new RegExp(`[${Object.keys(signs).join("")}]`, "gu");

/** Unicode to LaTeX, Markdown's bold away, doubled backslashes (from JSON in JSON) single again. */
export function tidy(raw: string): string {
  let text = raw.trim().replace(signPattern, (sign) => signs[sign] ?? sign);
  text = text.replace(/^\*\*(.*?)\*\*([.!]?)$/s, "$1$2");
  if (!text.includes("\\begin") && /\\\\[a-zA-Z]/.test(text)) {
    text = text.replace(/\\\\(?=[a-zA-Z{}$%,!;])/g, "\\");
  }
  return text.replace(/[.,;:\s]+$/, (tail) => tail.includes("\\") ? tail : "").trim();
}

const commandPattern = /\\([a-zA-Z]+|[\s\S])/y;
const numeralPattern = /\d+(?:\.\d+)?|\.\d+/y;
/** A mark between groups of three digits: `{,}`, `,\!`, `\,` and so on. */
const groupMark = /(?:\{,\}|,\\!\s?|\\[,;: !]|(,))(?=\d{3}(?!\d))/y;
const repeatMark = /\\(?:overline|bar)\s*\{(\d+)\}/y;
const exponentMark = /[eE]([+-]?\d{1,3})(?![\d.a-zA-Z])/y;

class Tokenizer {
  readonly tokens: Token[] = [];
  #at = 0;
  #spaced = false;
  /** Brackets open so far: within them a comma parts items, never digits. */
  #depth = 0;

  constructor(readonly text: string) {}

  #match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.text);
    if (found !== null) this.#at = pattern.lastIndex;
    return found;
  }

  #push(kind: TokenKind, text: string, more: { repeating?: string } = {}): void {
    this.tokens.push({ kind, text, spaced: this.#spaced, ...more });
    this.#spaced = false;
  }

  #numeral(first: string): void {
    let text = first;
    if (/^[1-9]\d{0,2}$/.test(text)) {
      for (;;) {
        const before = this.#at;
        const mark = this.#match(groupMark);
        if (mark === null) break;
        if (mark[1] !== undefined && this.#depth > 0) {
          this.#at = before;
          break;
        }
        text += this.text.slice(this.#at, this.#at + 3);
        this.#at += 3;
      }
      const decimals = text.length > first.length ? this.#match(/\.\d+/y) : null;
      if (decimals !== null) text += decimals[0];
    }
    let repeat = this.#match(repeatMark);
    if (
      repeat === null && !text.includes(".") &&
      /^\.\\(?:overline|bar)/.test(this.text.slice(this.#at, this.#at + 12))
    ) {
      this.#at++;
      text += ".";
      repeat = this.#match(repeatMark);
    }
    const exponent = repeat === null ? this.#match(exponentMark) : null;
    this.#push("number", text, repeat === null ? {} : { repeating: repeat[1]! });
    if (exponent !== null) {
      this.#push("op", "*");
      this.#push("number", "10");
      this.#push("op", "^");
      this.#push("op", "{");
      if (exponent[1]!.startsWith("-")) this.#push("op", "-");
      this.#push("number", exponent[1]!.replace(/[+-]/, ""));
      this.#push("op", "}");
    }
  }

  /** The braced argument that starts here, braces off; one character where there are none. */
  #argument(): string {
    this.#match(/\s*/y);
    if (this.text[this.#at] !== "{") return this.text[this.#at++] ?? "";
    let depth = 0;
    for (let end = this.#at; end < this.text.length; end++) {
      const character = this.text[end];
      if (character === "\\") end++;
      else if (character === "{") depth++;
      else if (character === "}" && --depth === 0) {
        const inner = this.text.slice(this.#at + 1, end);
        this.#at = end + 1;
        return inner;
      }
    }
    throw new NotMathematics("a brace is not closed");
  }

  #words(command: string, content: string): void {
    const plain = content.replace(/\\[,;:! ]|~/g, " ").replace(/[{}$]/g, "").trim();
    if (plain === "") this.#spaced = true;
    else if (/^[-+\d.,/()\s]+$/.test(plain) || (command === "mathrm" && /\\|[_^]/.test(plain))) {
      this.#inline(plain);
    } else if (/^,? ?(?:and|or),?$/i.test(plain)) {
      this.#push("op", /and/i.test(plain) ? "and" : "or");
    } else if (/\d/.test(plain) && !/^\(/.test(plain)) this.#inline(plain);
    else if (command !== "text" && functions.has(plain)) this.#push("op", plain);
    else if (/^math|operator/.test(command) && /^[A-Za-z]$/.test(plain)) this.#push("name", plain);
    else {
      // Words may hold several answers: `1 and 2`, `C, F, H` are left to the text.
      this.#push("text", plain);
    }
  }

  #inline(content: string): void {
    for (const token of tokenize(content.replace(/[.,;]$/, ""))) {
      if (token.kind !== "end") this.tokens.push({ ...token });
    }
  }

  #command(name: string): void {
    if (name === "overline" || name === "bar") {
      this.#push("op", "overline");
    } else if (spaces.has(name) || ignored.has(name)) {
      // `\left.` and `\right.` are brackets that are not shown.
      if ((name === "left" || name === "right") && this.text[this.#at] === ".") this.#at++;
      this.#spaced = true;
    } else if (textual.has(name)) this.#words(name, this.#argument());
    else if (name === "mathbb") {
      const set = this.#argument().trim();
      this.#push(set === "R" ? "op" : "name", set === "R" ? "reals" : set);
    } else if (wrappers.has(name)) this.#match(/\[[^\]]*\]/y);
    else if (name === "begin" || name === "end") {
      const environment = this.#argument().replace("*", "");
      if (name === "begin" && environment === "array") this.#match(/\s*\{[^{}]*\}/y);
      this.#push("op", `${name}:${environment}`);
    } else if (name === "\\") {
      this.#match(/\s*\[[^\]]*\]/y);
      this.#push("op", "\\\\");
    } else if (name === "hspace" || name === "vspace" || name === "color" || name === "textcolor") {
      this.#argument();
    } else if (greek.has(name)) this.#push("name", name);
    else if (synonyms[name] !== undefined) {
      const op = synonyms[name]!;
      if (op === "\\{") this.#depth++;
      else if (op === "\\}") this.#depth--;
      if (op !== "$") this.#push("op", op);
    } else if (functions.has(name) || known.has(name)) this.#push("op", name);
    else if (name === "imath") this.#push("name", "i");
    else throw new NotMathematics(`unknown command \\${name}`);
  }

  /** A run of letters: functions and constants, words, or a product of one-letter names. */
  #letters(run: string): void {
    const name = plainNames[run] ?? plainNames[run.toLowerCase()];
    if (name !== undefined && (run.length > 2 || run === run.toLowerCase())) {
      this.#push("op", name);
      return;
    }
    const last = this.tokens.at(-1);
    const afterNumber = last !== undefined &&
      (last.kind === "number" || last.kind === "text" ||
        (last.kind === "op" && /^[%)}/]$/.test(last.text)));
    const isUnit = run.length > 1 && afterNumber && shortUnits.has(run);
    if (
      run.length >= 4 || isUnit ||
      (run.length === 3 && this.#spaced && afterNumber && !/[xyz]/.test(run))
    ) {
      this.#push("text", run);
      return;
    }
    for (const letter of run) this.#push("name", letter);
  }

  run(): Token[] {
    while (this.#at < this.text.length) {
      if (this.#match(/[\s~]+/y) !== null) {
        this.#spaced = true;
        continue;
      }
      const numeral = this.#match(numeralPattern);
      if (numeral !== null) {
        this.#numeral(numeral[0]);
        continue;
      }
      const halfday = this.#match(/([apAP])\s?\.?\s?[mM]\b\.?/y);
      if (halfday !== null && this.tokens.at(-1)?.kind === "number") {
        this.#push("text", `${halfday[1]!.toLowerCase()}m`);
        continue;
      } else if (halfday !== null) this.#at -= halfday[0].length;
      const letters = this.#match(/[A-Za-z]+/y);
      if (letters !== null) {
        this.#letters(letters[0]);
        continue;
      }
      const command = this.#match(commandPattern);
      if (command !== null) {
        this.#command(command[1]!);
        continue;
      }
      if (
        this.text[this.#at] === "." &&
        /^\.\\(?:overline|bar)/.test(this.text.slice(this.#at, this.#at + 12))
      ) {
        this.#numeral("0");
        continue;
      }
      this.#sign(this.text[this.#at++]!);
    }
    this.#push("end", "");
    return this.tokens;
  }

  #sign(sign: string): void {
    if (/[([]/.test(sign)) this.#depth++;
    else if (/[)\]]/.test(sign)) this.#depth--;
    if (/[$€£¥]/.test(sign)) this.#spaced = true;
    else if (sign === "*" && this.text[this.#at] === "*") {
      this.#at++;
      this.#push("op", "^");
    } else if (/[<>!]/.test(sign) && this.text[this.#at] === "=") {
      this.#at++;
      this.#push("op", { "<": "le", ">": "ge", "!": "ne" }[sign]!);
    } else if (/[-+*/^_=<>,;:|!()[\]{}&'%.?]/.test(sign)) this.#push("op", sign);
    else if (/\p{L}/u.test(sign)) this.#push("text", sign);
    else throw new NotMathematics(`unknown sign ${sign}`);
  }
}

/** Commands that the parser knows by their own names. */
const known: ReadonlySet<string> = new Set([
  "frac",
  "sqrt",
  "binom",
  "over",
  "pi",
  "infty",
  "pm",
  "mp",
  "cup",
  "cap",
  "setminus",
  "in",
  "emptyset",
  "reals",
  "sum",
  "prod",
  "int",
  "pmod",
  "bmod",
  "mod",
  "equiv",
  "notin",
  "root",
  "not",
  "langle",
  "rangle",
  "lceil",
  "rceil",
  "subset",
  "subseteq",
  "parallel",
  "perp",
  "cong",
  "sim",
  "iff",
  "implies",
  "Rightarrow",
  "lim",
  "forall",
  "exists",
  "dotsm",
  "atop",
  "substack",
  "complement",
]);

/** @throws {NotMathematics} on what is no mathematics that we know */
export function tokenize(text: string): Token[] {
  return new Tokenizer(text).run();
}
