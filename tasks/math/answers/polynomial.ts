/**
 * Polynomials with rational coefficients over atoms, with rational exponents. Atoms are symbols, π, e,
 * i, prime numbers under a root (`#2` to the power 1/2 is √2), and whatever is opaque to this layer
 * (`~sin(x)`). Roots of numbers become products of roots of primes, and such products are linearly
 * independent over the rationals, so a sum of them is zero exactly when every coefficient is.
 */
import * as q from "./rational.ts";
import type { Rational } from "./rational.ts";

/** Too large to go on with: the caller has other means, or refuses. */
export class TooLarge extends Error {}
/** Outside what this layer knows. */
export class Unknown extends Error {}

/** Products of terms that one attempt may take: some tenths of a second. */
const mostWork = 150_000;
let work = 0;

/**
 * Runs a computation with a budget of its own; undefined where it is too large or beyond this layer.
 * @throws what is neither
 */
export function attempt<T>(compute: () => T): T | undefined {
  work = 0;
  try {
    return compute();
  } catch (error) {
    // Divisions by zero and numbers too long for the machine are range errors.
    if (error instanceof TooLarge || error instanceof Unknown || error instanceof RangeError) {
      return undefined;
    }
    throw error;
  }
}

function spend(count: number): void {
  work += count;
  if (work > mostWork) throw new TooLarge("work");
}

/** Atoms in order with their exponents, none of them zero. */
export type Monomial = readonly (readonly [atom: string, exponent: Rational])[];

export interface Term {
  readonly coefficient: Rational;
  readonly monomial: Monomial;
}

export type Polynomial = ReadonlyMap<string, Term>;

const mostTerms = 600;
const mostDigits = 3000;

export const monomialKey = (monomial: Monomial) =>
  monomial.map(([atom, exponent]) => q.key(exponent) === "1" ? atom : `${atom}^${q.key(exponent)}`)
    .join("*");

export function constant(value: Rational): Polynomial {
  return value.n === 0n ? new Map() : new Map([["", { coefficient: value, monomial: [] }]]);
}

export const nothing = constant(q.zero);
export const unit = constant(q.one);

export function atom(name: string, exponent = q.one): Polynomial {
  const monomial: Monomial = exponent.n === 0n ? [] : [[name, exponent]];
  return new Map([[monomialKey(monomial), { coefficient: q.one, monomial }]]);
}

/** A canonical text: two polynomials are the same exactly when their texts are. */
export function polynomialKey(polynomial: Polynomial): string {
  return [...polynomial].map(([key, { coefficient }]) =>
    `${q.key(coefficient)}${key === "" ? "" : `*${key}`}`
  )
    .sort().join("+") || "0";
}

/** The value of a polynomial without atoms; undefined where it has some. */
export function constantOf(polynomial: Polynomial): Rational | undefined {
  if (polynomial.size === 0) return q.zero;
  return polynomial.size === 1 ? polynomial.get("")?.coefficient : undefined;
}

function checked(value: Rational): Rational {
  // A bigint's hexadecimal length is quick to tell and bounds its decimal one.
  if (value.n.toString(16).length + value.d.toString(16).length > mostDigits) {
    throw new TooLarge("digits");
  }
  return value;
}

export function addPolynomials(a: Polynomial, b: Polynomial, scale = q.one): Polynomial {
  spend(1 + b.size);
  const sum = new Map(a);
  for (const [key, { coefficient, monomial }] of b) {
    const total = q.add(sum.get(key)?.coefficient ?? q.zero, q.multiply(coefficient, scale));
    if (total.n === 0n) sum.delete(key);
    else sum.set(key, { coefficient: checked(total), monomial });
  }
  if (sum.size > mostTerms) throw new TooLarge("terms");
  return sum;
}

export function scalePolynomial(a: Polynomial, scale: Rational): Polynomial {
  return addPolynomials(nothing, a, scale);
}

