/**
 * The answer after `####`, as GSM8K writes it, and equality of numbers as people write them. Both are
 * strict on purpose: a wrong answer called right would be trained on.
 */
import type { Grade } from "./task.ts";

const marked = /####[^\S\n]*([^\n]*)/;

/**
 * The rest of the line after the first `####`, trimmed; null where there is none or the line is empty.
 * The first one counts: a model that goes on after its answer is often making up another problem.
 */
export function extractFinalAnswer(text: string): string | null {
  const answer = marked.exec(text)?.[1]?.trim();
  return answer === undefined || answer === "" ? null : answer;
}

/** Digits with optional thousands separators in their places, a decimal part, a sign. */
const numeral = /^([+-]?)(\d{1,3}(?:,\d{3})+|\d*)(?:\.(\d*))?$/;

/** A word or two after the number that name what was counted; no digits, no operators. */
const unit = /^(?:%|\p{L}[\p{L} /-]*)?$/u;

/** Words that look like a unit and change the number. */
const scale = /\b(?:hundred|thousand|million|billion|trillion|dozen|half|quarter|third)s?\b/i;

/**
 * The number that `text` is, in a canonical decimal form: two texts give the same string exactly when
 * the numbers are equal (no rounding, any count of digits). Understood: sign, thousands separators,
 * decimals, a currency sign in front, a unit behind, a trailing full stop, `**bold**`. Null for
 * anything else, among it `3/4`, `5 million` and `5 or 6`.
 */
export function canonicalNumber(text: string): string | null {
  const plain = text.trim().replaceAll("−", "-").replace(/^\*\*(.*)\*\*$/, "$1").replace(/\.$/, "");
  const [, bare = "", rest = ""] =
    /^([+-]?\s*(?:\\?[$€£¥])?\s*[+-]?[\d.,]*)\s*(.*)$/s.exec(plain) ?? [];
  if (!unit.test(rest) || scale.test(rest)) return null;
  const match = numeral.exec(bare.replace(/[\\$€£¥\s]/g, ""));
  if (match === null) return null;
  const [, sign, grouped = "", decimals = ""] = match;
  if (grouped === "" && decimals === "") return null;
  const whole = grouped.replaceAll(",", "").replace(/^0+(?=\d)/, "") || "0";
  const fraction = decimals.replace(/0+$/, "");
  const magnitude = fraction === "" ? whole : `${whole}.${fraction}`;
  return sign === "-" && magnitude !== "0" ? `-${magnitude}` : magnitude;
}

/** Grades the number after `####` against `gold` by numeric equality. */
export function gradeFinalNumber(gold: string, completion: string): Grade {
  const extracted = extractFinalAnswer(completion);
  if (extracted === null) return { correct: false, extracted, reason: "no answer after ####" };
  const found = canonicalNumber(extracted);
  if (found === null) return { correct: false, extracted, reason: "the answer is not a number" };
  const correct = found === canonicalNumber(gold);
  return { correct, extracted, reason: correct ? "equal" : `not ${gold}` };
}
