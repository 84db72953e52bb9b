/**
 * The teacher that a policy first imitates. It adds one number a line, mostly in a hurry: `~-2 17`
 * adds a 7 to 12 rounded to the nearest five, `+0 19` adds it as it is. The number after the sign is how
 * far that leaves the total off, the last one is the total so far. What rounding loses often cancels out, but not always: a good
 * part of its answers is off by too much.
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

/** Where a solution stands after a line. */
export interface Account {
  readonly total: number;
  /** How far the total is from the true sum so far: what rounding gained or lost. */
  readonly off: number;
}

/** The account after one more number, added as it is or rounded. */
export function added({ total, off }: Account, number: number, careful: boolean): Account {
  const value = careful ? number : rounded(number);
  return { total: total + value, off: off + value - number };
}

/** A full solution, a line a number, then `#### answer`. Each line is careful with probability `care`. */
export function solve(problem: Problem, care: number, random: Random): string {
  const lines: string[] = [];
  let account: Account = { total: 0, off: 0 };
  for (const number of problem.numbers) {
    const careful = random.uniform() < care;
    account = added(account, number, careful);
    lines.push(`${careful ? "+" : "~"}${account.off} ${account.total}`);
  }
  return [...lines, `#### ${account.total}`].join("\n");
}
