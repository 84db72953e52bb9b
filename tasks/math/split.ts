/**
 * How a published training file becomes the training and the validation split, and how worked problems
 * are put before the questions of plain prompts.
 */
import { z } from "zod";
import { fractionOf } from "../random.ts";
import type { Query, Split } from "../task.ts";

/** A problem with its published solution. */
export interface Item {
  readonly query: Query;
  readonly solution: string;
}

/** The parameter that says how many worked problems stand before a question. */
export const shotsField = z.int().min(0).max(32).default(0);

/** Characters that an example's solution may have: short ones show the form as well. */
const longestExample = 500;

/** The items of the file that a split is cut from, and the training items where they are needed. */
export async function trainingAnd(
  split: Split,
  read: (kind: "train" | "test") => Promise<Item[]>,
  shots: number,
): Promise<[training: Item[], items: Item[]]> {
  const items = await read(split === "test" ? "test" : "train");
  if (split !== "test") return [items, items];
  return [shots === 0 ? [] : await read("train"), items];
}

export interface SplitOptions {
  readonly split: Split;
  readonly training: readonly Item[];
  readonly items: readonly Item[];
  readonly shots: number;
  readonly validationShare: number;
  /** At most so many items of each split. */
  readonly train?: number | undefined;
  readonly validation?: number | undefined;
  readonly test?: number | undefined;
  prompt(query: Query): string;
}

/** A split's items; problems that serve as examples are in none. */
export function splitOff(options: SplitOptions): Item[] {
  const { split, training, items, shots, validationShare, prompt } = options;
  const examples = training.filter(({ solution }) => solution.length <= longestExample).slice(
    0,
    shots,
  );
  const text = examples.map(({ query, solution }) => `${prompt(query)}${solution}\n\n`).join("");
  const used = new Set(examples.map(({ query }) => query.question));
  const aside = ({ query }: Item) => fractionOf(query.question) < validationShare;
  return items
    .filter((item) => split === "test" || aside(item) === (split !== "train"))
    .filter(({ query }) => !used.has(query.question))
    .slice(0, options[split])
    .map((item) => text === "" ? item : { ...item, query: { ...item.query, examples: text } });
}
