/**
 * MATH in its published forms: a folder a subject with one JSON file a problem, JSON lines, or parquet;
 * and MATH-500, the five hundred test problems that much of the literature reports. Each problem has a
 * worked solution whose last box holds the answer.
 */
import { z } from "zod";
import { UserError } from "../../errors.ts";
import { readSplit, type Row } from "../data/rows.ts";
import { type FileKind, type Item, parseRow, rowsFields, rowsTask } from "../data/rows_task.ts";
import { defineTask } from "../task.ts";
import { extractAnswer, gradeMath } from "./answers/mod.ts";

/** One problem as published; MATH-500 gives the answer beside the solution. */
const schema = z.object({
  problem: z.string().trim().min(1),
  solution: z.string().trim().min(1),
  answer: z.string().optional(),
});

const params = z.object({
  ...rowsFields,
  /** Which test problems: all 5,000, or MATH-500. */
  testSet: z.enum(["math", "math500"]).default("math"),
});
type Parameters = z.output<typeof params>;

const layout = { task: "math", form: '{"problem": ..., "solution": ... \\\\boxed{...} ...}' };

function readItem(row: Row, id: string): Item {
  const { problem, solution, answer } = parseRow(schema, row, layout);
  const gold = answer ?? extractAnswer(solution, "math")?.answer;
  if (gold === undefined || (answer === undefined && !/\\(?:boxed|fbox)/.test(solution))) {
    throw new UserError(
      `math: ${row.where}: the solution has no \\boxed answer; expected ${layout.form}`,
    );
  }
  return { query: { id, question: problem, gold }, solution };
}

/** All problems of one file, in order. Ids are the set and the row, e.g. `math/test/17`. */
async function read(kind: FileKind, { path, testSet }: Parameters): Promise<Item[]> {
  const set = kind === "test" ? testSet : "math";
  const stems = set === "math500" ? ["math500", "test", "math_500"] : [kind, `math_${kind}`];
  const rows = await readSplit(path, { ...layout, stems });
  const items = rows.map((each, index) => readItem(each, `${set}/${kind}/${index + 1}`));
  if (set === "math500" && items.length !== 500) {
    throw new UserError(
      `math: '${path}' has ${items.length} test problems, MATH-500 has 500: set testSet=math`,
    );
  }
  return items;
}

const instruction = "Please reason step by step, and put your final answer within \\boxed{}.";

export const math = defineTask({
  name: "math",
  description: "competition mathematics (MATH, MATH-500), read from its published files",
  params,
  ...rowsTask("math", read),
  messages: ({ question }) => [
    { role: "system", content: instruction },
    { role: "user", content: question },
  ],
  grade: (query, completion) => gradeMath(query.gold, completion, "math"),
  stepDelimiters: ["\n", ". ", ".$ "],
});
