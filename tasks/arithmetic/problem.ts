/**
 * Arithmetic word problems: a few groups of things, how many in all? Made by a seeded generator, no
 * two alike, and dealt to the splits by what they say, so that no problem is ever in two splits,
 * whatever the seed, the counts or the order of the groups.
 */
import { UserError } from "../../errors.ts";
import { fractionOf, Random } from "../random.ts";
import type { Split } from "../task.ts";

/** `count` containers that hold `each` things. */
export interface Group {
  readonly count: number;
  readonly each: number;
}

export interface Problem {
  readonly item: string;
  readonly groups: readonly Group[];
}

/** How large problems are: numbers of groups and both factors, ends included. */
export interface Size {
  readonly groups: readonly [low: number, high: number];
  readonly count: readonly [low: number, high: number];
  readonly each: readonly [low: number, high: number];
}

/** A product a group and a running total a further group: 3, 5 or 7 steps for 2, 3 or 4 groups. */
export const sizes: Readonly<Record<1 | 2 | 3 | 4 | 5, Size>> = {
  1: { groups: [2, 2], count: [2, 9], each: [11, 49] },
  2: { groups: [2, 3], count: [2, 9], each: [11, 99] },
  3: { groups: [3, 3], count: [3, 9], each: [12, 99] },
  4: { groups: [3, 4], count: [3, 9], each: [12, 99] },
  5: { groups: [4, 4], count: [3, 9], each: [101, 999] },
};

const items = ["bags", "cans", "jars", "bins", "kegs", "sets"];

/** `bags: 6 of 47, 4 of 38, 7 of 29` */
export function problemText(problem: Problem): string {
  const groups = problem.groups.map(({ count, each }) => `${count} of ${each}`);
  return `${problem.item}: ${groups.join(", ")}`;
}

export function total(problem: Problem): number {
  return problem.groups.reduce((sum, { count, each }) => sum + count * each, 0);
}

/** The same for problems that differ only in wording or in the order of their groups. */
function essence(problem: Problem): string {
  return problem.groups.map(({ count, each }) => `${count}*${each}`).sort().join("+");
}

/** Shares of all problems: 80 % train, 10 % validation, 10 % test. */
export function splitOf(problem: Problem): Split {
  const fraction = fractionOf(essence(problem));
  return fraction < 0.8 ? "train" : fraction < 0.9 ? "validation" : "test";
}

function draw(random: Random, size: Size): Problem {
  const item = random.pick(items);
  const groups = Array.from({ length: random.integer(...size.groups) }, () => ({
    count: random.integer(...size.count),
    each: random.integer(...size.each),
  }));
  return { item, groups };
}

/**
 * `count` different problems of a split; a larger count begins with the problems of a smaller one.
 * @throws {UserError} where the split does not hold that many
 */
export function* problems(
  split: Split,
  options: { seed: number; size: Size; count: number },
): Generator<Problem> {
  const random = Random.from(`arithmetic/problems/${options.seed}/${split}`);
  const seen = new Set<string>();
  let fruitless = 0;
  while (seen.size < options.count) {
    const problem = draw(random, options.size);
    const key = essence(problem);
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
