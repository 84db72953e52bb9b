/**
 * Finds the answer that a solution ends in. In this order: what is boxed last, what follows `####`, what
 * "the answer is" announces, and else the whole text where it is nothing but an answer, or the last
 * formula or number in it. A box that was never closed is a solution that was cut off: no answer.
 */

/** `gsm8k` answers are numbers; `math` answers may be anything. */
export type AnswerStyle = "gsm8k" | "math";

/** Special tokens of chat templates, which are no part of any answer. */
const specialTokens = /<\|[a-z_]+\|>|<\/?s>/g;
const boxCommand = /\\(?:boxed|fbox|framebox)(?![a-zA-Z])\s*/g;
/** Between two boxes that are one answer: `\boxed{1} papers and \boxed{2}`, `\boxed{1}, \boxed{2}`. */
const between =
  /^[\s$]*(?:\\text\{\s*(?:and|or)\s*\}|,\s*(?:and|or)?|(?:[a-z]+\s+)?(?:and|or))[\s$]*$/;

interface Box {
  readonly content: string;
  readonly start: number;
  readonly end: number;
}

/** The end of the braces that open at `start`, or -1 where they are never closed. */
function closingBrace(text: string, start: number): number {
  let depth = 0;
  for (let at = start; at < text.length; at++) {
    const character = text[at];
    if (character === "\\") at++;
    else if (character === "{") depth++;
    else if (character === "}" && --depth === 0) return at;
  }
  return -1;
}

/** The boxes of a text; null in place of the last one where it is not closed. */
function boxes(text: string): { found: Box[]; open: boolean } {
  const found: Box[] = [];
  // Only so many from the end: a solution has a few, an attack has many.
  const starts = [...text.matchAll(boxCommand)].slice(-64);
  for (const match of starts) {
    const start = match.index + match[0].length;
    if (found.at(-1) !== undefined && start < found.at(-1)!.end) continue;
    if (text[start] === "{") {
      const close = closingBrace(text, start);
      if (close < 0) return { found, open: true };
      found.push({ content: text.slice(start + 1, close), start: match.index, end: close + 1 });
    } else {
      const bare = /^(?:\\[a-zA-Z]+|-?[\d.,]*\d|[^\s$])/.exec(text.slice(start, start + 40))?.[0] ??
        "";
      found.push({ content: bare, start: match.index, end: start + bare.length });
    }
  }
  return { found, open: false };
}

/** The box that counts, and where others were joined to it ("1 and 2") all of them as one list. */
interface Boxed {
  readonly last: string;
  readonly joined?: string;
}

function boxed(text: string): Boxed | null | undefined {
  const { found, open } = boxes(text);
  if (open) return null;
  const last = found.at(-1);
  if (last === undefined) return undefined;
  const parts = [last.content];
  let next = last;
  for (const box of found.slice(0, -1).reverse()) {
    if (!between.test(text.slice(box.end, next.start))) break;
    parts.unshift(box.content);
    next = box;
  }
  const answer = last.content.trim();
  return parts.length === 1 ? { last: answer } : { last: answer, joined: parts.join(", ") };
}

/** What stands after the first `####`: a model that goes on after it makes up another problem. */
function marked(text: string): string | undefined {
  const line = /####[^\S\n]*([^\n]*)/.exec(text)?.[1]?.trim();
  return line === "" ? undefined : line;
}

const announcements =
  /\banswers?\b[^.\n]{0,40}?(?:\bis\b|\bare\b|[:=])[\s*:]*|(?:^|\n)\**\s*A\s*:\s*|\bfinal answer\b[\s*]*\n+/gi;
const formula =
  /\$\$([\s\S]+?)\$\$|(?<!\\)\$((?:\\.|[^$\\])+)\$|\\\(([\s\S]+?)\\\)|\\\[([\s\S]+?)\\\]/g;
const numeral =
  /(?<![\w.)])[-−+]?\s?\\?[$€£]?\d+(?:,\d{3})*(?:\.\d+)?(?:\s?\/\s?\d+)?(?:\\?%)?|\\?[$€£]?\d+(?:,\d{3})*(?:\.\d+)?(?:\s?\/\s?\d+)?(?:\\?%)?/g;

