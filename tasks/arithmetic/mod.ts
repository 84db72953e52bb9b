/**
 * The arithmetic task: word problems from a seeded generator, nothing to download. A solution is
 * 3 to 8 written steps, one a line, then `#### answer`; a model of under a million parameters with a
 * character tokenizer learns it from scratch, and not to perfection.
 */
import { z } from "zod";
import { gradeFinalNumber } from "../final_answer.ts";
import { Random } from "../random.ts";
import { defineTask, type Query, type Split } from "../task.ts";
import { type Problem, problems, problemText, sizes, total } from "./problem.ts";
import { solve } from "./solution.ts";

const params = z.object({
  /** Another seed makes other problems; the splits stay apart across seeds too. */
  seed: z.int().default(0),
  /** 1 (two small groups) to 5 (four groups of three-digit numbers). */
  difficulty: z.literal([1, 2, 3, 4, 5]).default(3),
  /** Numbers of queries in each split. */
  train: z.int().positive().default(20_000),
  validation: z.int().positive().default(500),
  test: z.int().positive().default(1000),
  /** The teacher's probability of writing a line with care. */
  care: z.number().min(0).max(1).default(0.25),
  /** Demonstrations a query. */
  demonstrations: z.int().positive().default(1),
});
type Parameters = z.output<typeof params>;

function* splitProblems(split: Split, params: Parameters): Generator<[Problem, Query]> {
  const options = { seed: params.seed, size: sizes[params.difficulty], count: params[split] };
  for (const problem of problems(split, options)) {
    const question = problemText(problem);
    yield [problem, { id: `arithmetic/${question}`, question, gold: `${total(problem)}` }];
  }
}

const prompt = (query: Query) => `${query.question}\n`;

export const arithmetic = defineTask({
  name: "arithmetic",
  description: "word problems with products and sums, from a seeded generator",
  params,
  *queries(split, params) {
    for (const [, query] of splitProblems(split, params)) yield query;
  },
  *demonstrations(split, params) {
    const random = Random.from(`arithmetic/demonstrations/${params.seed}/${split}`);
    for (const [problem, query] of splitProblems(split, params)) {
      for (let n = 0; n < params.demonstrations; n++) {
        yield { query, prompt: prompt(query), solution: solve(problem, params.care, random) };
      }
    }
  },
  prompt,
  messages: (query) => [{
    role: "user",
    content:
      `How many in all? ${query.question}\nWrite one step a line, then '#### ' and the answer.`,
  }],
  grade: (query, completion) => gradeFinalNumber(query.gold, completion),
  stepDelimiters: ["\n"],
  alphabet: () => "\n #()*+,0123456789:=abcdefghijklmnopqrstuvwxyz",
});
