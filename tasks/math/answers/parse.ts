/**
 * Reads an answer's tokens into a `Node`, by recursive descent: lists of relations of set expressions
 * of sums of products of powers. Units, currencies and lead-in words carry no value and are dropped.
 */
import { NotMathematics, tidy, type Token, tokenize } from "./latex.ts";
import type { Node, RelationOperator, SetOperator } from "./node.ts";
import { fromDecimal, rational } from "./rational.ts";
import { functions, leadIns, scales } from "./vocabulary.ts";

/** Beyond these an answer is no answer, and reading it would cost too much. */
const longest = 3000;
const deepest = 100;

const relations: Readonly<Record<string, RelationOperator>> = {
  "=": "=",
  "<": "<",
  ">": ">",
  le: "<=",
  ge: ">=",
  ne: "!=",
  in: "in",
};
const setOperators: Readonly<Record<string, SetOperator>> = {
  cup: "union",
  cap: "intersection",
  setminus: "difference",
};
const closers: Readonly<Record<string, string>> = { ")": ")", "]": "]" };
/** Operators and commands that begin a factor. */
const openers: ReadonlySet<string> = new Set([
  "(",
  "[",
  "{",
  "\\{",
  "langle",
  "frac",
  "sqrt",
  "binom",
  "pi",
  "infty",
  "lfloor",
  "lceil",
  "emptyset",
  "reals",
  "sum",
  "prod",
  "overline",
  ...functions,
]);

const product = (factors: Node[]): Node =>
  factors.length === 1 ? factors[0]! : { t: "multiply", factors };
const number = (text: string): Node => ({ t: "number", value: fromDecimal(text), digits: text });

class Parser {
  readonly #tokens: Token[];
  #at = 0;
  #depth = 0;
  /** Within a set or an absolute value a bar is never the beginning of a factor. */
  #barEnds = false;
  #colonEnds = false;

  constructor(text: string) {
    this.#tokens = tokenize(text);
  }

