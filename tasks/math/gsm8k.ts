/**
 * GSM8K in its published form: JSON lines with `question` and `answer`, the answer's steps with
 * `<<6*7=42>>` calculator marks and a last line `#### 42`, or the same as parquet from the hub.
 * Anything unexpected in the data stops the reading with the file and line: rows are never skipped.
 */
import { z } from "zod";
import { UserError } from "../../errors.ts";
import { readSplit, type Row } from "../data/rows.ts";
import { canonicalNumber, extractFinalAnswer, gradeFinalNumber } from "../final_answer.ts";
import { defineTask, type Query, type Split } from "../task.ts";
import { type Item, shotsField, splitOff, trainingAnd } from "./split.ts";

/** One problem as published; other fields are let be. */
const row = z.object({ question: z.string().trim().min(1), answer: z.string().trim().min(1) });

const params = z.object({
  /** Where the files lie: a folder, a URL, or a name on the hub such as openai/gsm8k. */
  path: z.string().min(1),
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

const form = '{"question": ..., "answer": ... #### n}';

function readItem({ value, where }: Row): Item {
  const fail = (problem: string, cause?: unknown) =>
    new UserError(`gsm8k: ${where}: ${problem}; expected ${form}`, { cause });
  const parsed = row.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    const field = issue.path.length === 0 ? "the line" : `field '${issue.path.join(".")}'`;
    throw fail(`${field}: ${issue.message}`, parsed.error);
  }
  const { question, answer } = parsed.data;
  const final = extractFinalAnswer(answer);
  if (final === null) throw fail("the answer has no '#### n' line");
  const gold = canonicalNumber(final);
  if (gold === null) throw fail(`'${final}' after #### is not a number`);
  return { query: { id: "", question, gold }, solution: answer };
}

/**
 * All problems of one split, in order. Ids are the split and the line, e.g. `gsm8k/test/17`.
 * @param path a folder, a URL or a hub name
 * @throws {UserError} with file and line number at the first malformed line
 */
export async function readGsm8k(path: string, kind: "train" | "test"): Promise<Item[]> {
  const rows = await readSplit(path, {
    task: "gsm8k",
    form,
    stems: [kind, `gsm8k_${kind}`],
    config: "main",
  });
  return rows.map((row, index) => {
    const { query, solution } = readItem(row);
    return { query: { ...query, id: `gsm8k/${kind}/${index + 1}` }, solution };
  });
}

async function splitItems(split: Split, params: Parameters): Promise<Item[]> {
  const { path, shots } = params;
  const [training, kept] = await trainingAnd(split, (kind) => readGsm8k(path, kind), shots);
  return splitOff({ split, training, items: kept, prompt, ...params });
}

const instruction =
  "Please reason step by step, and produce a final answer following 4 '#', like '#### 0'";
const prompt = ({ question, examples = "" }: Query) => `${examples}${question}\n`;

export const gsm8k = defineTask({
  name: "gsm8k",
  description: "grade-school mathematics (GSM8K), read from its published files",
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
  grade: (query, completion) => gradeFinalNumber(query.gold, completion),
  stepDelimiters: ["\n"],
  /** Printable ASCII and whatever else the two files hold, in order of code point. */
  async alphabet({ path }) {
    const characters = new Set(Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)));
    characters.add("\n");
    for (const kind of ["train", "test"] as const) {
      for (const { query, solution } of await readGsm8k(path, kind)) {
        for (const character of query.question + solution) characters.add(character);
      }
    }
    return [...characters].sort().join("");
  },
});
