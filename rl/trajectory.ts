/**
 * Trajectories: one sampled solution each, with all that training needs of it. On disk they are JSON
 * lines, one record a line, each with the version of its form; here are the type, the schema, reading
 * with errors that name file and line, writing, and the masks that the objectives use.
 */
import { createReadStream, createWriteStream } from "node:fs";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { z } from "zod";
import { UserError } from "../errors.ts";

/** Version of the form written here; older forms are read, newer ones refused. */
export const trajectoryVersion = 1;

const tokenIds = z.array(z.int().nonnegative());

export const trajectorySchema = z.strictObject({
  version: z.literal(trajectoryVersion).default(trajectoryVersion),
  /** The query that was answered; balancing groups by it. */
  query: z.string(),
  prompt: z.string(),
  promptIds: tokenIds.min(1),
  /** What followed the prompt: the policy's tokens, end-of-text included, and any observations. */
  responseIds: tokenIds.min(1),
  /** 1 where a response token is an action of the policy; all are where left out. */
  actionMask: z.array(z.literal([0, 1])).optional(),
  /** Ascending indices into the response of the last token of each reasoning step. */
  stepEnds: z.array(z.int().nonnegative()),
  /** The outcome: 1 success, 0 failure. */
  reward: z.literal([0, 1]),
  /** log π_ref of each response token, in nats. */
  refLogProbs: z.array(z.number()).optional(),
  /** log of the probability with which each response token was sampled, in nats. */
  sampleLogProbs: z.array(z.number()).optional(),
  /** Where it came from, e.g. the sampling run and its seed. */
  source: z.string(),
}).superRefine((t, context) => {
  const length = t.responseIds.length;
  for (const field of ["actionMask", "refLogProbs", "sampleLogProbs"] as const) {
    const found = t[field]?.length;
    if (found !== undefined && found !== length) {
      context.addIssue({
        code: "custom",
        path: [field],
        message: `has ${found} entries for a response of ${length} tokens`,
      });
    }
  }
  if (t.actionMask !== undefined && !t.actionMask.includes(1)) {
    context.addIssue({ code: "custom", path: ["actionMask"], message: "has no action" });
  }
  for (const [i, end] of t.stepEnds.entries()) {
    if (end >= length || (i > 0 && end <= t.stepEnds[i - 1]!)) {
      context.addIssue({
        code: "custom",
        path: ["stepEnds", i],
        message: `is ${end}; ends must ascend and lie within the response of ${length} tokens`,
      });
    }
  }
});

export type Trajectory = z.output<typeof trajectorySchema>;

/** What supervised training needs of a trajectory: a prompt, and a response to learn. */
export type Demonstration = Pick<Trajectory, "promptIds" | "responseIds" | "actionMask">;

/**
 * Parses one line.
 * @param where names the place in errors, e.g. `data.jsonl:7`
 * @throws UserError where the line is not JSON or not a trajectory
 */
export function parseTrajectory(line: string, where: string): Trajectory {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new UserError(`${where}: not JSON: ${(cause as Error).message}`, { cause });
  }
  const version = (value as { version?: unknown } | null)?.version ?? trajectoryVersion;
  if (typeof version === "number" && version > trajectoryVersion) {
    throw new UserError(
      `${where}: a trajectory of version ${version}; this release reads up to ${trajectoryVersion}. ` +
        "Update it, or sample again",
    );
  }
  const parsed = trajectorySchema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    const field = issue.path.join(".");
    throw new UserError(
      `${where}: not a trajectory: ${field === "" ? "" : `${field}: `}${issue.message}`,
    );
  }
  return parsed.data;
}

/** Reads a JSON-lines file; blank lines are passed over. Throws a UserError with file and line. */
export async function readTrajectories(path: string): Promise<Trajectory[]> {
  const trajectories: Trajectory[] = [];
  let line = 0;
  try {
    for await (const text of createInterface({ input: createReadStream(path, "utf8") })) {
      line++;
      if (text.trim() !== "") trajectories.push(parseTrajectory(text, `${path}:${line}`));
    }
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`cannot read trajectories from ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (trajectories.length === 0) throw new UserError(`${path} holds no trajectory`);
  return trajectories;
}

/** Writes a JSON-lines file; the caller sees to atomicity (a stage's output folder is published whole). */
export async function writeTrajectories(
  path: string,
  trajectories: Iterable<Trajectory>,
): Promise<void> {
  const out = createWriteStream(path);
  const failed = once(out, "close").then(() => {
    if (out.errored !== null) throw out.errored;
  });
  failed.catch(() => {});
  for (const trajectory of trajectories) {
    if (!out.write(JSON.stringify(trajectory) + "\n")) {
      await Promise.race([once(out, "drain"), failed]);
    }
  }
  out.end();
  await failed;
}

/** Tokens of prompt and response together. */
export function lengthOf({ promptIds, responseIds }: Demonstration): number {
  return promptIds.length + responseIds.length;
}

/** Whether each response token is an action. */
export function actionsOf({ responseIds, actionMask }: Demonstration): readonly number[] {
  return actionMask ?? responseIds.map(() => 1);
}

/**
 * The indices in the response at which an action starts: every action token (`token`), or the first
 * action token of every step (`step`; a step that has none, and a second step that starts at the same
 * token, give nothing).
 */
export function actionStarts(trajectory: Trajectory, level: "token" | "step"): number[] {
  const actions = actionsOf(trajectory);
  const all = actions.flatMap((action, i) => action === 1 ? [i] : []);
  if (level === "token") return all;
  const starts = new Set<number>(all.slice(0, 1));
  let next = 0;
  for (const end of trajectory.stepEnds) {
    while (next < all.length && all[next]! <= end) next++;
    if (next < all.length) starts.add(all[next]!);
  }
  return [...starts];
}