  get #next(): Token {
    return this.#tokens[this.#at]!;
  }

  #is(op: string, ahead = 0): boolean {
    const token = this.#tokens[this.#at + ahead];
    return token?.kind === "op" && token.text === op;
  }

  #take(op: string): boolean {
    if (!this.#is(op)) return false;
    this.#at++;
    return true;
  }

  #expect(op: string): void {
    if (!this.#take(op)) {
      throw new NotMathematics(`expected ${op}, found ${this.#next.text || "the end"}`);
    }
  }

  #within<T>(bar: boolean, colon: boolean, read: () => T): T {
    const [barEnds, colonEnds] = [this.#barEnds, this.#colonEnds];
    [this.#barEnds, this.#colonEnds] = [bar, colon];
    if (++this.#depth > deepest) throw new NotMathematics("nested too deeply");
    const result = read();
    this.#depth--;
    [this.#barEnds, this.#colonEnds] = [barEnds, colonEnds];
    return result;
  }

  answer(): Node {
    const node = this.#list();
    if (this.#next.kind !== "end") throw new NotMathematics(`unexpected ${this.#next.text}`);
    return node;
  }

  /** `a, b and c`; semicolons part lists of lists. */
  #list(): Node {
    const groups: Node[] = [];
    do {
      if (this.#next.kind === "end") break;
      groups.push(this.#commas());
    } while (this.#take(";"));
    if (groups.length === 0) throw new NotMathematics("nothing");
    return groups.length === 1 ? groups[0]! : { t: "list", items: groups, by: "comma" };
  }

  #commas(): Node {
    const items: Node[] = [this.#relation()];
    let by: "comma" | "and" | "or" = "comma";
    for (;;) {
      const comma = this.#take(",");
      const word = this.#is("and") ? "and" : this.#is("or") ? "or" : undefined;
      if (word !== undefined) {
        this.#at++;
        by = word;
      } else if (!comma) break;
      if (this.#next.kind === "end") break;
      items.push(this.#relation());
    }
    return items.length === 1 ? items[0]! : { t: "list", items, by };
  }

  #relation(): Node {
    // `\approx 5` and `= 5` say that 5 is the answer.
    while (this.#take("=") || this.#is(",")) if (this.#is(",")) this.#at++;
    const sides = [this.#sets()];
    const ops: RelationOperator[] = [];
    for (;;) {
      const negated = this.#is("not") && this.#is("=", 1);
      if (negated) this.#at++;
      const op = this.#next.kind === "op" ? relations[this.#next.text] : undefined;
      if (op === undefined) break;
      this.#at++;
      ops.push(negated ? "!=" : op);
      sides.push(this.#sets());
    }
    return ops.length === 0 ? sides[0]! : { t: "relation", sides, ops };
  }

  #sets(): Node {
    let a = this.#ratio();
    for (;;) {
      const op = this.#next.kind === "op" ? setOperators[this.#next.text] : undefined;
      if (op === undefined) return a;
      this.#at++;
      a = { t: "setop", op, a, b: this.#ratio() };
    }
  }

  #ratio(): Node {
    const parts = [this.#sum()];
    while (!this.#colonEnds && this.#take(":")) parts.push(this.#sum());
    if (parts.length === 1) return parts[0]!;
    const last = parts.at(-1)!;
    if (last.t !== "halfday") return { t: "ratio", parts };
    return {
      t: "halfday",
      half: last.half,
      a: { t: "ratio", parts: [...parts.slice(0, -1), last.a] },
    };
  }

  #sum(): Node {
    const terms: Node[] = [];
    for (;;) {
      if (this.#take("+")) terms.push(this.#product());
      else if (this.#take("-")) terms.push({ t: "negate", a: this.#product() });
      else if (this.#is("pm") || this.#is("mp")) {
        const sign = this.#is("pm") ? 1 : -1;
        this.#at++;
        terms.push({ t: "plusminus", sign, a: this.#product() });
      } else if (terms.length === 0) terms.push(this.#product());
      else break;
    }
    return terms.length === 1 ? terms[0]! : { t: "add", terms };
  }

  #startsFactor(): boolean {
    const { kind, text } = this.#next;
    if (kind !== "op") return kind !== "end";
    return openers.has(text) || text.startsWith("begin:") || (text === "|" && !this.#barEnds);
  }

  /** A signed product; a leading sign binds as in `2 \cdot -3`. */
  #product(): Node {
    if (this.#take("-")) {
      return {
        t: "negate",
        a: this.#within(this.#barEnds, this.#colonEnds, () => this.#product()),
      };
    }
    if (this.#take("+")) return this.#product();
    this.#leadIn();
    const factors: Node[] = [this.#factor()];
    for (;;) {
      if (this.#take("*")) factors.push(this.#signedFactor());
      else if (this.#take("/")) {
        if (this.#unitFollows()) continue;
        const b = this.#signedFactor();
        factors.push({ t: "divide", a: factors.pop()!, b });
      } else if (this.#next.kind === "text") this.#unit(factors);
      else if (this.#startsFactor()) this.#juxtaposed(factors);
      else break;
    }
    return product(factors);
  }

  #signedFactor(): Node {
    let negative = false;
    for (;;) {
      if (this.#take("-")) negative = !negative;
      else if (!this.#take("+")) break;
    }
    const factor = this.#factor();
    return negative ? { t: "negate", a: factor } : factor;
  }

  /** Words before a value that say nothing about it. */
  #leadIn(): void {
    while (
      this.#next.kind === "text" && leadIns.test(this.#next.text) &&
      this.#tokens[this.#at + 1]!.kind !== "end"
    ) {
      this.#at++;
      this.#take(":");
    }
  }

  /** Two factors side by side: a mixed number such as `1\frac{9}{10}` or `1 9/10`, else a product. */
  #juxtaposed(factors: Node[]): void {
    const before = factors.at(-1)!;
    const whole = before.t === "number" && before.decimals === undefined;
    if (this.#next.kind === "number") {
      if (
        !whole || !this.#next.spaced || !this.#is("/", 1) ||
        this.#tokens[this.#at + 2]?.kind !== "number"
      ) {
        throw new NotMathematics("two numbers side by side");
      }
      const a = this.#factor();
      this.#expect("/");
      factors[factors.length - 1] = {
        t: "add",
        terms: [before, { t: "divide", a, b: this.#factor() }],
      };
      return;
    }
    const isFraction = this.#is("frac");
    const factor = this.#factor();
    const proper = factor.t === "divide" && factor.a.t === "number" && factor.b.t === "number" &&
      factor.a.value.n < factor.b.value.n;
    if (whole && isFraction && proper) {
      factors[factors.length - 1] = { t: "add", terms: [before, factor] };
    } else if (!isUnit(factor)) factors.push(factor);
  }

  #unitFollows(): boolean {
    if (this.#next.kind !== "text") return false;
    this.#unitText();
    return true;
  }

  #unitText(): void {
    this.#at++;
    if (this.#is("^") && !this.#is("circ", 1)) {
      this.#at++;
      this.#argument();
    }
  }

  /** Words behind a value: a scale, a percent or degree sign in words, half a day, or a unit. */
  #unit(factors: Node[]): void {
    const words = this.#next.text.toLowerCase().replace(/\.$/, "").trim();
    const a = () => product(factors.splice(0));
    const scale = scales[words.replace(/s$/, "")];
    if (scale !== undefined) factors.push(number(`${scale}`));
    else if (/^per\s?cent$/.test(words)) factors.push({ t: "percent", a: a() });
    else if (/^degrees?$/.test(words)) factors.push({ t: "degrees", a: a() });
    else if (/^[ap]\.? ?m\.?$/.test(words)) {
      factors.push({ t: "halfday", half: words.startsWith("a") ? "am" : "pm", a: a() });
    } else if (words === "base" && this.#tokens[this.#at + 1]?.kind === "number") {
      this.#at++;
      factors.push(based(factors.pop()!, this.#next.text));
    }
    this.#unitText();
  }

  #factor(): Node {
    return this.#within(this.#barEnds, this.#colonEnds, () => this.#postfix(this.#atom()));
  }

  #postfix(atom: Node): Node {
    let node = atom;
    for (;;) {
      if (this.#is("^")) {
        this.#at++;
        if (this.#take("circ") || this.#take("degree")) node = { t: "degrees", a: node };
        else if (this.#is("{") && this.#is("circ", 1) && this.#is("}", 2)) {
          this.#at += 3;
          node = { t: "degrees", a: node };
        } else if (this.#is("'") || this.#is("prime")) this.#at++;
        else node = { t: "power", base: node, exponent: this.#argument() };
      } else if (this.#take("degree") || this.#take("circ")) node = { t: "degrees", a: node };
      else if (this.#take("%")) node = { t: "percent", a: node };
      else if (this.#take("!")) node = { t: "call", name: "factorial", args: [node] };
      else if (this.#take("'")) continue;
      else if (this.#is("_")) node = this.#subscript(node);
      else return node;
    }
  }

  #subscript(node: Node): Node {
    this.#expect("_");
    const braces = this.#take("{");
    let name = "";
    while (braces ? !this.#is("}") : name === "") {
      if (this.#next.kind === "end") throw new NotMathematics("a subscript is not closed");
      name += this.#next.text;
      this.#at++;
    }
    if (braces) this.#expect("}");
    if (node.t === "symbol") return { t: "symbol", name: `${node.name}_${name}` };
    if (node.t === "constant" && node.name !== "infinity") {
      return { t: "symbol", name: `${node.name}_${name}` };
    }
    return based(node, name.replace(/^base\s*/i, ""));
  }

  /** What a command or `^` applies to: a group in braces, or one token. */
  #argument(oneDigit = false): Node {
    if (this.#take("{")) return this.#within(false, false, () => this.#rest("}"));
    const { kind, text } = this.#next;
    if (oneDigit && kind === "number" && text.length > 1) {
      this.#tokens[this.#at] = { kind, text: text.slice(1), spaced: false };
      return number(text[0]!);
    }
    if (this.#take("-")) return { t: "negate", a: this.#argument() };
    return this.#within(this.#barEnds, this.#colonEnds, () => this.#atom());
  }

  /** What stands before `close`, which is taken; `a \over b` is a fraction. */
  #rest(close: string): Node {
    if (this.#take(close)) throw new NotMathematics("empty braces");
    const a = this.#commas();
    if (this.#take("over")) return { t: "divide", a, b: this.#rest(close) };
    if (this.#take("choose")) return { t: "call", name: "binomial", args: [a, this.#rest(close)] };
    this.#expect(close);
    return a;
  }

  #atom(): Node {
    const token = this.#next;
    this.#at++;
    switch (token.kind) {
      case "number":
        return numeral(token);
      case "name":
        if (token.text === "i" || token.text === "e") return { t: "constant", name: token.text };
        return { t: "symbol", name: token.text };
      case "text":
        return { t: "text", text: token.text };
      case "op":
        return this.#operator(token.text);
      case "end":
        throw new NotMathematics("something is missing at the end");
    }
  }

  #operator(op: string): Node {
    switch (op) {
      case "(":
      case "[":
        return this.#brackets(op);
      case "{":
        return this.#within(false, false, () => this.#rest("}"));
      case "\\{":
        return this.#set();
      case "langle":
        return this.#within(false, false, () => {
          const inner = this.#commas();
          this.#expect("rangle");
          return {
            t: "tuple",
            open: "<",
            close: ">",
            items: inner.t === "list" ? inner.items : [inner],
          };
        });
      case "frac":
        return { t: "divide", a: this.#argument(true), b: this.#argument(true) };
      case "sqrt": {
        const index = this.#is("[")
          ? (this.#at++, this.#within(false, false, () => this.#rest("]")))
          : number("2");
        return { t: "root", index, a: this.#argument() };
      }
      case "binom":
        return { t: "call", name: "binomial", args: [this.#argument(true), this.#argument(true)] };
      case "pi":
        return { t: "constant", name: "pi" };
      case "infty":
        return { t: "constant", name: "infinity" };
      case "emptyset":
        return { t: "set", items: [] };
      case "reals":
        return { t: "reals" };
      case "|":
        return this.#within(true, this.#colonEnds, () => {
          const a = this.#sum();
          this.#expect("|");
          return a.t === "matrix"
            ? { ...a, determinant: true }
            : { t: "call", name: "abs", args: [a] };
        });
      case "lfloor":
      case "lceil":
        return this.#within(false, false, () => {
          const a = this.#sum();
          this.#expect(op === "lfloor" ? "rfloor" : "rceil");
          return { t: "call", name: op === "lfloor" ? "floor" : "ceil", args: [a] };
        });
      case "sum":
      case "prod":
        return this.#big(op === "sum" ? "sum" : "product");
      case "overline": {
        const a = this.#argument();
        return a.t === "symbol" || a.t === "multiply"
          ? { t: "call", name: "overline", args: [a] }
          : a;
      }
    }
    if (functions.has(op)) return this.#call(op);
    if (op.startsWith("begin:")) return this.#matrix(op.slice("begin:".length));
    throw new NotMathematics(`unexpected ${op}`);
  }

  #brackets(open: string): Node {
    return this.#within(false, this.#colonEnds, () => {
      const inner = this.#list();
      const close = this.#next.kind === "op" ? closers[this.#next.text] : undefined;
      if (close === undefined) throw new NotMathematics("a bracket is not closed");
      this.#at++;
      if (inner.t === "list") return { t: "tuple", open, close, items: inner.items };
      if ((open === "(") !== (close === ")")) throw new NotMathematics("brackets do not match");
      return inner;
    });
  }

  #set(): Node {
    return this.#within(true, true, () => {
      if (this.#take("\\}")) return { t: "set", items: [] };
      const inner = this.#commas();
      const items = inner.t === "list" ? inner.items : [inner];
      if (this.#take("|") || this.#take(":") || this.#take("mid")) {
        const condition = this.#commas();
        this.#expect("\\}");
        return { t: "set", items, condition };
      }
      this.#expect("\\}");
      return { t: "set", items };
    });
  }

  /** `\sin^2 x`, `\log_2 8`, `\cos 58^\circ`: the argument ends where a sum or a function begins. */
  #call(name: string): Node {
    let exponent: Node | undefined;
    let base: Node | undefined;
    for (;;) {
      if (this.#take("^")) exponent = this.#argument();
      else if (this.#take("_")) base = this.#argument(true);
      else break;
    }
    let a: Node;
    if (this.#is("(") || this.#is("{") || this.#is("[")) {
      const inner = this.#within(this.#barEnds, this.#colonEnds, () => this.#atom());
      const items = inner.t === "tuple" ? inner.items : [inner];
      if (items.length > 1) return { t: "call", name, args: items };
      a = this.#postfix(items[0]!);
    } else {
      const factors = [this.#signedFactor()];
      while (
        !functions.has(this.#next.text) && this.#next.kind !== "text" && this.#startsFactor() &&
        !this.#is("(")
      ) {
        factors.push(this.#factor());
      }
      if (this.#is("/") && factors.length === 1 && factors[0]!.t !== "divide") {
        this.#at++;
        factors[0] = { t: "divide", a: factors[0]!, b: this.#factor() };
      }
      a = product(factors);
    }
    const call: Node = { t: "call", name, args: base === undefined ? [a] : [a, base] };
    if (exponent === undefined) return call;
    const inverse = exponent.t === "negate" && exponent.a.t === "number" &&
      exponent.a.digits === "1";
    if (inverse && /^(?:sin|cos|tan)$/.test(name)) {
      return { t: "call", name: `arc${name}`, args: [a] };
    }
    return { t: "power", base: call, exponent };
  }

  /** `\sum_{k=1}^{n} body` as [index, from, to, body]. */
  #big(name: "sum" | "product"): Node {
    let range: Node | undefined;
    let to: Node | undefined;
    for (;;) {
      if (this.#take("_")) range = this.#argument();
      else if (this.#take("^")) to = this.#argument();
      else break;
    }
    const [index, from] = range?.t === "relation" ? range.sides : [];
    if (index === undefined || from === undefined || to === undefined) {
      throw new NotMathematics(`${name} without bounds`);
    }
    return { t: "big", name, parts: [index, from, to, this.#product()] };
  }

  #matrix(environment: string): Node {
    if (!/^(?:[pbvBV]?matrix|smallmatrix|array)$/.test(environment)) {
      throw new NotMathematics(`unknown ${environment}`);
    }
    return this.#within(false, false, () => {
      const rows: Node[][] = [[]];
      const end = `end:${environment}`;
      while (!this.#take(end)) {
        if (this.#take("\\\\")) rows.push([]);
        else if (this.#take("&")) continue;
        else rows.at(-1)!.push(this.#relation());
      }
      const filled = rows.filter((row) => row.length > 0);
      if (filled.length === 0 || filled.some((row) => row.length !== filled[0]!.length)) {
        throw new NotMathematics("a matrix with uneven rows");
      }
      return { t: "matrix", rows: filled, determinant: environment === "vmatrix" };
    });
  }
}

function numeral({ text, repeating }: Token): Node {
  const point = text.indexOf(".");
  return {
    t: "number",
    value: fromDecimal(text, repeating),
    digits: text,
    ...(point < 0 || repeating !== undefined ? {} : { decimals: text.length - point - 1 }),
  };
}

/** `664_7`: digits with their base. */
function based(node: Node, base: string): Node {
  const inner = node.t === "negate" ? node.a : node;
  if (inner.t !== "number" || !/^\d+$/.test(base)) {
    throw new NotMathematics("a subscript on no name");
  }
  return { t: "based", negative: node.t === "negate", digits: inner.digits, base };
}

function isUnit(node: Node): boolean {
  if (node.t === "divide") return isUnit(node.a) && isUnit(node.b);
  if (node.t === "power") return isUnit(node.base);
  return node.t === "text";
}

/**
 * Reads an answer.
 * @throws {NotMathematics} where it is too long, too deep, or no notation that is known
 */
export function parse(answer: string): Node {
  const text = tidy(answer);
  if (text === "") throw new NotMathematics("nothing");
  if (text.length > longest) throw new NotMathematics("too long");
  if (/\\over(?![a-z])/.test(text)) return new Parser(`{${text}}`).answer();
  return new Parser(text).answer();
}

/** The number `n` as a node. */
export function integer(n: bigint | number): Node {
  return { t: "number", value: rational(n), digits: `${n}` };
}
