/**
 * The normal form of an expression: a quotient of two polynomials. Two expressions are equal where the
 * cross products are the same polynomial, and that is exact: no rounding is involved. What it cannot
 * take apart (logarithms of sums, sines of symbols, nested roots) becomes an opaque atom, and then only
 * a match says anything.
 */
import type { Node } from "./node.ts";
import {
  atom,
  constantOf,
  type Polynomial,
  polynomialKey,
  primePowers,
  rationalPower,
  TooLarge,
  Unknown,
} from "./polynomial.ts";
import {
  half,
  onlyTerm,
  over,
  plus,
  power,
  type Quotient,
  rationalOf,
  times,
  value,
  whole,
} from "./quotient.ts";
import * as q from "./rational.ts";
import type { Rational } from "./rational.ts";

const keyOf = ({ numerator, denominator }: Quotient) =>
  `${polynomialKey(numerator)}/${polynomialKey(denominator)}`;
const opaque = (name: string, ...args: Quotient[]) =>
  whole(atom(`~${name}(${args.map(keyOf).join(",")})`));

/** How many times π an angle is, where that is a rational number. */
function multipleOfPi({ numerator, denominator }: Quotient): Rational | undefined {
  const d = constantOf(denominator);
  if (d === undefined) return undefined;
  if (numerator.size === 0) return q.zero;
  const term = numerator.size === 1 ? numerator.get("pi") : undefined;
  return term === undefined ? undefined : q.divide(term.coefficient, d);
}

const root = (n: number, scale: Rational) =>
  times(value(scale), whole(rationalPower(q.rational(n), half)));
/** sin(πr) by r within the first quarter. */
const sines: Readonly<Record<string, () => Quotient>> = {
  "0": () => value(q.zero),
  "1/6": () => value(half),
  "1/4": () => root(2, half),
  "1/3": () => root(3, half),
  "1/2": () => value(q.one),
  "1/12": () => plus(root(6, q.rational(1, 4)), root(2, q.rational(1, 4)), q.rational(-1)),
  "5/12": () => plus(root(6, q.rational(1, 4)), root(2, q.rational(1, 4))),
};

function sine(angle: Quotient): Quotient {
  const turns = multipleOfPi(angle);
  if (turns === undefined) {
    const [leading] = [...angle.numerator].sort(([a], [b]) => a < b ? -1 : 1).map(([, term]) =>
      term.coefficient
    );
    if (leading === undefined || leading.n > 0n) return opaque("sin", angle);
    return times(value(q.rational(-1)), opaque("sin", times(value(q.rational(-1)), angle)));
  }
  // Into [0, 2), then into the first quarter.
  let r = q.add(turns, q.rational(-2n * q.floor(q.divide(turns, q.rational(2)))));
  let sign = q.one;
  if (r.n >= r.d) [r, sign] = [q.add(r, q.rational(-1)), q.rational(-1)];
  if (2n * r.n > r.d) r = q.add(q.one, q.negate(r));
  const known = sines[q.key(r)];
  return times(value(sign), known === undefined ? whole(atom(`~sin(pi*${q.key(r)})`)) : known());
}

function cosine(angle: Quotient): Quotient {
  const turns = multipleOfPi(angle);
  if (turns !== undefined) {
    return sine(times(value(q.add(half, q.negate(turns))), whole(atom("pi"))));
  }
  const [leading] = [...angle.numerator].sort(([a], [b]) => a < b ? -1 : 1).map(([, term]) =>
    term.coefficient
  );
  return opaque(
    "cos",
    leading !== undefined && leading.n < 0n ? times(value(q.rational(-1)), angle) : angle,
  );
}

/** The natural logarithm, with products and powers taken apart. */
function logarithm(argument: Quotient): Quotient {
  const part = (polynomial: Polynomial): Quotient => {
    if (polynomial.size !== 1) return opaque("ln", whole(polynomial));
    const { coefficient, monomial } = onlyTerm(polynomial);
    if (coefficient.n <= 0n) return opaque("ln", whole(polynomial));
    let sum = value(q.zero);
    for (const [prime, count] of primePowers(coefficient)) {
      sum = plus(sum, times(value(q.rational(count)), whole(atom(`~ln(${prime})`))));
    }
    for (const [name, exponent] of monomial) {
      const log = name === "e" ? value(q.one) : whole(atom(`~ln(${name.replace(/^#/, "")})`));
      sum = plus(sum, times(value(exponent), log));
    }
    return sum;
  };
  return plus(part(argument.numerator), part(argument.denominator), q.rational(-1));
}

function factorial(n: bigint): bigint {
  if (n < 0n || n > 400n) throw new TooLarge("factorial");
  let product = 1n;
  for (let i = 2n; i <= n; i++) product *= i;
  return product;
}

