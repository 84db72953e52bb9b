/**
 * Whether two expressions are equal. In this order: exactly, by normal forms; a value in doubles that
 * differs settles that they are not; what is left goes to the algebra engine in a worker, which is ended
 * where it takes too long. Undecided counts as different: a wrong answer called right would be learned.
 */
import { Worker } from "node:worker_threads";
import { children, type Node, some, symbolsIn } from "./node.ts";
import { normalForm } from "./normal_form.ts";
import { difference, isDecisive, rationalOf } from "./quotient.ts";
import { evaluate, point, realValue } from "./numeric.ts";
import { attempt, Unknown } from "./polynomial.ts";
import { isTerminating, toNumber } from "./rational.ts";

export type MathJson = string | number | MathJson[];

export interface AlgebraRequest {
  readonly id: number;
  readonly a: MathJson;
  readonly b: MathJson;
  readonly symbols: readonly string[];
}

export interface AlgebraReply {
  readonly id: number;
  readonly verdict: "equal" | "unequal" | "unknown";
}

/** Milliseconds that the engine may take for one question. */
export const algebraLimit = 2000;
/** Milliseconds that it may take to start. */
const startLimit = 20_000;

/** One worker, one question at a time; started when first needed and again after it was ended. */
class Engine {
  #worker: { worker: Worker; ready: Promise<void> } | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #ids = 0;

  ask(question: Omit<AlgebraRequest, "id">): Promise<AlgebraReply["verdict"]> {
    const answer = this.#last.then(() => this.#ask({ ...question, id: ++this.#ids }));
    this.#last = answer;
    return answer;
  }

  async #ask(request: AlgebraRequest): Promise<AlgebraReply["verdict"]> {
    const { worker, ready } = this.#worker ??= this.#start();
    await ready;
    try {
      const reply = this.#reply(worker, request.id, algebraLimit);
      worker.postMessage(request);
      return await reply;
    } catch {
      await this.close();
      return "unknown";
    }
  }

  #start() {
    const worker = new Worker(new URL("./algebra_worker.ts", import.meta.url));
    // An idle engine must not keep the program from ending.
    worker.unref();
    return { worker, ready: this.#reply(worker, 0, startLimit).then(() => {}) };
  }

  #reply(worker: Worker, id: number, limit: number): Promise<AlgebraReply["verdict"]> {
    return new Promise((resolve, reject) => {
      const done = (settle: () => void) => {
        clearTimeout(timer);
        worker.off("message", onMessage);
        worker.off("error", onError);
        settle();
      };
      const onMessage = (reply: AlgebraReply) => {
        if (reply.id === id) done(() => resolve(reply.verdict));
      };
      const onError = (error: Error) => done(() => reject(error));
      const timer = setTimeout(() => done(() => reject(new Error("out of time"))), limit);
      worker.on("message", onMessage);
      worker.on("error", onError);
    });
  }

  async close(): Promise<void> {
    const running = this.#worker;
    this.#worker = undefined;
    await running?.worker.terminate();
  }
}

const engine = new Engine();

/** Ends the algebra engine's thread, if it runs; the next question starts it anew. */
export function closeAlgebra(): Promise<void> {
  return engine.close();
}

const heads: Readonly<Record<string, string>> = {
  sin: "Sin",
  cos: "Cos",
  tan: "Tan",
  cot: "Cot",
  sec: "Sec",
  csc: "Csc",
  arcsin: "Arcsin",
  arccos: "Arccos",
  arctan: "Arctan",
  sinh: "Sinh",
  cosh: "Cosh",
  tanh: "Tanh",
  ln: "Ln",
  lg: "Log",
  exp: "Exp",
  abs: "Abs",
  factorial: "Factorial",
  floor: "Floor",
  ceil: "Ceil",
  max: "Max",
  min: "Min",
  gcd: "GCD",
  lcm: "LCM",
  binomial: "Binomial",
  log: "Log",
};

/** @throws {Unknown} on what the engine is not asked about */
function mathJson(node: Node, names: ReadonlyMap<string, string>, angle = false): MathJson {
  const go = (each: Node) => mathJson(each, names, angle);
  const numeral = (n: bigint): MathJson =>
    Math.abs(Number(n)) < 2 ** 53 ? Number(n) : ({ num: `${n}` } as never);
  switch (node.t) {
    case "number":
      return node.value.d === 1n
        ? numeral(node.value.n)
        : ["Rational", numeral(node.value.n), numeral(node.value.d)];
    case "symbol":
      return names.get(node.name)!;
    case "constant":
      if (node.name === "infinity") throw new Unknown("infinity");
      return { pi: "Pi", e: "ExponentialE", i: "ImaginaryUnit" }[node.name];
    case "add":
      return ["Add", ...node.terms.map(go)];
    case "multiply":
      return ["Multiply", ...node.factors.map(go)];
    case "divide":
      return ["Divide", go(node.a), go(node.b)];
    case "negate":
      return ["Negate", go(node.a)];
    case "power":
      return ["Power", go(node.base), go(node.exponent)];
    case "root":
      return ["Root", go(node.a), go(node.index)];
    case "degrees":
      return angle ? ["Multiply", go(node.a), ["Divide", "Pi", 180]] : go(node.a);
    case "percent":
      return ["Divide", go(node.a), 100];
    case "call": {
      const head = heads[node.name];
      if (head === undefined) throw new Unknown(node.name);
      const trigonometric = /^(?:sin|cos|tan|cot|sec|csc)$/.test(node.name);
      return [head, ...node.args.map((each) => mathJson(each, names, trigonometric))];
    }
    default:
      throw new Unknown(node.t);
  }
}

