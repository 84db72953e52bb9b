/**
 * Arithmetic problems: add a few numbers, the answer may be off by a little. Made by a seeded
 * generator, no two alike, and dealt to the splits by what they say, so that no problem is ever in two
 * splits, whatever the seed or the counts.
 */
import { UserError } from "../../errors.ts";
import { fractionOf, Random } from "../random.ts";
import type { Split } from "../task.ts";

export interface Problem {
  readonly numbers: readonly number[];
  /** How far from the sum an answer may be. */
  readonly tolerance: number;
}

/** How large problems are: how many numbers, each from 1 to `largest`, and the slack. */
export interface Size {
  readonly count: number;
  readonly largest: number;
  readonly tolerance: number;
}

/** A step a number: 4 to 8 steps. */
export const sizes: Readonly<Record<1 | 2 | 3 | 4 | 5, Size>> = {
  1: { count: 4, largest: 12, tolerance: 2 },
  2: { count: 5, largest: 9, tolerance: 2 },
  3: { count: 6, largest: 12, tolerance: 2 },
  4: { count: 7, largest: 29, tolerance: 2 },
  5: { count: 8, largest: 99, tolerance: 2 },
};

/** `add 7 3 9 4 8 within 2` */
export function problemText({ numbers, tolerance }: Problem): string {
  return `add ${numbers.join(" ")} within ${tolerance}`;
}

export function total({ numbers }: Problem): number {
  return numbers.reduce((sum, number) => sum + number, 0);
}

/** The problem that a text states. Throws a TypeError where it states none. */
export function parseProblem(text: string): Problem {
  const match = /^add ((?:\d+ )+)within (\d+)$/.exec(text);
  if (match === null) throw new TypeError(`not an arithmetic problem: '${text}'`);
  const [, numbers = "", tolerance = ""] = match;
  return { numbers: numbers.trim().split(" ").map(Number), tolerance: Number(tolerance) };
}

/** Shares of all problems: 80 % train, 10 % validation, 10 % test. */
function splitOf(problem: Problem): Split {
  const fraction = fractionOf(problem.numbers.join("+"));
  return fraction < 0.8 ? "train" : fraction < 0.9 ? "validation" : "test";
}

/**
 * `count` different problems of a split; a larger count begins with the problems of a smaller one.
 * @throws {UserError} where the split does not hold that many
 */
export function* problems(
  split: Split,
  options: { seed: number; size: Size; count: number },
): Generator<Problem> {
  const { count, largest, tolerance } = options.size;
  const random = Random.from(`arithmetic/problems/${options.seed}/${split}`);
  const seen = new Set<string>();
  let fruitless = 0;
  while (seen.size < options.count) {
    const numbers = Array.from({ length: count }, () => random.integer(1, largest));
    const problem = { numbers, tolerance };
    const key = numbers.join();
    if (splitOf(problem) !== split || seen.has(key)) {
      // A split holds a tenth of the problems or more: this many misses mean that it is used up.
      if (++fruitless < 5000) continue;
      throw new UserError(
        `arithmetic: cannot make ${options.count} different ${split} problems, found ${seen.size}: ` +
          "ask for fewer or raise the difficulty",
        { exitCode: 2 },
      );
    }
    fruitless = 0;
    seen.add(key);
    yield problem;
  }
}
