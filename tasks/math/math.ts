/**
 * MATH in its published forms: a folder a subject with one JSON file a problem, JSON lines, or parquet;
 * and MATH-500, the five hundred test problems that much of the literature reports. Each problem has a
 * worked solution whose last box holds the answer.
 */
import { z } from "zod";
import { UserError } from "../../errors.ts";
import { readSplit, type Row } from "../data/rows.ts";
import { defineTask, type Query, type Split } from "../task.ts";
import { extractAnswer, gradeMath } from "./answers/mod.ts";
import { type Item, shotsField, splitOff, trainingAnd } from "./split.ts";

/** One problem as published; MATH-500 gives the answer beside the solution. */
const row = z.object({
  problem: z.string().trim().min(1),
  solution: z.string().trim().min(1),
  answer: z.string().optional(),
});

const params = z.object({
  /** Where the files lie: a folder, a URL, or a name on the hub. */
  path: z.string().min(1),
  /** Which test problems: all 5,000, or MATH-500. */
  testSet: z.enum(["math", "math500"]).default("math"),
  /** At most so many queries, in the files' order; all where unset. */
  train: z.int().positive().optional(),
  validation: z.int().positive().optional(),
  test: z.int().positive().optional(),
  /** The share of the training file that is set aside as the validation split. */
  validationShare: z.number().min(0).max(0.5).default(0.05),
  /** Worked problems before each question of a plain prompt. */
  shots: shotsField,
});
type Parameters = z.output<typeof params>;

const form = '{"problem": ..., "solution": ... \\\\boxed{...} ...}';

function readItem({ value, where }: Row, id: string): Item {
  const parsed = row.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    const field = issue.path.length === 0 ? "the row" : `field '${issue.path.join(".")}'`;
    throw new UserError(`math: ${where}: ${field}: ${issue.message}; expected ${form}`, {
      cause: parsed.error,
    });
  }
  const { problem, solution, answer } = parsed.data;
  const gold = answer ?? extractAnswer(solution, "math")?.answer;
  if (gold === undefined || (answer === undefined && !/\\(?:boxed|fbox)/.test(solution))) {
    throw new UserError(`math: ${where}: the solution has no \\boxed answer; expected ${form}`);
  }
  return { query: { id, question: problem, gold }, solution };
}

/**
 * All problems of one split, in order. Ids are the split and the row, e.g. `math/test/17`.
 * @param path a folder, a URL or a hub name
 * @throws {UserError} with file and row at the first malformed one
 */
export async function readMath(
  path: string,
  kind: "train" | "test",
  testSet: Parameters["testSet"] = "math",
): Promise<Item[]> {
  const set = kind === "test" ? testSet : "math";
  const stems = set === "math500" ? ["math500", "test", "math_500"] : [kind, `math_${kind}`];
  const rows = await readSplit(path, { task: "math", form, stems });
  const items = rows.map((each, index) => readItem(each, `${set}/${kind}/${index + 1}`));
  if (set === "math500" && items.length !== 500) {
    throw new UserError(
      `math: '${path}' has ${items.length} test problems, MATH-500 has 500: set testSet=math`,
    );
  }
  return items;
}

async function splitItems(split: Split, params: Parameters): Promise<Item[]> {
  const read = (kind: "train" | "test") => readMath(params.path, kind, params.testSet);
  const [training, items] = await trainingAnd(split, read, params.shots);
  return splitOff({ split, training, items, prompt, ...params });
}

const instruction = "Please reason step by step, and put your final answer within \\boxed{}.";
const prompt = ({ question, examples = "" }: Query) => `${examples}${question}\n`;

export const math = defineTask({
  name: "math",
  description: "competition mathematics (MATH, MATH-500), read from its published files",
  params,
  async *queries(split, params) {
    for (const { query } of await splitItems(split, params)) yield query;
  },
  async *demonstrations(split, params) {
    for (const { query, solution } of await splitItems(split, params)) {
      yield { query, prompt: prompt(query), solution };
    }
  },
  prompt,
  messages: ({ question }) => [
    { role: "system", content: instruction },
    { role: "user", content: question },
  ],
  grade: (query, completion) => gradeMath(query.gold, completion, "math"),
  stepDelimiters: ["\n", ". ", ".$ "],
  /** Printable ASCII and whatever else the problems hold, in order of code point. */
  async alphabet({ path, testSet }) {
    const characters = new Set(Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)));
    characters.add("\n");
    for (const kind of ["train", "test"] as const) {
      for (const { query, solution } of await readMath(path, kind, testSet)) {
        for (const character of query.question + solution) characters.add(character);
      }
    }
    return [...characters].sort().join("");
  },
});
