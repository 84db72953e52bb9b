/**
 * Random tensor programs for comparing backends: a few inputs, then operations each on earlier values. A
 * program is text, so that a failing one can be printed and run as it stands. Values are computed on
 * tfjs's cpu backend while the program grows: an operation that leaves the comfortable range, or whose
 * answer would hang on the last bit, is not taken.
 */
import { tf } from "../../xla/mod.ts";
import { operations } from "./operations.ts";

export interface Input {
  readonly data: readonly number[];
  readonly shape: readonly number[];
  readonly dtype: "float32" | "int32" | "bool";
}

/** Values are numbered: inputs first, then one a line. The last is the program's result. */
export interface Program {
  readonly inputs: readonly Input[];
  /** Expressions over `tf` and earlier values `v0`, `v1`, ... */
  readonly lines: readonly string[];
}

/** What is known of a value while a program is made. */
export interface Known {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: string;
  /** Any backend computes these very bits: multiples of 2^-12 that are not large. */
  readonly exact: boolean;
  readonly largest: number;
}

/** Numbers in [0, 1) from a seed (mulberry32, by Tommy Ettinger, public domain). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What operations choose with. */
export class Choice {
  readonly values: Known[] = [];
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = randomNumbers(seed);
  }

  below(n: number): number {
    return Math.floor(this.#random() * n);
  }

  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  /** A value that fits, the later ones more likely. */
  value(fits: (value: Known) => boolean = () => true): Known | undefined {
    const list = this.values.filter(fits);
    if (list.length === 0) return undefined;
    return this.below(2) === 0 ? list.at(-1) : this.of(list);
  }

  axis(value: Known): number {
    return this.below(value.shape.length);
  }
}

const isNumber = (x: number) => Number.isFinite(x);
const LARGEST = 200;

function known(name: string, x: tf.Tensor): Known | undefined {
  const data = x.dataSync();
  let [exact, largest] = [true, 0];
  for (const value of data) {
    if (!isNumber(value)) return undefined;
    largest = Math.max(largest, Math.abs(value));
    exact &&= Number.isInteger(value * 4096);
  }
  return { name, shape: x.shape, dtype: x.dtype, exact: exact && largest < 1024, largest };
}

const INPUT_SHAPES = [[], [1], [3], [5], [2, 3], [3, 1], [4, 4], [1, 5], [2, 3, 4], [2, 1, 3], [
  1,
  4,
  4,
  2,
], [2, 3, 5, 1]];

function randomInput(choice: Choice, first: boolean): Input {
  const shape = choice.of(INPUT_SHAPES);
  const dtype = first ? "float32" : choice.of(["float32", "float32", "int32", "bool"] as const);
  const size = tf.util.sizeFromShape(shape);
  const value = () => {
    if (dtype === "bool") return choice.below(2);
    if (dtype === "int32") return choice.below(13) - 6;
    return (choice.below(49) - 24) / 8;
  };
  return { data: Array.from({ length: size }, value), shape, dtype };
}

export function tensorOf({ data, shape, dtype }: Input): tf.Tensor {
  return tf.tensor([...data], [...shape], dtype);
}

function evaluate(line: string, values: readonly tf.Tensor[]): tf.Tensor {
  const names = values.map((_, i) => `v${i}`);
  return new Function("tf", ...names, `return ${line}`)(tf, ...values) as tf.Tensor;
}

/** The values of every line, inputs included; call within tf.tidy. */
export function valuesOf(program: Program, inputs: readonly tf.Tensor[]): tf.Tensor[] {
  const values = [...inputs];
  for (const line of program.lines) values.push(evaluate(line, values));
  return values;
}

/** The program of a seed. The cpu backend must be active. */
export function randomProgram(seed: number): Program {
  const choice = new Choice(seed);
  const inputs = Array.from(
    { length: 1 + choice.below(3) },
    (_, i) => randomInput(choice, i === 0),
  );
  const lines: string[] = [];
  tf.tidy(() => {
    const values = inputs.map(tensorOf);
    values.forEach((x, i) => choice.values.push(known(`v${i}`, x)!));
    const wanted = 1 + choice.below(6);
    for (let tries = 0; lines.length < wanted && tries < 40; tries++) {
      const line = choice.of(operations)(choice);
      if (line === undefined) continue;
      const result = evaluate(line, values);
      const fact = known(`v${values.length}`, result);
      if (fact === undefined || fact.largest > LARGEST || result.size === 0 || result.size > 500) {
        continue;
      }
      values.push(result);
      choice.values.push(fact);
      lines.push(line);
    }
  });
  return { inputs, lines };
}

/** The program as text that runs. */
export function programText({ inputs, lines }: Program): string {
  return [
    ...inputs.map(({ data, shape, dtype }, i) =>
      `const v${i} = tf.tensor([${data.join(", ")}], [${shape.join(", ")}], "${dtype}");`
    ),
    ...lines.map((line, i) => `const v${inputs.length + i} = ${line};`),
  ].join("\n");
}

/** Without the lines and inputs that the result does not use. */
function withoutUnused(program: Program): Program {
  const count = program.inputs.length;
  const used = new Set([count + program.lines.length - 1]);
  for (let i = count + program.lines.length - 1; i >= count; i--) {
    if (!used.has(i)) continue;
    for (const [, n] of program.lines[i - count]!.matchAll(/\bv(\d+)\b/g)) used.add(Number(n));
  }
  const kept = [...used].sort((a, b) => a - b);
  const renamed = (line: string) =>
    line.replaceAll(/\bv(\d+)\b/g, (_, n) => `v${kept.indexOf(Number(n))}`);
  return {
    inputs: program.inputs.filter((_, i) => used.has(i)),
    lines: program.lines.filter((_, i) => used.has(count + i)).map(renamed),
  };
}

/** `program` with the value of line `at` as an input, and what led to it gone. */
function cutBefore(program: Program, at: number): Program {
  const value = tf.tidy(() => {
    const x = valuesOf(program, program.inputs.map(tensorOf))[program.inputs.length + at]!;
    return { data: [...x.dataSync()], shape: x.shape, dtype: x.dtype as Input["dtype"] };
  });
  const name = program.inputs.length;
  const moved = (line: string) =>
    line.replaceAll(/\bv(\d+)\b/g, (_, n) => {
      const i = Number(n);
      if (i === name + at) return `v${name}`;
      return i < name ? `v${i}` : `v${i + 1}`;
    });
  return withoutUnused({
    inputs: [...program.inputs, value],
    lines: program.lines.map((line, i) => i === at ? line : moved(line)),
  });
}

/**
 * The smallest program found that still fails: cut off after the first wrong value, then with values
 * computed before as inputs.
 */
export async function shrink(
  program: Program,
  fails: (program: Program) => Promise<boolean>,
): Promise<Program> {
  let smallest = program;
  for (let length = 1; length < program.lines.length; length++) {
    const start = withoutUnused({ inputs: program.inputs, lines: program.lines.slice(0, length) });
    if (await fails(start)) {
      smallest = start;
      break;
    }
  }
  for (let at = smallest.lines.length - 2; at >= 0; at--) {
    await fails(smallest);
    const shorter = cutBefore(smallest, at);
    if (shorter.lines.length < smallest.lines.length && await fails(shorter)) {
      smallest = shorter;
      at = smallest.lines.length - 1;
    }
  }
  return smallest;
}
