/**
 * Exact rational numbers over BigInt, always in lowest terms with a positive denominator, so two are
 * equal exactly when both fields are.
 */
export interface Rational {
  readonly n: bigint;
  readonly d: bigint;
}

export const zero: Rational = { n: 0n, d: 1n };
export const one: Rational = { n: 1n, d: 1n };

const magnitude = (value: bigint) => value < 0n ? -value : value;

export function gcd(a: bigint, b: bigint): bigint {
  [a, b] = [magnitude(a), magnitude(b)];
  while (b !== 0n) [a, b] = [b, a % b];
  return a;
}

/** @throws {RangeError} where the denominator is zero */
export function rational(n: bigint | number, d: bigint | number = 1n): Rational {
  [n, d] = [BigInt(n), BigInt(d)];
  if (d === 0n) throw new RangeError("division by zero");
  if (d === 1n) return { n, d };
  const common = gcd(n, d) * (d < 0n ? -1n : 1n);
  return { n: n / common, d: d / common };
}

export const add = (a: Rational, b: Rational) => rational(a.n * b.d + b.n * a.d, a.d * b.d);
export const multiply = (a: Rational, b: Rational) => rational(a.n * b.n, a.d * b.d);
export const divide = (a: Rational, b: Rational) => rational(a.n * b.d, a.d * b.n);
export const negate = (a: Rational): Rational => ({ n: -a.n, d: a.d });
export const equal = (a: Rational, b: Rational) => a.n === b.n && a.d === b.d;
export const isInteger = (a: Rational) => a.d === 1n;
export const key = (a: Rational) => a.d === 1n ? `${a.n}` : `${a.n}/${a.d}`;

/** The largest whole number that is not above `a`. */
export function floor(a: Rational): bigint {
  const quotient = a.n / a.d;
  return a.n < 0n && quotient * a.d !== a.n ? quotient - 1n : quotient;
}

/** The nearest double; right for numbers of any length. */
export function toNumber(a: Rational): number {
  const [n, d] = [Number(a.n), Number(a.d)];
  if (Number.isFinite(n) && Number.isFinite(d)) return n / d;
  const excess = Math.max(`${magnitude(a.n)}`.length, `${a.d}`.length) - 300;
  const scale = 10n ** BigInt(excess);
  const small = Number(a.d / scale);
  return small === 0 ? (a.n < 0n ? -Infinity : Infinity) : Number(a.n / scale) / small;
}

/**
 * The value of a decimal numeral such as `10455`, `.5`, `2.50`; `repeating` are digits that follow it
 * for ever, as in 0.1(6).
 */
export function fromDecimal(text: string, repeating = ""): Rational {
  const [whole = "", decimals = ""] = text.split(".");
  const scale = 10n ** BigInt(decimals.length);
  const base = rational(BigInt(whole + decimals || "0"), scale);
  if (repeating === "") return base;
  return add(base, rational(BigInt(repeating), scale * (10n ** BigInt(repeating.length) - 1n)));
}

/** Whether the decimal expansion of `a` ends. */
export function isTerminating(a: Rational): boolean {
  let d = a.d;
  for (const prime of [2n, 5n]) while (d % prime === 0n) d /= prime;
  return d === 1n;
}
