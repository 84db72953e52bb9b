/**
 * A task of the user's own that is all data: rows with a question and a right answer, and a grader by
 * name. For anything more, a task is a TypeScript file (`loadTask`).
 */
import { z } from "zod";
import { UserError } from "../../errors.ts";
import { readSplit } from "../data/rows.ts";
import { defineTask, type Query, type Split } from "../task.ts";
import { type Item, shotsField, splitOff, trainingAnd } from "../math/split.ts";
import { findGrader, graderNames } from "./graders.ts";

const text = z.union([z.string(), z.number()]).transform(String).pipe(z.string().min(1));
const row = z.object({
  question: z.string().trim().min(1),
  gold: text,
  solution: z.string().optional(),
});

const params = z.object({
  /** Where train.jsonl and test.jsonl lie: a folder, a URL, or a name on the hub. */
  path: z.string().min(1),
  grader: z.enum(graderNames).default("exact"),
  /** The program of grader `command`, with its arguments. */
  command: z.array(z.string()).default([]),
  /** The system message of chats; none where unset. */
  instruction: z.string().default(""),
  train: z.int().positive().optional(),
  validation: z.int().positive().optional(),
  test: z.int().positive().optional(),
  validationShare: z.number().min(0).max(0.5).default(0.05),
  shots: shotsField,
});
type Parameters = z.output<typeof params>;

const form = '{"question": ..., "gold": ..., "solution": optional}';

interface OwnItem extends Item {
  readonly worked: boolean;
}

async function read(path: string, kind: "train" | "test"): Promise<OwnItem[]> {
  const rows = await readSplit(path, { task: "verifiable", form, stems: [kind] });
  return rows.map(({ value, where }, index) => {
    const parsed = row.safeParse(value);
    if (!parsed.success) {
      const issue = parsed.error.issues[0]!;
      const field = issue.path.length === 0 ? "the row" : `field '${issue.path.join(".")}'`;
      throw new UserError(`verifiable: ${where}: ${field}: ${issue.message}; expected ${form}`);
    }
    const { question, gold, solution } = parsed.data;
    const query = { id: `verifiable/${kind}/${index + 1}`, question, gold };
    return { query, solution: solution ?? "", worked: solution !== undefined };
  });
}

const prompt = ({ question, examples = "" }: Query) => `${examples}${question}\n`;

async function splitItems(split: Split, given: Parameters): Promise<OwnItem[]> {
  const [training, items] = await trainingAnd(split, (kind) => read(given.path, kind), given.shots);
  return splitOff({ split, training, items, prompt, ...given }) as OwnItem[];
}

export const verifiable = defineTask({
  name: "verifiable",
  description: "a task of your own: JSON lines with question and gold, and a grader by name",
  params,
  async *queries(split, params) {
    for (const { query } of await splitItems(split, params)) yield query;
  },
  async *demonstrations(split, params) {
    for (const { query, solution, worked } of await splitItems(split, params)) {
      if (!worked) {
        throw new UserError(
          `verifiable: '${query.id}' has no field 'solution' to learn from: add it to every row, or start ` +
            "from a trained checkpoint",
        );
      }
      yield { query, prompt: prompt(query), solution };
    }
  },
  prompt,
  messages: ({ question }, params) => {
    const user = { role: "user" as const, content: question };
    const instruction = params?.instruction ?? "";
    return instruction === "" ? [user] : [{ role: "system", content: instruction }, user];
  },
  grade(query, completion, params) {
    if (params === undefined) throw new UserError("verifiable: grading needs parameter 'grader'");
    return findGrader(params.grader, params.command)(query.gold, completion);
  },
  stepDelimiters: ["\n"],
  async alphabet({ path }) {
    const characters = new Set(Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)));
    characters.add("\n");
    for (const kind of ["train", "test"] as const) {
      for (const { query, solution } of await read(path, kind)) {
        for (const character of query.question + query.gold + solution) characters.add(character);
      }
    }
    return [...characters].sort().join("");
  },
});
