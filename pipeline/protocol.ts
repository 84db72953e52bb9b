/**
 * What passes between a runner and the process that does a stage's work: the job goes in as one JSON
 * file, reports come out as JSON lines, the last of which is the outcome.
 */
import { z } from "zod";
import { valuesSchema } from "./events.ts";

/** All that a stage process is told. Paths are on its own machine. */
export const jobSchema = z.object({
  protocol: z.literal(1),
  /** The node of the graph, for messages. */
  node: z.string(),
  stage: z.string(),
  params: valuesSchema,
  seed: z.number(),
  key: z.string(),
  code: z.string(),
  /** Artifact ids by input name. */
  inputs: z.record(z.string(), z.union([z.string(), z.array(z.string())])),
  store: z.string(),
  /** A folder for this attempt alone. */
  work: z.string(),
  /** A folder that outlives the attempt. */
  scratch: z.string(),
  /** The process that must outlive this one, where both are on one machine. */
  parent: z.number().optional(),
  /** Whether the process waits for another job of its stage when it is done with this one. */
  stay: z.boolean().optional(),
});
export type StageJob = z.infer<typeof jobSchema>;

/** What became of an attempt. */
export type StageOutcome =
  | {
    type: "done";
    artifacts: Record<string, string>;
    values: z.infer<typeof valuesSchema>;
  }
  | {
    type: "failed";
    message: string;
    retryable: boolean;
    /** The input that has to be made again first. */
    corrupt?: string | undefined;
  };

/** What a stage says while it works. */
export type StageReport =
  | { type: "log"; text: string; level: "debug" | "info" | "warn" | "error" }
  | { type: "progress"; done: number; total: number; unit?: string | undefined }
  | { type: "metric"; step: number; values: Record<string, number | null> };

export type StageMessage = StageReport | StageOutcome;

export const messageSchema: z.ZodType<StageMessage> = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("log"),
    text: z.string(),
    level: z.enum(["debug", "info", "warn", "error"]),
  }),
  z.object({
    type: z.literal("progress"),
    done: z.number(),
    total: z.number(),
    unit: z.string().optional(),
  }),
  z.object({
    type: z.literal("metric"),
    step: z.number(),
    values: z.record(z.string(), z.number().nullable()),
  }),
  z.object({
    type: z.literal("done"),
    artifacts: z.record(z.string(), z.string()),
    values: valuesSchema,
  }),
  z.object({
    type: z.literal("failed"),
    message: z.string(),
    retryable: z.boolean(),
    corrupt: z.string().optional(),
  }),
]);

/** Yields the lines of a stream of bytes as they are completed, the unfinished last one included. */
export async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncIterable<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
  rest += decoder.decode();
  if (rest !== "") yield rest;
}
