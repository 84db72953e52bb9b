/**
 * What tasks have in common that are made of rows with a question and, mostly, a worked solution: their
 * parameters, how the training file becomes the training and the validation split, how worked problems
 * are put before the questions of plain prompts, and the alphabet.
 */
import { z } from "zod";
import { UserError } from "../../errors.ts";
import { fractionOf } from "../random.ts";
import type { Demonstration, Query, Split } from "../task.ts";
import type { Row } from "./rows.ts";

/** A problem with its solution, where it has one. */
export interface Item {
  readonly query: Query;
  readonly solution: string | undefined;
}

export type WorkedItem = Item & { readonly solution: string };

/** The files that rows are published in; the validation split is cut from the training file. */
export type FileKind = "train" | "test";

export const rowsFields = {
  /** Where the files lie: a folder, a URL, or a name on the hub such as openai/gsm8k. */
  path: z.string().min(1),
  /** At most so many queries, in the files' order; all where unset. */
  train: z.int().positive().optional(),
  validation: z.int().positive().optional(),
  test: z.int().positive().optional(),
  /** The share of the training file that is set aside as the validation split. */
  validationShare: z.number().min(0).max(0.5).default(0.05),
  /** Worked problems before each question of a plain prompt. */
  shots: z.int().min(0).max(32).default(0),
};
type RowsParameters = z.output<z.ZodObject<typeof rowsFields>>;

/** Characters that an example's solution may have: short ones show the form as well. */
const longestExample = 500;

/** @throws {UserError} naming file, line and field where a row does not fit */
export function parseRow<Schema extends z.ZodType>(
  schema: Schema,
  { value, where }: Row,
  { task, form }: { readonly task: string; readonly form: string },
): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const whole = /, (line|row|item) \d+$/.exec(where)?.[1] ?? "file";
  const part = issue.path.length === 0 ? `the ${whole}` : `field '${issue.path.join(".")}'`;
  throw new UserError(`${task}: ${where}: ${part}: ${issue.message}; expected ${form}`, {
    cause: parsed.error,
  });
}

const prompt = ({ question, examples = "" }: Query) => `${examples}${question}\n`;

/**
 * The parts of a task's definition that follow from its rows.
 * @param name the task's, in front of errors
 * @param read all rows of a file, in order
 */
export function rowsTask<Parameters extends RowsParameters>(
  name: string,
  read: (kind: FileKind, params: Parameters) => Promise<Item[]>,
) {
  async function itemsOf(split: Split, params: Parameters): Promise<Item[]> {
    const items = await read(split === "test" ? "test" : "train", params);
    const training = split !== "test"
      ? items
      : params.shots === 0
      ? []
      : await read("train", params);
    return splitOff(split, items, training, params);
  }
  return {
    async *queries(split: Split, params: Parameters): AsyncGenerator<Query> {
      for (const { query } of await itemsOf(split, params)) yield query;
    },
    async *demonstrations(split: Split, params: Parameters): AsyncGenerator<Demonstration> {
      for (const { query, solution } of await itemsOf(split, params)) {
        if (solution === undefined) {
          throw new UserError(
            `${name}: '${query.id}' has no field 'solution' to learn from: add it to every row, or ` +
              "start from a trained checkpoint",
          );
        }
        yield { query, prompt: prompt(query), solution };
      }
    },
    prompt,
    /** Printable ASCII and whatever else the files hold, in order of code point. */
    async alphabet(params: Parameters): Promise<string> {
      const characters = new Set(Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)));
      characters.add("\n");
      for (const kind of ["train", "test"] as const) {
        for (const { query: { question, gold }, solution = "" } of await read(kind, params)) {
          for (const character of question + gold + solution) characters.add(character);
        }
      }
      return [...characters].sort().join("");
    },
  };
}

/** A split's items; problems that serve as examples are in none. */
function splitOff(
  split: Split,
  items: readonly Item[],
  training: readonly Item[],
  { shots, validationShare, ...most }: RowsParameters,
): Item[] {
  const short = ({ solution = "" }: Item) => solution.length <= longestExample;
  const examples = training.filter(short).slice(0, shots);
  const text = examples
    .map(({ query, solution = "" }) => `${prompt(query)}${solution}\n\n`).join("");
  const used = new Set(examples.map(({ query }) => query.question));
  const aside = ({ query }: Item) => fractionOf(query.question) < validationShare;
  return items
    .filter((item) => split === "test" || aside(item) === (split !== "train"))
    .filter(({ query }) => !used.has(query.question))
    .slice(0, most[split])
    .map((item) => text === "" ? item : { ...item, query: { ...item.query, examples: text } });
}
