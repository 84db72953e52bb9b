/**
 * The arithmetic task: sums from a seeded generator, nothing to download, whose answer may be off by a
 * little. A solution is a written step a number, 4 to 8 of them, then `#### answer`. A model of under a
 * million parameters with a character tokenizer learns to imitate the teacher from scratch, and with it
 * the teacher's haste (`solution.ts`).
 */
import { z } from "zod";
import { canonicalNumber, extractFinalAnswer } from "../final_answer.ts";
import { Random } from "../random.ts";
import { defineTask, type Grade, type Query, type Split } from "../task.ts";
import { parseProblem, type Problem, problems, problemText, sizes, total } from "./problem.ts";
import { solve } from "./solution.ts";

const params = z.object({
  /** Another seed makes other problems; the splits stay apart across seeds too. */
  seed: z.int().default(0),
  /** 1 (four small numbers) to 5 (eight of two digits). */
  difficulty: z.literal([1, 2, 3, 4, 5]).default(2),
  /** Numbers of queries in each split. */
  train: z.int().positive().default(20_000),
  validation: z.int().positive().default(500),
  test: z.int().positive().default(1000),
  /** The teacher's probability of adding a number as it is, not rounded. */
  care: z.number().min(0).max(1).default(0.35),
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

/** Whether the number after `####` is within the problem's tolerance of the sum. */
function grade({ question, gold }: Query, completion: string): Grade {
  const extracted = extractFinalAnswer(completion);
  if (extracted === null) return { correct: false, extracted, reason: "no answer after ####" };
  const found = canonicalNumber(extracted);
  if (found === null) return { correct: false, extracted, reason: "the answer is not a number" };
  const off = Math.abs(Number(found) - Number(gold));
  const { tolerance } = parseProblem(question);
  return { correct: off <= tolerance, extracted, reason: off === 0 ? "equal" : `off by ${off}` };
}

export const arithmetic = defineTask({
  name: "arithmetic",
  description: "sums that may be off by a little, from a seeded generator",
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
    content: `${query.question}: one step a line, then '#### ' and the answer.`,
  }],
  grade,
  stepDelimiters: ["\n"],
  alphabet: () => "\n #+-0123456789abcdefghijklmnopqrstuvwxyz~",
});
