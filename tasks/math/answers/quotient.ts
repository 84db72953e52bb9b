/**
 * Quotients of two polynomials and their arithmetic, powers and roots with it. Exact throughout: what
 * has no exact power becomes an atom named by its base and exponent.
 */
import {
  addPolynomials,
  atom,
  constant,
  constantOf,
  integerPower,
  type Monomial,
  monomialKey,
  multiplyPolynomials,
  nothing,
  type Polynomial,
  polynomialKey,
  primePowers,
  rationalPower,
  scalePolynomial,
  type Term,
  TooLarge,
  unit,
  Unknown,
} from "./polynomial.ts";
import * as q from "./rational.ts";
import type { Rational } from "./rational.ts";

export interface Quotient {
  readonly numerator: Polynomial;
  readonly denominator: Polynomial;
}

export const half = q.rational(1, 2);
/** A polynomial, or a number, as a quotient. */
export const whole = (numerator: Polynomial): Quotient => ({ numerator, denominator: unit });
export const value = (number: Rational) => whole(constant(number));

/** Polynomials under a root, by the names of their atoms. */
const roots = new Map<string, Polynomial>();
const mostRoots = 5000;

/** Whether every atom is independent of the others, so that different forms are different values. */
export function isDecisive({ numerator, denominator }: Quotient): boolean {
  const opaque = (polynomial: Polynomial) =>
    [...polynomial.values()].some(({ monomial }) =>
      monomial.some(([name]) => /^~|\^\(/.test(name))
    );
  return !opaque(numerator) && !opaque(denominator);
}

/** The rational number that a quotient is, where it is one. */
export function rationalOf({ numerator, denominator }: Quotient): Rational | undefined {
  const [n, d] = [constantOf(numerator), constantOf(denominator)];
  return n === undefined || d === undefined || d.n === 0n ? undefined : q.divide(n, d);
}

export function onlyTerm(polynomial: Polynomial): Term {
  for (const term of polynomial.values()) return term;
  throw new Unknown("zero");
}

function quotient(numerator: Polynomial, denominator: Polynomial): Quotient {
  if (denominator.size === 0) throw new Unknown("division by zero");
  if (denominator.size === 1) {
    const { coefficient, monomial } = onlyTerm(denominator);
    const flipped: Monomial = monomial.map(([name, exponent]) => [name, q.negate(exponent)]);
    const inverse = new Map([["", {
      coefficient: q.divide(q.one, coefficient),
      monomial: flipped,
    }]]);
    return whole(multiplyPolynomials(numerator, inverse));
  }
  return { numerator, denominator };
}

export const times = (a: Quotient, b: Quotient) =>
  reduceRoots(quotient(
    multiplyPolynomials(a.numerator, b.numerator),
    multiplyPolynomials(a.denominator, b.denominator),
  ));
export const over = (a: Quotient, b: Quotient) =>
  times(a, { numerator: b.denominator, denominator: b.numerator });
export function plus(a: Quotient, b: Quotient, scale = q.one): Quotient {
  if (polynomialKey(a.denominator) === polynomialKey(b.denominator)) {
    return quotient(addPolynomials(a.numerator, b.numerator, scale), a.denominator);
  }
  return quotient(
    addPolynomials(
      multiplyPolynomials(a.numerator, b.denominator),
      multiplyPolynomials(b.numerator, a.denominator),
      scale,
    ),
    multiplyPolynomials(a.denominator, b.denominator),
  );
}

/** Carries out whole powers of roots: (√(x+1))² is x+1. */
function reduceRoots(given: Quotient): Quotient {
  const reduce = (polynomial: Polynomial): Polynomial => {
    if (![...polynomial.values()].some(({ monomial }) => monomial.some(excess))) return polynomial;
    let sum: Polynomial = nothing;
    for (const { coefficient, monomial } of polynomial.values()) {
      let term = constant(coefficient);
      for (const [name, exponent] of monomial) {
        const under = excess([name, exponent]) ? roots.get(name)! : undefined;
        if (under === undefined) term = multiplyPolynomials(term, atom(name, exponent));
        else {
          const count = q.floor(exponent);
          if (count > 20n) throw new TooLarge("power of a root");
          for (let i = 0n; i < count; i++) term = multiplyPolynomials(term, under);
          term = multiplyPolynomials(term, atom(name, q.add(exponent, q.rational(-count))));
        }
      }
      sum = addPolynomials(sum, term);
    }
    return sum;
  };
  const excess = ([name, exponent]: readonly [string, Rational]) =>
    roots.has(name) && q.floor(exponent) >= 1n;
  return quotient(reduce(given.numerator), reduce(given.denominator));
}

function integerPowerOf(base: Quotient, exponent: bigint): Quotient {
  if (exponent < 0n) return over(value(q.one), integerPowerOf(base, -exponent));
  const number = rationalOf(base);
  if (number !== undefined) return value(integerPower(number, exponent));
  if (exponent > 200n || (base.numerator.size > 1 && exponent > 24n)) throw new TooLarge("power");
  let result = value(q.one);
  for (let square = base, rest = exponent; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = times(result, square);
    if (rest > 1n) square = times(square, square);
  }
  return result;
}

/** The positive number that divides every coefficient, leaving whole numbers without common factor. */
function content(polynomial: Polynomial): Rational {
  let [n, d] = [0n, 1n];
  for (const { coefficient } of polynomial.values()) {
    n = q.gcd(n, coefficient.n);
    d = d / q.gcd(d, coefficient.d) * coefficient.d;
  }
  return q.rational(n, d);
}

function fractionalPower(polynomial: Polynomial, exponent: Rational): Quotient {
  if (polynomial.size === 0) return value(q.zero);
  if (polynomial.size === 1) {
    const { coefficient, monomial } = onlyTerm(polynomial);
    let power = whole(rationalPower(coefficient, exponent));
    for (const [name, inner] of monomial) {
      if (name === "i") throw new Unknown("roots of i");
      power = times(
        power,
        whole(multiplyPolynomials(unit, atom(name, q.multiply(inner, exponent)))),
      );
    }
    return power;
  }
  const common = content(polynomial);
  const primitive = scalePolynomial(polynomial, q.divide(q.one, common));
  const name = `~(${polynomialKey(primitive)})`;
  if (roots.size > mostRoots) roots.clear();
  roots.set(name, primitive);
  const count = q.floor(exponent);
  const rest = q.add(exponent, q.rational(-count));
  const root = whole(multiplyPolynomials(rationalPower(common, exponent), atom(name, rest)));
  return times(integerPowerOf(whole(primitive), count), root);
}

export function power(base: Quotient, exponent: Quotient): Quotient {
  const number = rationalOf(exponent);
  if (number !== undefined) {
    if (number.d === 1n) return integerPowerOf(base, number.n);
    if (number.d > 60n) throw new Unknown("a high root");
    return over(fractionalPower(base.numerator, number), fractionalPower(base.denominator, number));
  }
  if (constantOf(exponent.denominator) === undefined || base.numerator.size !== 1) {
    throw new Unknown("a power");
  }
  if (constantOf(base.denominator) === undefined) throw new Unknown("a power of a quotient");
  // b^(m + 2n) = b^m · (b^n)², factor by factor of b.
  const { coefficient, monomial } = onlyTerm(base.numerator);
  if (coefficient.n <= 0n) throw new Unknown("a power of a negative number");
  const bases: (readonly [string, Rational])[] = [
    ...primePowers(coefficient).map(([p, e]): [string, Rational] => [`#${p}`, q.rational(e)]),
    ...monomial,
  ];
  const denominator = constantOf(exponent.denominator)!;
  let result = value(q.one);
  for (const { coefficient: scale, monomial: variable } of exponent.numerator.values()) {
    for (const [name, count] of bases) {
      const total = q.divide(q.multiply(scale, count), denominator);
      const factor = variable.length === 0
        ? atom(name, total)
        : atom(`${name}^(${monomialKey(variable)})`, total);
      result = times(result, whole(multiplyPolynomials(unit, factor)));
    }
  }
  return result;
}

/** The difference of two forms; zero exactly where they are equal, up to what is opaque. */
export function difference(a: Quotient, b: Quotient): Polynomial {
  return reduceRoots(whole(addPolynomials(
    multiplyPolynomials(a.numerator, b.denominator),
    multiplyPolynomials(b.numerator, a.denominator),
    q.rational(-1),
  ))).numerator;
}

/** The constant c with a = c·b, where there is one. */
export function proportion(a: Polynomial, b: Polynomial): Rational | undefined {
  const [first] = a;
  if (first === undefined || a.size !== b.size) return undefined;
  const partner = b.get(first[0]);
  if (partner === undefined) return undefined;
  const scale = q.divide(first[1].coefficient, partner.coefficient);
  return addPolynomials(a, b, q.negate(scale)).size === 0 ? scale : undefined;
}
