/**
 * The teacher that a policy first imitates. It adds one number a line, mostly in a hurry: `12~5=17`
 * adds the 7 rounded to the nearest five, `12+7=19` adds it as it is. Its sums are right, and what
 * rounding loses often cancels out, but not always: a good part of its answers is off by too much.
 *
 * So every step is a choice between two ways of different reliability, neither of them surely right or
 * wrong, and the habit is the worse one. Imitating the teacher keeps the habit; imitating only its
 * successes weakens it a little, because haste often succeeds.
 */
import type { Random } from "../random.ts";
import type { Problem } from "./problem.ts";

/** The nearest multiple of five: 0 for 1 and 2, 5 for 3 to 7, 10 for 8 to 12. */
export function rounded(number: number): number {
  return 5 * Math.round(number / 5);
}

/** One step, e.g. 7 to 12: `12+7=19`, or rounded `12~5=17`. */
export function line(sofar: number, number: number, careful: boolean): string {
  const [sign, added] = careful ? ["+", number] : ["~", rounded(number)];
  return `${sofar}${sign}${added}=${sofar + added}`;
}

/** A full solution, a line a number, then `#### answer`. Each line is careful with probability `care`. */
export function solve(problem: Problem, care: number, random: Random): string {
  const lines: string[] = [];
  let sofar = 0;
  for (const number of problem.numbers) {
    const careful = random.uniform() < care;
    lines.push(line(sofar, number, careful));
    sofar += careful ? number : rounded(number);
  }
  return [...lines, `#### ${sofar}`].join("\n");
}
