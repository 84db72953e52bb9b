/** Answers in words: days, names, letters of choices. They are compared as text, looks aside. */
import { numberWords } from "./vocabulary.ts";

const wrapper =
  /\\(?:text[a-z]*|mathrm|mathbf|mathit|mathsf|operatorname|mbox|emph|boldsymbol|bm)\s*(?=\{)/g;

/** An answer's words alone: no fonts, brackets around, spaces, punctuation at the end, or case. */
export function plainText(raw: string): string {
  let text = raw.replace(wrapper, "").replace(
    /\\[,;:! ]|[{}$~*"'`\s]|\\left|\\right|\\\(|\\\)/g,
    "",
  ).toLowerCase();
  text = text.replace(/(?<=\d)([ap])\.?m\b\.?/g, "$1m");
  for (let before = ""; before !== text;) {
    before = text;
    text = text.replace(/^[(\["]+([^()[\]]*)[)\]"]+$/, "$1").replace(/[.,;:!]+$/, "").replace(
      /^(?:the)?answer(?:is)?:?/,
      "",
    );
  }
  return text;
}

/** Letters that are chosen among, such as `A, C`; sorted. */
function choices(text: string): string | undefined {
  if (!/^\(?[a-z]\)?(?:(?:,|and|&)+\(?[a-z]\)?)+$/.test(text)) return undefined;
  return [...text.replace(/and/g, ",").matchAll(/[a-z]/g)].map(([letter]) => letter).sort().join(
    ",",
  );
}

/** The letter of a choice with what it stands for behind it: `(B) 5`, `B. five`. */
function chosenLetter(raw: string): string | undefined {
  const text = raw.replace(wrapper, "").replace(/[{}$*]/g, "").replace(/\\[,;:! ]|\\quad|~/g, " ")
    .trim();
  return /^(?:option |choice )?\(?([A-Z])(?:\)|[.:]\s|\)?[.:]?$)/i.exec(text)?.[1]?.toUpperCase();
}

/** Whether an answer is one letter in words' clothing, as `\text{(B)}` is, and which. */
function choiceLetter(raw: string): string | undefined {
  return /^(?:\\(?:text[a-z]*|mathrm|mathbf)\s*\{\s*)+\(?([A-Z])\)?\s*\}+$|^\(?([A-Z])\)?$/.exec(
    raw.trim(),
  )?.slice(1)
    .find((letter) => letter !== undefined);
}

/** Whether two answers say the same in words. */
export function equalText(gold: string, prediction: string): boolean {
  const [a, b] = [plainText(gold), plainText(prediction)];
  if (a === "" || b === "") return false;
  if (a === b) {
    // Bare letters are symbols, and x is not X.
    const bare = /^[a-zA-Z]$/;
    return !(bare.test(gold.trim()) && bare.test(prediction.trim())) ||
      gold.trim() === prediction.trim();
  }
  const letters = choices(a);
  if (letters !== undefined && letters === choices(b)) return true;
  const letter = choiceLetter(gold);
  return letter !== undefined && letter === chosenLetter(prediction);
}

/** The number that a text is in words; undefined where it is none. */
export function numberInWords(text: string): bigint | undefined {
  return numberWords[text.trim().toLowerCase()];
}
