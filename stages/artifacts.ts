/**
 * What the stages hand to each other: the kinds of artifact, the files in each, and their schemas. A
 * file read back is parsed here, so that a stage trusts what it gets.
 */
import { join } from "node:path";
import { z } from "zod";
import { UserError } from "../errors.ts";
import { artifactKind } from "../pipeline/mod.ts";
import { Curve, MethodResult, Sample } from "../report/mod.ts";

/** The names of files in artifacts. */
export const files = {
  samples: "samples.jsonl",
  trajectories: "trajectories.jsonl",
  curves: "curves.json",
  evaluation: "evaluation.json",
} as const;

/** A model in Hugging Face's form. */
export const checkpoint = artifactKind("checkpoint", 1);
/** A task's own data files, as the user gave them. */
export const dataset = artifactKind("dataset", 1);
/** `samples.jsonl`: solutions as sampled, not yet graded. */
export const samples = artifactKind("samples", 1, files.samples);
/** `trajectories.jsonl`: graded solutions with the reference policy's log-probabilities. */
export const trajectories = artifactKind("trajectories", 1, files.trajectories);
/** `curves.json`: what training measured. */
export const curves = artifactKind("curves", 1, files.curves);
/** `evaluation.json`: counts of right answers by method, and solutions to look at. */
export const evaluation = artifactKind("evaluation", 1, files.evaluation);
/** `report.html`, `report.json`, `report.txt`. */
export const report = artifactKind("report", 1);

/** One sampled solution. */
export const SampleRecord = z.strictObject({
  query: z.string(),
  question: z.string(),
  gold: z.string(),
  prompt: z.string(),
  promptIds: z.array(z.int().nonnegative()).min(1),
  responseIds: z.array(z.int().nonnegative()).min(1),
  text: z.string(),
  /** The artifact of the policy that drew it. */
  policy: z.string(),
  /** log π of each response token under that policy, at temperature 1 and over all tokens, in nats. */
  logProbs: z.array(z.number()),
  finish: z.enum(["stop", "length"]),
  // Of an episode; the response then holds what the model was told, too.
  /** 1 at the policy's own tokens. */
  actionMask: z.array(z.literal([0, 1])).optional(),
  /** Indices of the last token of each turn. */
  stepEnds: z.array(z.int().nonnegative()).optional(),
  /** Whether it succeeded. */
  reward: z.literal([0, 1]).optional(),
});
export type SampleRecord = z.infer<typeof SampleRecord>;

export const Evaluation = z.strictObject({
  results: z.array(MethodResult),
  samples: z.array(Sample).default([]),
});
export type Evaluation = z.infer<typeof Evaluation>;

export const Curves = z.array(Curve);

export async function writeJson(folder: string, file: string, value: unknown): Promise<void> {
  await Deno.writeTextFile(join(folder, file), JSON.stringify(value, null, 2) + "\n");
}

/** Reads and checks a JSON file of an artifact. */
export async function readJson<T extends z.ZodType>(
  schema: T,
  folder: string,
  file: string,
): Promise<z.output<T>> {
  const path = join(folder, file);
  return parse(schema, await Deno.readTextFile(path), path);
}

export async function writeJsonLines(
  folder: string,
  file: string,
  records: readonly unknown[],
): Promise<void> {
  await Deno.writeTextFile(
    join(folder, file),
    records.map((record) => JSON.stringify(record) + "\n").join(""),
  );
}

/** Reads and checks a JSON-lines file of an artifact. */
export async function readJsonLines<T extends z.ZodType>(
  schema: T,
  folder: string,
  file: string,
): Promise<z.output<T>[]> {
  const path = join(folder, file);
  const lines = (await Deno.readTextFile(path)).split("\n");
  return lines.flatMap((line, i) => line === "" ? [] : [parse(schema, line, `${path}:${i + 1}`)]);
}

function parse<T extends z.ZodType>(schema: T, text: string, where: string): z.output<T> {
  const parsed = schema.safeParse(JSON.parse(text));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new UserError(`${where}: ${issue.path.join(".")}: ${issue.message}`);
}
