/**
 * GSM8K in its published form: JSON lines with `question` and `answer`, the answer's steps with
 * `<<6*7=42>>` calculator marks and a last line `#### 42`, or the same as parquet from the hub.
 * Anything unexpected in the data stops the reading with the file and line: rows are never skipped.
 */
import { z } from "zod";
import { UserError } from "../../errors.ts";
import { readSplit, type Row } from "../data/rows.ts";
import {
  type FileKind,
  parseRow,
  rowsFields,
  rowsTask,
  type WorkedItem,
} from "../data/rows_task.ts";
import { canonicalNumber, extractFinalAnswer, gradeFinalNumber } from "../final_answer.ts";
import { defineTask } from "../task.ts";

/** One problem as published; other fields are let be. */
const schema = z.object({ question: z.string().trim().min(1), answer: z.string().trim().min(1) });

const params = z.object(rowsFields);

const layout = { task: "gsm8k", form: '{"question": ..., "answer": ... #### n}' };

function readItem(row: Row, id: string): WorkedItem {
  const fail = (problem: string) =>
    new UserError(`gsm8k: ${row.where}: ${problem}; expected ${layout.form}`);
  const { question, answer } = parseRow(schema, row, layout);
  const final = extractFinalAnswer(answer);
  if (final === null) throw fail("the answer has no '#### n' line");
  const gold = canonicalNumber(final);
  if (gold === null) throw fail(`'${final}' after #### is not a number`);
  return { query: { id, question, gold }, solution: answer };
}

/**
 * All problems of one split, in order. Ids are the split and the line, e.g. `gsm8k/test/17`.
 * @param path a folder, a URL or a hub name
 * @throws {UserError} with file and line number at the first malformed line
 */
export async function readGsm8k(path: string, kind: FileKind): Promise<WorkedItem[]> {
  const stems = [kind, `gsm8k_${kind}`];
  const rows = await readSplit(path, { ...layout, stems, config: "main" });
  return rows.map((row, index) => readItem(row, `gsm8k/${kind}/${index + 1}`));
}

const instruction =
  "Please reason step by step, and produce a final answer following 4 '#', like '#### 0'";

export const gsm8k = defineTask({
  name: "gsm8k",
  description: "grade-school mathematics (GSM8K), read from its published files",
  params,
  ...rowsTask<z.output<typeof params>>("gsm8k", (kind, { path }) => readGsm8k(path, kind)),
  messages: ({ question }) => [
    { role: "system", content: instruction },
    { role: "user", content: question },
  ],
  grade: (query, completion) => gradeFinalNumber(query.gold, completion),
  stepDelimiters: ["\n"],
});
