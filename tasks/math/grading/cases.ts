/** Cases to grade as JSON lines, and what comes of each. */
import { z } from "zod";
import { UserError } from "../../../errors.ts";

const text = z.union([z.string(), z.number()]).transform(String);

const gradingCase = z.object({
  id: z.union([z.string(), z.number()]),
  /** The right answer, or a worked solution that ends in it. */
  gold: text,
  /** The solution to grade, or a bare answer. */
  prediction: text,
  task: z.enum(["gsm8k", "math"]).default("math"),
});
export type GradingCase = z.output<typeof gradingCase>;

export interface GradedCase {
  readonly id: string | number;
  readonly correct: boolean;
  readonly extracted: string | null;
  readonly reason: string;
}

/** @throws {UserError} naming the line and what is wrong with it */
export function parseCase(line: string, number: number): GradingCase {
  const fail = (problem: string, cause?: unknown) =>
    new UserError(
      `grade: line ${number}: ${problem}; expected {"id": ..., "gold": "...", "prediction": "...", ` +
        '"task": "gsm8k" or "math"}',
      { cause },
    );
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch (cause) {
    throw fail(`not JSON (${(cause as Error).message})`, cause);
  }
  const parsed = gradingCase.safeParse(json);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw fail(
    `${issue.path.length === 0 ? "the line" : `field '${issue.path.join(".")}'`}: ${issue.message}`,
  );
}