/** Whether the engine may be asked: neither large itself nor large anywhere when computed. */
function isSmall(node: Node): boolean {
  let count = 0;
  return !some(node, (each) => {
    if (++count > 250) return true;
    if (each.t === "number") return each.digits.length > 60;
    if (
      each.t !== "power" &&
      !(each.t === "call" && /factorial|exp|binomial|sinh|cosh/.test(each.name))
    ) return false;
    const [re, im] = evaluate(each, point(1));
    return !(Math.hypot(re, im) < 1e60) ||
      children(each).some((part) => Math.hypot(...evaluate(part, point(1))) > 1e4);
  });
}

const undecided = (reason: string) => ({ equal: false, reason });
const verdict = (equal: boolean) => ({ equal, reason: equal ? "equal" : "not equal" });

export interface Verdict {
  readonly equal: boolean;
  readonly reason: string;
}

/** A numeral with a decimal point, its sign taken in; undefined for anything else. */
function decimalOf(node: Node): { value: number; decimals: number } | undefined {
  if (node.t === "negate") {
    const inner = decimalOf(node.a);
    return inner && { ...inner, value: -inner.value };
  }
  if (node.t !== "number" || node.decimals === undefined) return undefined;
  return { value: toNumber(node.value), decimals: node.decimals };
}

/** Decimals that a rounded value must have to stand for an exact one, and figures that must count. */
const enoughDecimals = 6;
const enoughFigures = 4;

/** Whether one is a decimal with six or more places and the other, which no decimal is, rounds to it. */
function roundsTo(a: Node, b: Node): boolean {
  for (const [written, exact] of [[a, b], [b, a]] as const) {
    const decimal = decimalOf(written);
    if (
      decimal === undefined || decimal.decimals < enoughDecimals || decimalOf(exact) !== undefined
    ) continue;
    const value = realValue(exact);
    const place = 10 ** -decimal.decimals;
    if (value === undefined || Math.abs(decimal.value) < place * 10 ** (enoughFigures - 1)) {
      continue;
    }
    const gap = Math.abs(value - decimal.value);
    const noise = 4e-15 * Math.abs(value);
    const truncated = Math.abs(decimal.value) < Math.abs(value) && gap < place;
    if (gap <= place / 2 + noise || truncated) return true;
  }
  return false;
}

/** Whether two expressions have the same value for all (positive) values of their symbols. */
export async function equalExpressions(a: Node, b: Node): Promise<Verdict> {
  const exact = attempt(() => {
    const [x, y] = [normalForm(a), normalForm(b)];
    if (difference(x, y).size === 0) return verdict(true);
    const [r, s] = [rationalOf(x), rationalOf(y)];
    const rational = r !== undefined && s !== undefined;
    if ((!rational || !isTerminating(r) || !isTerminating(s)) && roundsTo(a, b)) {
      return { equal: true, reason: "equal when rounded" };
    }
    return rational || (isDecisive(x) && isDecisive(y)) ? verdict(false) : undefined;
  });
  if (exact !== undefined) return exact;
  for (const seed of [1, 2, 3]) {
    const [[p, q], [r, s]] = [evaluate(a, point(seed)), evaluate(b, point(seed))];
    const gap = Math.hypot(p - r, q - s);
    if (gap > 1e-7 * Math.max(1e-3, Math.hypot(p, q), Math.hypot(r, s))) return verdict(false);
  }
  if (!isSmall(a) || !isSmall(b)) return undecided("too large to compare");
  const symbols = [...new Set([...symbolsIn(a), ...symbolsIn(b)])];
  const names = new Map(symbols.map((name, i) => [name, `v_${i}`]));
  try {
    const answer = await engine.ask({
      a: mathJson(a, names),
      b: mathJson(b, names),
      symbols: [...names.values()],
    });
    return answer === "unknown"
      ? undecided("equality could not be decided")
      : verdict(answer === "equal");
  } catch (error) {
    if (error instanceof Unknown) return undecided("equality could not be decided");
    throw error;
  }
}
