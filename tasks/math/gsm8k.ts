/**
 * GSM8K in its published form: JSON lines with `question` and `answer`, the answer's steps with
 * `<<6*7=42>>` calculator marks and a last line `#### 42`. Read from a folder, plain or gzipped.
 * Anything unexpected in the data stops the reading with the file and line: rows are never skipped.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { z } from "zod";
import { UserError } from "../../errors.ts";
import { canonicalNumber, extractFinalAnswer, gradeFinalNumber } from "../final_answer.ts";
import { fractionOf } from "../random.ts";
import { defineTask, type Query, type Split } from "../task.ts";

/** One problem as published; other fields are let be. */
const row = z.object({ question: z.string().trim().min(1), answer: z.string().trim().min(1) });

interface Item {
  readonly query: Query;
  readonly solution: string;
}

const params = z.object({
  /** The folder with the two files. */
  path: z.string().min(1),
  /** At most so many queries, in the files' order; all where unset. */
  train: z.int().positive().optional(),
  validation: z.int().positive().optional(),
  test: z.int().positive().optional(),
  /** The share of the training file that is set aside as the validation split. */
  validationShare: z.number().min(0).max(0.5).default(0.05),
});
type Parameters = z.output<typeof params>;

/** The names a file is looked for under, in this order. */
function fileNames(kind: "train" | "test"): string[] {
  const names = [`${kind}.jsonl`, `gsm8k_${kind}.jsonl`];
  return names.flatMap((name) => [name, `${name}.gz`]);
}

async function findFile(folder: string, kind: "train" | "test"): Promise<string> {
  const entries = await readdir(folder).catch((cause: NodeJS.ErrnoException) => {
    const why = cause.code === "ENOENT"
      ? "there is no such folder"
      : cause.code === "ENOTDIR"
      ? "it is not a folder"
      : cause.message;
    throw new UserError(`gsm8k: cannot read data folder '${folder}': ${why} (parameter 'path')`, {
      cause,
    });
  });
  const name = fileNames(kind).find((name) => entries.includes(name));
  if (name !== undefined) return join(folder, name);
  throw new UserError(
    `gsm8k: no ${kind} file in '${folder}': looked for ${fileNames(kind).join(", ")}`,
  );
}

async function readText(file: string): Promise<string> {
  try {
    const bytes = await readFile(file);
    const plain = file.endsWith(".gz") ? await promisify(gunzip)(bytes) : bytes;
    return new TextDecoder("utf-8", { fatal: true }).decode(plain);
  } catch (cause) {
    throw new UserError(`gsm8k: cannot read '${file}': ${(cause as Error).message}`, { cause });
  }
}

function parseLine(text: string, where: string): Item {
  const fail = (problem: string, cause?: unknown) =>
    new UserError(`gsm8k: ${where}: ${problem}; expected {"question": ..., "answer": ... #### n}`, {
      cause,
    });
  if (text.trim() === "") throw fail("the line is empty");
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw fail(`not JSON (${(cause as Error).message})`, cause);
  }
  const parsed = row.safeParse(json);
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
 * All problems of one file, in order. Ids are the file's kind and the line, e.g. `gsm8k/test/17`.
 * @throws {UserError} with file and line number at the first malformed line
 */
export async function readGsm8k(folder: string, kind: "train" | "test"): Promise<Item[]> {
  const file = await findFile(folder, kind);
  const lines = (await readText(file)).split(/\r?\n/);
  if (lines.at(-1)?.trim() === "") lines.pop();
  if (lines.length === 0) throw new UserError(`gsm8k: '${file}' is empty`);
  return lines.map((text, index) => {
    const { query, solution } = parseLine(text, `${file}, line ${index + 1}`);
    return { query: { ...query, id: `gsm8k/${kind}/${index + 1}` }, solution };
  });
}

async function splitItems(split: Split, params: Parameters): Promise<Item[]> {
  const items = await readGsm8k(params.path, split === "test" ? "test" : "train");
  const aside = ({ query }: Item) => fractionOf(query.question) < params.validationShare;
  const kept = split === "test"
    ? items
    : items.filter((item) => aside(item) === (split !== "train"));
  return kept.slice(0, params[split]);
}

const instruction =
  "Please reason step by step, and produce a final answer following 4 '#', like '#### 0'";
const prompt = (query: Query) => `${query.question}\n`;

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
