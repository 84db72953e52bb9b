/**
 * Grading of mathematical answers: is the answer that a solution ends in the one that was asked for?
 *
 * Layers, from the outside in: `extraction` finds the answer in a solution; `latex` and `parse` read it
 * into a `Node`; `compare` takes the structure apart (lists, points, intervals, relations, matrices,
 * units, words); `algebra` compares what is left, expressions: exactly by `normal_form`, by values in
 * `numeric`, and by a computer-algebra engine in a worker. When in doubt an answer is wrong.
 */
import { NotMathematics } from "./latex.ts";
import { compare } from "./compare.ts";
import { type AnswerStyle, extractAnswer, extractGold } from "./extraction.ts";
import { type Node, some } from "./node.ts";
import { parse } from "./parse.ts";
import { equalText } from "./text.ts";
import type { Verdict } from "./algebra.ts";

export { algebraLimit, closeAlgebra, type Verdict } from "./algebra.ts";
export { type AnswerStyle, extractAnswer, type Extracted, extractGold } from "./extraction.ts";

export interface MathGrade {
  readonly correct: boolean;
  /** The answer as it is written in the solution; null where none is found. */
  readonly extracted: string | null;
  readonly reason: string;
}

/** Spacing and looks that never matter, away: what is then the same text is the same answer. */
const bare = (text: string) =>
  text.replace(
    /\\(?:left|right|!|,|;|:| |displaystyle)(?![a-zA-Z])|\\d(?=frac)|\\t(?=frac)/g,
    (command) => /frac|[dt]$/.test(command) ? "\\" : "",
  )
    .replace(/^\s*\$+|\$+\s*$|\s+/g, "").replace(/\.$/, "");

function read(text: string): Node | undefined {
  try {
    return parse(text);
  } catch (error) {
    if (error instanceof NotMathematics || error instanceof RangeError) return undefined;
    throw error;
  }
}

const hasText = (node: Node) => some(node, ({ t }) => t === "text");

/** Whether the answer `found` is the answer `gold`; both are bare answers, without a solution around. */
export async function equalAnswers(gold: string, found: string): Promise<Verdict> {
  if (found.trim() === "" && gold.trim() !== "") {
    return { equal: false, reason: "the answer is empty" };
  }
  if (bare(gold) === bare(found)) return { equal: true, reason: "identical" };
  const [a, b] = [read(gold), read(found)];
  const wordy = a === undefined || hasText(a) || /^[A-Za-z()\s]+$/.test(gold);
  if (wordy && equalText(gold, found)) return { equal: true, reason: "the same words" };
  if (a === undefined || b === undefined) {
    return {
      equal: false,
      reason: b === undefined ? "the answer is not mathematics that can be read" : "not equal",
    };
  }
  // Neither sign counts by itself, but money is no percentage.
  if (isMoney(gold) && isPercentage(found) || isPercentage(gold) && isMoney(found)) {
    return { equal: false, reason: "money is not a percentage" };
  }
  return await compare(a, b);
}

const isMoney = (text: string) => /\\\$|[€£¥]/.test(text);
const isPercentage = (text: string) => /%/.test(text);

/** How many answers a text lists. */
function itemCount(text: string): number {
  const node = read(text);
  return node?.t === "list" || node?.t === "set" ? node.items.length : 1;
}

/**
 * Grades a solution.
 * @param gold the right answer, or a worked solution that ends in it
 * @param solution the text to grade, or a bare answer
 */
export async function gradeMath(
  gold: string,
  solution: string,
  style: AnswerStyle,
): Promise<MathGrade> {
  const found = extractAnswer(solution, style);
  if (found === null) return { correct: false, extracted: null, reason: "no answer found" };
  const right = extractGold(gold, style);
  const verdict = await equalAnswers(right.answer, found.answer);
  const grade = (equal: boolean, reason: string, extracted = found.answer) => ({
    correct: equal,
    extracted,
    reason,
  });
  if (verdict.equal) return grade(true, verdict.reason);
  // A box for each item of a list is one answer, where a list is what was asked for.
  for (
    const [list, other] of [[right.joined, found.joined ?? found.answer], [
      right.answer,
      found.joined,
    ]]
  ) {
    if (list === undefined || other === undefined || itemCount(list) < 2) continue;
    const joined = await equalAnswers(list, other);
    if (joined.equal) return grade(true, joined.reason, other);
  }
  return grade(false, verdict.reason);
}
