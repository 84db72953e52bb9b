/** Graders by name, for tasks that come as data: how a completion is held against the right answer. */
import { spawn } from "node:child_process";
import { UserError } from "../../errors.ts";
import { canonicalNumber } from "../final_answer.ts";
import { extractAnswer, gradeMath } from "../math/mod.ts";
import type { Grade } from "../task.ts";

export const graderNames = ["exact", "number", "math", "regex", "choice", "command"] as const;
export type GraderName = typeof graderNames[number];

export type Grader = (gold: string, completion: string) => Grade | Promise<Grade>;

const grade = (
  correct: boolean,
  extracted: string | null,
  reason = correct ? "equal" : "not equal",
): Grade => ({
  correct,
  extracted,
  reason,
});

/** The last line with anything on it, where a model's answer stands when nothing else marks it. */
const lastLine = (text: string) => text.trim().split("\n").at(-1)!.trim();

/** The whole completion, or its last line, letter by letter but for white space at the ends. */
const exact: Grader = (gold, completion) => {
  const extracted = [completion.trim(), lastLine(completion)].find((text) => text === gold.trim());
  return grade(extracted !== undefined, extracted ?? lastLine(completion));
};

/** The number that the completion ends in, by value. */
const number: Grader = (gold, completion) => {
  const extracted = extractAnswer(completion, "gsm8k")?.answer ?? null;
  if (extracted === null) return grade(false, null, "no number found");
  const found = canonicalNumber(extracted);
  return found === null
    ? grade(false, extracted, "not a number")
    : grade(found === canonicalNumber(gold), extracted);
};

const math: Grader = (gold, completion) => gradeMath(gold, completion, "math");

/** `gold` is a pattern that has to be found; `i` and `s` apply where it begins with (?i), (?s). */
const regex: Grader = (gold, completion) => {
  const [, flags = "", pattern = gold] = /^\(\?([is]+)\)(.*)$/s.exec(gold) ?? [];
  let found: RegExpExecArray | null;
  try {
    found = new RegExp(pattern, `u${flags}`).exec(completion);
  } catch (cause) {
    throw new UserError(`grader 'regex': '${gold}' is no pattern: ${(cause as Error).message}`, {
      cause,
    });
  }
  return grade(
    found !== null,
    found?.[1] ?? found?.[0] ?? null,
    found === null ? "no match" : "match",
  );
};

/** The letter that is chosen: boxed, announced, or alone on the last line. */
const choice: Grader = (gold, completion) => {
  const answer = extractAnswer(completion, "math")?.answer ?? "";
  const letter = (text: string) =>
    /^(?:option|choice)?\s*\(?([A-Z])(?:\)|[.:]|$)/i.exec(
      text.replace(/\\text[a-z]*|[{}$*\\]/g, "").trim(),
    )?.[1]
      ?.toUpperCase();
  const found = letter(answer) ?? letter(lastLine(completion));
  if (found === undefined) return grade(false, null, "no choice found");
  return grade(found === letter(gold), found);
};

/** Seconds that a grading command may take for one completion. */
const commandLimit = 60;

/**
 * A program that reads {"gold", "completion"} as JSON lines and answers each with {"correct"} and, if it
 * likes, "extracted" and "reason". It is started for each completion and ends with its input.
 */
function command(words: readonly string[]): Grader {
  const [program, ...args] = words;
  if (program === undefined) {
    throw new UserError(
      "grader 'command' needs parameter 'command', e.g. [\"python3\", \"grade.py\"]",
    );
  }
  const said = (problem: string, cause?: unknown) =>
    new UserError(`grader '${words.join(" ")}' ${problem}`, { cause });
  return async (gold, completion) => {
    const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
    const timer = setTimeout(() => child.kill("SIGKILL"), commandLimit * 1000);
    const ended = new Promise<number | null>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", resolve);
    });
    ended.catch(() => {});
    let answered = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => answered += text);
    // A program that does not read is told by what it answers.
    child.stdin.on("error", () => {});
    child.stdin.end(JSON.stringify({ gold, completion }) + "\n");
    try {
      const code = await ended;
      const first = answered.split("\n").find((line) => line.trim() !== "");
      if (first === undefined) {
        throw said(
          `answered nothing and ended with ${
            code === null ? "a signal (too slow?)" : `code ${code}`
          }`,
        );
      }
      const verdict = parseVerdict(first);
      if (verdict === undefined) {
        throw said(`answered '${first.slice(0, 200)}'; expected {"correct": true or false}`);
      }
      return verdict;
    } catch (cause) {
      throw cause instanceof UserError
        ? cause
        : said(`cannot be run: ${(cause as Error).message}`, cause);
    } finally {
      clearTimeout(timer);
    }
  };
}

function parseVerdict(line: string): Grade | undefined {
  let json: Partial<Record<keyof Grade, unknown>> | null;
  try {
    json = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof json?.correct !== "boolean") return undefined;
  const { correct, extracted, reason } = json;
  return grade(
    correct,
    typeof extracted === "string" ? extracted : null,
    typeof reason === "string" ? reason : undefined,
  );
}

/** @throws {UserError} where a command is wanted and none is given */
export function findGrader(name: GraderName, words: readonly string[] = []): Grader {
  switch (name) {
    case "command":
      return command(words);
    default:
      return { exact, number, math, regex, choice }[name];
  }
}
