/**
 * The shapes that the API answers with, as zod schemas: they type the handlers and describe the API in
 * `/openapi.json`. Field names and meanings are those of the journal (`pipeline/summary.ts`).
 */
import { z } from "@hono/zod-openapi";
import { EVENT_TYPES, type EventType } from "../pipeline/mod.ts";

/** Any JSON. Spelled out for OpenAPI, which has no recursive inline types. */
const Json = z.unknown().openapi({ description: "any JSON" });
const Values = z.record(z.string(), Json);
const Milliseconds = z.number().openapi({ description: "milliseconds since 1970, UTC" });

export const RunState = z.enum(["running", "interrupted", "done", "failed", "cancelled"]).openapi({
  description: "interrupted: nothing drives the run any more, yet it can be resumed",
});
export const StageState = z.enum([
  "waiting",
  "running",
  "done",
  "cached",
  "failed",
  "skipped",
  "cancelled",
]).openapi({ description: "cached: the store already had what the stage would make" });

export const Run = z.object({
  id: z.string(),
  workflow: z.string(),
  state: RunState,
  params: Values,
  seed: z.number(),
  only: z.string().optional().openapi({
    description: "the one stage that the run is for, where it is not for the whole workflow",
  }),
  out: z.string().openapi({ description: "folder of the report, on the machine of the runner" }),
  started: Milliseconds,
  updated: Milliseconds,
  ended: Milliseconds.optional(),
  seconds: z.number().optional(),
  values: Values.optional(),
  message: z.string().optional(),
  gpuSeconds: z.number().optional().openapi({ description: "what its stages have used in all" }),
  lastSeq: z.number(),
  heartbeat: Milliseconds.optional(),
  counts: z.record(StageState, z.number()),
}).openapi("Run");

export const Stage = z.object({
  id: z.string(),
  stage: z.string(),
  inputs: z.array(z.string()),
  params: Values,
  state: StageState,
  attempt: z.number(),
  started: Milliseconds.optional(),
  ended: Milliseconds.optional(),
  seconds: z.number().optional(),
  progress: z.object({
    done: z.number(),
    total: z.number(),
    unit: z.string().optional(),
    time: Milliseconds,
  }).optional(),
  lastMetric: z.object({
    step: z.number(),
    values: z.record(z.string(), z.number().nullable()),
  }).optional(),
  key: z.string().optional(),
  artifacts: z.record(z.string(), z.string()).optional(),
  values: Values.optional(),
  message: z.string().optional(),
}).openapi("Stage");

export const RunDetail = Run.extend({
  graph: z.object({
    nodes: z.array(z.object({
      id: z.string(),
      stage: z.string(),
      inputs: z.array(z.string()),
      params: Values,
    })),
  }),
  stages: z.array(Stage),
  report: z.string().optional().openapi({ description: "path of the report, once it is there" }),
}).openapi("RunDetail");

export const MetricPoint = z.object({
  stage: z.string(),
  step: z.number(),
  time: Milliseconds,
  values: z.record(z.string(), z.number().nullable()),
}).openapi("MetricPoint");

export const LogLine = z.object({
  seq: z.number(),
  time: Milliseconds,
  stage: z.string(),
  attempt: z.number(),
  level: z.enum(["debug", "info", "warn", "error"]),
  text: z.string(),
}).openapi("LogLine");

export const ApiError = z.object({
  error: z.object({ status: z.number(), message: z.string() }),
}).openapi("Error");

export const EventTypes = z.string().optional().transform((text, context) => {
  if (text === undefined || text === "") return undefined;
  const types = text.split(",");
  for (const type of types) {
    if (EVENT_TYPES.includes(type as EventType)) continue;
    context.addIssue({
      code: "custom",
      message: `unknown event type '${type}'; known: ${EVENT_TYPES.join(", ")}`,
    });
    return z.NEVER;
  }
  return types as EventType[];
}).openapi({
  type: "string",
  description: "only these types, separated by commas",
  example: "stage.metric,stage.log",
});