/** Words that make a text a sentence rather than an answer. */
const verbs =
  /\b(?:is|are|was|were|be|we|so|thus|therefore|hence|the|it|it's|get|have|has|gives?|since|then|which|that)\b/i;

/** Whether a text is nothing but an answer. */
function isBare(text: string): boolean {
  if (text.length > 600) return false;
  const prose = text.replace(formula, " 1 ").replace(
    /\\(?:text[a-z]*|mathrm|mbox)\s*\{[^{}]*\}/g,
    " ",
  ).replace(/\\[a-zA-Z]+/g, " ");
  const words = prose.match(/[A-Za-z]{2,}/g) ?? [];
  return words.length <= 4 && !verbs.test(prose) && !/[.!?]\s+\S/.test(prose.trim());
}

/** The last formula or number of a text, whichever comes later. */
function lastOf(text: string, style: AnswerStyle): string | undefined {
  const last = [...text.matchAll(formula)].at(-1);
  const outside = text.replace(formula, (all) => " ".repeat(all.length));
  const source = style === "gsm8k" ? text : outside;
  const number = [...source.matchAll(numeral)].at(-1);
  if (style === "gsm8k") return number?.[0];
  if (last !== undefined && (number === undefined || number.index < last.index)) {
    return last.slice(1).find((group) => group !== undefined)?.trim();
  }
  return number?.[0];
}

/** What an announcement leads up to, to the end of its sentence. */
function announced(text: string, style: AnswerStyle): string | undefined {
  const last = [...text.matchAll(announcements)].at(-1);
  if (last === undefined) return undefined;
  const rest = text.slice(last.index + last[0].length).trimStart();
  const sentence =
    /^(?:\$\$[\s\S]*?\$\$|\$[^$]*\$|\\\([\s\S]*?\\\)|\\\[[\s\S]*?\\\]|[\s\S])*?(?=[.!?]\**(?:\s|$)|\n|$)/
      .exec(rest)?.[0]
      .trim().replace(/^\*+|\*+$/g, "").trim();
  if (sentence === undefined || sentence === "") return undefined;
  if (style === "math" && isBare(sentence)) return sentence;
  return lastOf(sentence, style) ?? (isBare(sentence) ? sentence : undefined);
}

/** Words after the last box that overrule it, with a formula or number right behind them. */
const finalWords = /\bfinal answer is:?\s*(?=[$\\\d(-])/i;

/** What a solution ends in. */
export interface Extracted {
  /** The answer as it is written. */
  readonly answer: string;
  /** The list that several boxes in a row are, where the answer asked for is a list. */
  readonly joined?: string;
}

/**
 * The answer of a solution as it is written there; null where there is none.
 * @param style what answers look like: for `gsm8k` the last resort is the last number
 */
export function extractAnswer(solution: string, style: AnswerStyle): Extracted | null {
  const text = solution.slice(-20_000).replace(specialTokens, " ").trim();
  const mark = marked(text);
  if (style === "gsm8k" && mark !== undefined) return { answer: mark };
  const box = boxed(text);
  if (box === null) return null;
  if (box !== undefined) {
    const tail = text.slice(Math.max(text.lastIndexOf("\\boxed"), text.lastIndexOf("\\fbox")));
    const later = finalWords.test(tail) ? announced(tail, style) : undefined;
    if (later !== undefined) return { answer: later };
    return { answer: box.last, ...(box.joined === undefined ? {} : { joined: box.joined }) };
  }
  const answer = mark ?? announced(text, style) ??
    (text !== "" && isBare(text) ? text : lastOf(text, style));
  return answer === undefined ? null : { answer };
}

/** The answer in a gold field: the field itself, or what a worked solution there ends in. */
export function extractGold(gold: string, style: AnswerStyle): Extracted {
  const text = gold.trim();
  if (!/\\(?:boxed|fbox)|####/.test(text)) return { answer: text };
  return extractAnswer(text, style) ?? { answer: text };
}
