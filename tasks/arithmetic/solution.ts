/**
 * The teacher that a policy first imitates. Every line it writes is right, but each is written either
 * quick (`6*47=282`) or careful, with the parts spelled out (`6*47=(240+42)=282`); it is mostly quick.
 * A small model that imitates it slips more on quick lines than on careful ones: so there is a habit
 * to unlearn that imitation, however much of it, keeps.
 */
import type { Random } from "../random.ts";
import { type Problem, total } from "./problem.ts";

/** Decimal places of `value` that are not zero, largest first: 405 gives [400, 5]. */
function places(value: number): number[] {
  const digits = [...`${value}`];
  return digits
    .map((digit, index) => Number(digit) * 10 ** (digits.length - 1 - index))
    .filter((place) => place > 0);
}

function line(left: string, parts: readonly number[], result: number): string {
  return parts.length > 1 ? `${left}=(${parts.join("+")})=${result}` : `${left}=${result}`;
}

/** `6*47=282`, or with care by the second factor's decimal places: `6*47=(240+42)=282`. */
export function productLine(count: number, each: number, careful: boolean): string {
  const parts = careful ? places(each).map((place) => count * place) : [];
  return line(`${count}*${each}`, parts, count * each);
}

/** `282+152=434`, or with care hundreds first: `282+152=(382+52)=434`. */
export function sumLine(sofar: number, addend: number, careful: boolean): string {
  const rest = addend % 100;
  const parts = careful && rest > 0 && addend > rest ? [sofar + addend - rest, rest] : [];
  return line(`${sofar}+${addend}`, parts, sofar + addend);
}

/**
 * A full solution, one step a line: each product, followed from the second on by the running total,
 * then `#### total`. Each line is careful with probability `care`.
 */
export function solve(problem: Problem, care: number, random: Random): string {
  const lines: string[] = [];
  let sofar: number | undefined;
  for (const { count, each } of problem.groups) {
    const product = count * each;
    lines.push(productLine(count, each, random.uniform() < care));
    if (sofar !== undefined) lines.push(sumLine(sofar, product, random.uniform() < care));
    sofar = (sofar ?? 0) + product;
  }
  return [...lines, `#### ${total(problem)}`].join("\n");
}
