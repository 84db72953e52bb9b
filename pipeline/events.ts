/**
 * What happens in a run, as events: the one record from which everything shown about a run is
 * derived (`summary.ts`). Events are appended to a journal (`journal.ts`), never changed or removed.
 *
 * Contract: each event carries its run, a sequence number that grows by one within the run, and the
 * wall-clock time in milliseconds since 1970. Order is the sequence number; the time is for people
 * (clocks jump). `v` is the version of this schema; `upgradeEvent` reads every earlier one.
 */
import { z } from "zod";

/** The version of the event schema that this module writes. */
export const EVENT_VERSION = 1;

/** Anything that JSON can carry. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** zod schema of {@link Json}. */
export const jsonSchema: z.ZodType<Json> = z.json() as z.ZodType<Json>;

/** Small results of a stage: accuracy, counts. */
export const valuesSchema = z.record(z.string(), jsonSchema);
export type Values = z.infer<typeof valuesSchema>;

/** The graph as the journal keeps it: which stages there are and which wait for which. */
const graphSchema = z.object({
  nodes: z.array(z.object({
    id: z.string(),
    stage: z.string(),
    inputs: z.array(z.string()),
    params: valuesSchema,
  })),
});
export type GraphRecord = z.infer<typeof graphSchema>;

const finite = z.number();
const artifacts = z.record(z.string(), z.string());
const stageKey = z.string();
const attempt = z.number().int().positive();

const bodies = {
  "run.started": z.object({
    workflow: z.string(),
    params: valuesSchema,
    seed: z.number().int(),
    graph: graphSchema,
    out: z.string(),
    /** The one node that the run is for; the others are there because it waits for them. */
    only: z.string().optional(),
  }),
  /** A runner took up a run that an earlier runner left, by a kill or a failure. */
  "run.resumed": z.object({ graph: graphSchema, out: z.string() }),
  /** The runner is alive; `running` are the stages it runs now, `gpuSeconds` what the run has used in
   * all. */
  "run.heartbeat": z.object({ running: z.array(z.string()), gpuSeconds: finite.optional() }),
  "run.done": z.object({ seconds: finite, values: valuesSchema }),
  "run.failed": z.object({ message: z.string() }),
  "run.cancelled": z.object({ message: z.string().optional() }),
  "stage.started": z.object({ stage: z.string(), attempt, key: stageKey }),
  /** The store already had what this stage would make. */
  "stage.cached": z.object({ stage: z.string(), key: stageKey, artifacts, values: valuesSchema }),
  "stage.progress": z.object({
    stage: z.string(),
    attempt,
    done: finite,
    total: finite,
    unit: z.string().optional(),
  }),
  /** One point of a curve for each name in `values`; `step` is the stage's own count (optimizer steps). */
  "stage.metric": z.object({
    stage: z.string(),
    attempt,
    step: finite,
    values: z.record(z.string(), finite.nullable()),
  }),
  "stage.log": z.object({
    stage: z.string(),
    attempt,
    text: z.string(),
    level: z.enum(["debug", "info", "warn", "error"]),
  }),
  "stage.done": z.object({
    stage: z.string(),
    attempt,
    key: stageKey,
    artifacts,
    values: valuesSchema,
    seconds: finite,
  }),
  "stage.failed": z.object({
    stage: z.string(),
    attempt,
    message: z.string(),
    retryable: z.boolean(),
  }),
  "stage.skipped": z.object({ stage: z.string(), reason: z.string() }),
} as const;

export type EventType = keyof typeof bodies;
export const EVENT_TYPES = Object.keys(bodies) as EventType[];

/** What an event says, without when and where in the run it was said. */
export type EventBody = {
  [T in EventType]: { type: T } & z.infer<(typeof bodies)[T]>;
}[EventType];

/** An event as the journal returns it. */
export type Event = EventBody & { v: number; run: string; seq: number; time: number };

const envelope = z.object({
  v: z.number().int().positive(),
  run: z.string().min(1),
  seq: z.number().int().positive(),
  time: z.number(),
});

/** zod schema of an event body: what a writer appends. */
const eventBodySchema: z.ZodType<EventBody> = z.discriminatedUnion(
  "type",
  entries(bodies).map(([type, body]) => body.extend({ type: z.literal(type) })) as never,
) as unknown as z.ZodType<EventBody>;

/** zod schema of a whole event: what readers and remote senders exchange. */
export const eventSchema: z.ZodType<Event> = z.intersection(
  envelope,
  eventBodySchema,
) as unknown as z.ZodType<Event>;

/** Brings an event written by any earlier version up to the current one. Throws on a newer one. */
export function upgradeEvent(raw: { v: number } & Record<string, unknown>): Event {
  if (raw.v > EVENT_VERSION) {
    throw new Error(
      `reading an event of schema version ${raw.v}: this program knows versions up to ` +
        `${EVENT_VERSION}; update it to read this journal`,
    );
  }
  return raw as unknown as Event;
}

/** True for the events after which a run does no more (until somebody resumes it). */
export function endsRun(event: { type: EventType }): boolean {
  return event.type === "run.done" || event.type === "run.failed" || event.type === "run.cancelled";
}

function entries<T extends object>(object: T): [keyof T & string, T[keyof T]][] {
  return Object.entries(object) as [keyof T & string, T[keyof T]][];
}