/** Functions of whole or rational numbers. */
const onNumbers: Readonly<Record<string, (...args: Rational[]) => Rational | undefined>> = {
  factorial: (a) => a.d === 1n && a.n >= 0n ? q.rational(factorial(a.n)) : undefined,
  binomial: (n, k) =>
    n === undefined || k === undefined || n.d !== 1n || k.d !== 1n || k.n < 0n || n.n < k.n
      ? undefined
      : q.rational(factorial(n.n), factorial(k.n) * factorial(n.n - k.n)),
  abs: (a) => a.n < 0n ? q.negate(a) : a,
  floor: (a) => q.rational(q.floor(a)),
  ceil: (a) => q.rational(-q.floor(q.negate(a))),
  gcd: (...args) =>
    args.every(q.isInteger) ? q.rational(args.reduce((a, { n }) => q.gcd(a, n), 0n)) : undefined,
  lcm: (...args) =>
    args.every((a) => a.d === 1n && a.n > 0n)
      ? q.rational(args.reduce((a, { n }) => a / q.gcd(a, n) * n, 1n))
      : undefined,
  max: (...args) => args.reduce((a, b) => a.n * b.d >= b.n * a.d ? a : b),
  min: (...args) => args.reduce((a, b) => a.n * b.d <= b.n * a.d ? a : b),
};

const reciprocals: Readonly<Record<string, string>> = { sec: "cos", csc: "sin", cot: "tan" };

function call(name: string, args: readonly Node[]): Quotient {
  const trigonometric = /^(?:sin|cos|tan|sec|csc|cot)$/.test(name);
  const values = args.map((each) => normalForm(each, trigonometric));
  const [a, b] = values;
  if (a === undefined) throw new Unknown(name);
  const numbers = values.map(rationalOf);
  if (numbers.every((number) => number !== undefined) && onNumbers[name] !== undefined) {
    const result = onNumbers[name](...numbers);
    if (result !== undefined) return value(result);
  }
  if (reciprocals[name] !== undefined) return over(value(q.one), call(reciprocals[name], args));
  switch (name) {
    case "sin":
      return sine(a);
    case "cos":
      return cosine(a);
    case "tan":
      return over(sine(a), cosine(a));
    case "ln":
      return logarithm(a);
    case "lg":
      return over(logarithm(a), logarithm(value(q.rational(10))));
    case "log":
      return over(logarithm(a), logarithm(b ?? value(q.rational(10))));
    case "exp":
      return power(whole(atom("e")), a);
    case "abs":
      return isPositive(a) ? a : opaque("abs", a);
    default:
      return opaque(name, ...values);
  }
}

/** Surely so: sums of positive terms of numbers, roots and π. */
function isPositive({ numerator, denominator }: Quotient): boolean {
  const positive = (polynomial: Polynomial) =>
    [...polynomial.values()].every(({ coefficient, monomial }) =>
      coefficient.n > 0n && monomial.every(([name]) => /^(?:#\d+|pi|e)$/.test(name))
    );
  return positive(numerator) && positive(denominator);
}

function big({ name, parts }: Node & { t: "big" }): Quotient {
  const [index, from, to, body] = parts;
  if (index?.t !== "symbol" && index?.t !== "constant") throw new Unknown("an index");
  const [low, high] = [rationalOf(normalForm(from!)), rationalOf(normalForm(to!))];
  if (low?.d !== 1n || high?.d !== 1n) throw new Unknown("bounds");
  if (high.n - low.n > 300n) throw new TooLarge("range");
  let total = value(name === "sum" ? q.zero : q.one);
  for (let k = low.n; k <= high.n; k++) {
    const each = normalForm(
      substitute(body!, index.name, { t: "number", value: q.rational(k), digits: `${k}` }),
    );
    total = name === "sum" ? plus(total, each) : times(total, each);
  }
  return total;
}

function substitute(node: Node, name: string, by: Node): Node {
  const go = (each: Node) => substitute(each, name, by);
  switch (node.t) {
    case "symbol":
    case "constant":
      return node.name === name ? by : node;
    case "add":
      return { ...node, terms: node.terms.map(go) };
    case "multiply":
      return { ...node, factors: node.factors.map(go) };
    case "divide":
      return { ...node, a: go(node.a), b: go(node.b) };
    case "negate":
      return { ...node, a: go(node.a) };
    case "power":
      return { ...node, base: go(node.base), exponent: go(node.exponent) };
    case "root":
      return { ...node, index: go(node.index), a: go(node.a) };
    case "call":
      return { ...node, args: node.args.map(go) };
    case "number":
      return node;
    default:
      throw new Unknown(`${node.t} in a sum`);
  }
}

/**
 * The normal form of an expression.
 * @param angle whether degrees are to become radians: they do as the argument of a sine
 * @throws {TooLarge} where going on would cost too much
 * @throws {Unknown} on what has no normal form here
 */
export function normalForm(node: Node, angle = false): Quotient {
  const go = (each: Node) => normalForm(each, angle);
  switch (node.t) {
    case "number":
      return value(node.value);
    case "symbol":
      return whole(atom(node.name));
    case "constant":
      if (node.name === "infinity") throw new Unknown("infinity");
      return whole(atom(node.name));
    case "add":
      return node.terms.map(go).reduce((a, b) => plus(a, b));
    case "multiply":
      return node.factors.map(go).reduce(times);
    case "divide":
      return over(go(node.a), go(node.b));
    case "negate":
      return times(value(q.rational(-1)), go(node.a));
    case "power":
      return power(go(node.base), go(node.exponent));
    case "root":
      return power(go(node.a), over(value(q.one), go(node.index)));
    case "degrees":
      return angle
        ? times(go(node.a), times(value(q.rational(1, 180)), whole(atom("pi"))))
        : go(node.a);
    case "percent":
      return times(go(node.a), value(q.rational(1, 100)));
    case "call":
      return call(node.name, node.args);
    case "big":
      return big(node);
    default:
      throw new Unknown(node.t);
  }
}
