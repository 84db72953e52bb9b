/**
 * Complex double-precision values of expressions. A value that differs settles that two expressions do;
 * values that agree settle nothing.
 */
import type { Node } from "./node.ts";
import { toNumber } from "./rational.ts";

export type Complex = readonly [re: number, im: number];
export type Environment = (name: string) => number;

const real = (x: number): Complex => [x, 0];
const times = ([a, b]: Complex, [c, d]: Complex): Complex => [a * c - b * d, a * d + b * c];
function over([a, b]: Complex, [c, d]: Complex): Complex {
  const size = c * c + d * d;
  return [(a * c + b * d) / size, (b * c - a * d) / size];
}
const exp = ([a, b]: Complex): Complex => [Math.exp(a) * Math.cos(b), Math.exp(a) * Math.sin(b)];
const log = ([a, b]: Complex): Complex => [Math.log(Math.hypot(a, b)), Math.atan2(b, a)];

/**
 * @param numerator of the exponent as a fraction with an odd denominator, where it is one: the power of
 *   a negative number is real then, as school has it; else it is the principal value
 */
function power(base: Complex, exponent: Complex, numerator?: bigint): Complex {
  if (base[0] === 0 && base[1] === 0) return real(exponent[0] > 0 ? 0 : NaN);
  if (exponent[1] === 0 && base[1] === 0) {
    if (base[0] > 0 || Number.isInteger(exponent[0])) return real(base[0] ** exponent[0]);
    if (numerator !== undefined) {
      const size = (-base[0]) ** exponent[0];
      return real(numerator % 2n === 0n ? size : -size);
    }
  }
  return exp(times(exponent, log(base)));
}

/** The numerator of a fraction that stands there as such, where its denominator is odd. */
function overOdd(exponent: Node): bigint | undefined {
  if (exponent.t !== "divide" || exponent.a.t !== "number" || exponent.b.t !== "number") {
    return undefined;
  }
  return exponent.b.value.n % 2n === 1n ? exponent.a.value.n : undefined;
}

const realFunctions: Readonly<Record<string, (...x: number[]) => number>> = {
  sin: Math.sin,
  cos: Math.cos,
  tan: Math.tan,
  arcsin: Math.asin,
  arccos: Math.acos,
  arctan: Math.atan,
  sinh: Math.sinh,
  cosh: Math.cosh,
  tanh: Math.tanh,
  cot: (x) => 1 / Math.tan(x),
  sec: (x) => 1 / Math.cos(x),
  csc: (x) => 1 / Math.sin(x),
  floor: Math.floor,
  ceil: Math.ceil,
  max: Math.max,
  min: Math.min,
};

function call(node: Node & { t: "call" }, at: (node: Node) => Complex): Complex {
  const args = node.args.map(at);
  const [a, b] = args;
  if (a === undefined) return real(NaN);
  switch (node.name) {
    case "abs":
      return real(Math.hypot(...a));
    case "exp":
      return exp(a);
    case "ln":
      return log(a);
    case "lg":
      return over(log(a), log(real(10)));
    case "log":
      return over(log(a), log(b ?? real(10)));
    case "factorial": {
      if (!Number.isInteger(a[0]) || a[0] < 0 || a[0] > 170) return real(NaN);
      let product = 1;
      for (let i = 2; i <= a[0]; i++) product *= i;
      return real(product);
    }
  }
  const known = realFunctions[node.name];
  if (known === undefined || args.some(([, im]) => im !== 0)) return real(NaN);
  return real(known(...args.map(([re]) => re)));
}

/** The value at one point; NaN parts where there is none in doubles. */
export function evaluate(node: Node, environment: Environment, angle = false): Complex {
  const at = (each: Node) => evaluate(each, environment, angle);
  switch (node.t) {
    case "number":
      return real(toNumber(node.value));
    case "symbol":
      return real(environment(node.name));
    case "constant":
      if (node.name === "i") return [0, 1];
      return real({ pi: Math.PI, e: Math.E, infinity: Infinity }[node.name]);
    case "add":
      return node.terms.map(at).reduce(([a, b], [c, d]) => [a + c, b + d]);
    case "multiply":
      return node.factors.map(at).reduce(times);
    case "divide":
      return over(at(node.a), at(node.b));
    case "negate": {
      const [re, im] = at(node.a);
      return [-re, -im];
    }
    case "power":
      return power(at(node.base), at(node.exponent), overOdd(node.exponent));
    case "root": {
      const [index] = at(node.index);
      return power(at(node.a), real(1 / index), index % 2 === 1 ? 1n : undefined);
    }
    case "degrees": {
      const [re, im] = at(node.a);
      return angle ? [re * Math.PI / 180, im] : [re, im];
    }
    case "percent": {
      const [re, im] = at(node.a);
      return [re / 100, im / 100];
    }
    case "call": {
      const trigonometric = /^(?:sin|cos|tan|sec|csc|cot)$/.test(node.name);
      return call(node, (each) => evaluate(each, environment, trigonometric));
    }
    default:
      return real(NaN);
  }
}

/** A positive value for each name, the same in every run: symbols are taken to be positive. */
export function point(seed: number): Environment {
  return (name) => {
    let hash = 2166136261 ^ seed;
    for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 16777619);
    hash = Math.imul(hash ^ (hash >>> 15), 2246822507);
    return 0.3 + ((hash ^ (hash >>> 13)) >>> 0) / 2 ** 32 * 2;
  };
}

/** The value of an expression without symbols, where it is real. */
export function realValue(node: Node): number | undefined {
  const [re, im] = evaluate(node, () => NaN);
  return Math.abs(im) <= 1e-12 * Math.max(1, Math.abs(re)) && !Number.isNaN(re) ? re : undefined;
}