/** Products of two monomials, with √2·√2 = 2 and i·i = -1 carried out. */
function multiplyTerms(a: Term, b: Term): Term {
  let coefficient = q.multiply(a.coefficient, b.coefficient);
  const exponents = new Map(a.monomial);
  for (const [name, exponent] of b.monomial) {
    exponents.set(name, q.add(exponents.get(name) ?? q.zero, exponent));
  }
  const monomial: [string, Rational][] = [];
  for (const [name, exponent] of exponents) {
    let rest = exponent;
    if (name === "i") {
      const power = Number(((exponent.n % 4n) + 4n) % 4n);
      if (exponent.d !== 1n) throw new Unknown("roots of i");
      if (power >= 2) coefficient = q.negate(coefficient);
      rest = q.rational(power % 2);
    } else if (/^#\d+$/.test(name)) {
      const whole = q.floor(exponent);
      coefficient = q.multiply(coefficient, integerPower(q.rational(BigInt(name.slice(1))), whole));
      rest = q.add(exponent, q.rational(-whole));
    }
    if (rest.n !== 0n) monomial.push([name, rest]);
  }
  monomial.sort(([x], [y]) => x < y ? -1 : 1);
  return { coefficient: checked(coefficient), monomial };
}

export function multiplyPolynomials(a: Polynomial, b: Polynomial): Polynomial {
  spend(1 + a.size * b.size);
  const product = new Map<string, Term>();
  for (const left of a.values()) {
    for (const right of b.values()) {
      const term = multiplyTerms(left, right);
      const key = monomialKey(term.monomial);
      const total = q.add(product.get(key)?.coefficient ?? q.zero, term.coefficient);
      if (total.n === 0n) product.delete(key);
      else product.set(key, { coefficient: total, monomial: term.monomial });
    }
  }
  if (product.size > mostTerms) throw new TooLarge("terms");
  return product;
}

/** @throws {TooLarge} before computing a number that is too long */
export function integerPower(base: Rational, exponent: bigint): Rational {
  const size = exponent < 0n ? -exponent : exponent;
  const digits = Math.max(base.n.toString().length, base.d.toString().length);
  if ((base.n > 1n || base.n < -1n || base.d > 1n) && Number(size) * digits > mostDigits) {
    throw new TooLarge("power");
  }
  const small = base.n === 0n || base.d !== 1n || base.n > 1n || base.n < -1n
    ? size
    : size % 2n + 2n * (size > 0n ? 1n : 0n);
  const power = q.rational(base.n ** small, base.d ** small);
  return exponent < 0n ? q.divide(q.one, power) : power;
}

/** Prime factors of a positive number; what is left above the bound counts as one prime. */
function factors(value: bigint): Map<bigint, bigint> {
  const found = new Map<bigint, bigint>();
  for (let prime = 2n; prime * prime <= value && prime < 2000n; prime += prime === 2n ? 1n : 2n) {
    while (value % prime === 0n) {
      found.set(prime, (found.get(prime) ?? 0n) + 1n);
      value /= prime;
    }
  }
  if (value > 1n) {
    if (value > 4_000_000n) throw new Unknown("a large factor");
    found.set(value, (found.get(value) ?? 0n) + 1n);
  }
  return found;
}

/** A positive rational as prime factors with whole exponents. */
export function primePowers({ n, d }: Rational): [prime: bigint, exponent: bigint][] {
  return [...factors(n), ...[...factors(d)].map(([p, e]) => [p, -e] as [bigint, bigint])];
}

/** `value` to the power p/q as a polynomial of one term; real where the root is odd. */
export function rationalPower(value: Rational, exponent: Rational): Polynomial {
  if (exponent.d === 1n) return constant(integerPower(value, exponent.n));
  if (value.n === 0n) return nothing;
  let sign: Polynomial = unit;
  if (value.n < 0n) {
    if (exponent.d % 2n === 1n) sign = constant(q.rational(exponent.n % 2n === 0n ? 1n : -1n));
    else if (exponent.d === 2n) sign = multiplyPolynomials(unit, atom("i", q.rational(exponent.n)));
    else throw new Unknown("an even root of a negative number");
  }
  let power = sign;
  for (const [prime, count] of primePowers(value.n < 0n ? q.negate(value) : value)) {
    power = multiplyPolynomials(power, atom(`#${prime}`, q.multiply(q.rational(count), exponent)));
  }
  return power;
}
