/**
 * A task of the user's own that is all data: rows with a question and a right answer, and a grader by
 * name. For anything more, a task is a TypeScript file (`loadTask`).
 */
import { z } from "zod";
import { UserError } from "../../errors.ts";
import { readSplit } from "../data/rows.ts";
import { type FileKind, type Item, parseRow, rowsFields, rowsTask } from "../data/rows_task.ts";
import { defineTask } from "../task.ts";
import { findGrader, graderNames } from "./graders.ts";

const text = z.union([z.string(), z.number()]).transform(String).pipe(z.string().min(1));
const schema = z.object({
  question: z.string().trim().min(1),
  gold: text,
  solution: z.string().optional(),
});

const params = z.object({
  ...rowsFields,
  grader: z.enum(graderNames).default("exact"),
  /** The program of grader `command`, with its arguments. */
  command: z.array(z.string()).default([]),
  /** The system message of chats; none where unset. */
  instruction: z.string().default(""),
});

const layout = {
  task: "verifiable",
  form: '{"question": ..., "gold": ..., "solution": optional}',
};

async function read(kind: FileKind, { path }: z.output<typeof params>): Promise<Item[]> {
  const rows = await readSplit(path, { ...layout, stems: [kind] });
  return rows.map((row, index) => {
    const { question, gold, solution } = parseRow(schema, row, layout);
    return { query: { id: `verifiable/${kind}/${index + 1}`, question, gold }, solution };
  });
}

export const verifiable = defineTask({
  name: "verifiable",
  description: "a task of your own: JSON lines with question and gold, and a grader by name",
  params,
  ...rowsTask("verifiable", read),
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
});
