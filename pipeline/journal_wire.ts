/**
 * What passes between a journal served over HTTP (`journal_serve.ts`) and those who use it
 * (`journal_http.ts`): JSON both ways, below one base address:
 *
 *     GET  runs?workflow=&limit=         RunSummary[]
 *     GET  runs/RUN                      RunDetail or null
 *     GET  runs/RUN/end                  the last event's number where the run has ended, or null
 *     GET  runs/RUN/events?afterSeq=&stage=&types=a,b&limit=
 *     GET  runs/RUN/metrics?stage=&maxPoints=
 *     POST claims                        claimRequest -> claimAnswer
 *     POST runs/RUN/events               acceptRequest -> { stop }; 409 where the lease is lost
 *     POST runs/RUN/release, runs/RUN/cancel
 *
 * An error is `{ error: { code, message } }`.
 */
import { z } from "zod";
import { eventSchema } from "./events.ts";
import { ownerSchema } from "./owner.ts";

/** Events in one request at most. */
export const EVENTS_PER_REQUEST = 1_000;

export const claimRequest = z.object({
  claim: z.object({
    newRun: z.string().min(1),
    fingerprint: z.string(),
    run: z.string().optional(),
  }),
  owner: ownerSchema,
  takeOver: z.object({ owner: ownerSchema, beat: z.number() }).optional(),
});

export const claimAnswer = z.discriminatedUnion("state", [
  z.object({ state: z.literal("held"), run: z.string(), owner: ownerSchema, beat: z.number() }),
  z.object({
    state: z.literal("granted"),
    run: z.string(),
    fence: z.number(),
    // The server's own record of the run and its stages: `summary.ts` has their form.
    record: z.record(z.string(), z.unknown()).nullable(),
    stages: z.array(z.record(z.string(), z.unknown())),
  }),
]);

export const acceptRequest = z.object({
  fence: z.number().int(),
  events: z.array(eventSchema).max(EVENTS_PER_REQUEST),
});
export const acceptAnswer = z.object({ stop: z.boolean() });

export const releaseRequest = z.object({ fence: z.number().int() });

export const ERROR_CODES = [
  "lease_lost",
  "missing_events",
  "bad_request",
  "denied",
  "failed",
] as const;
export const errorAnswer = z.object({
  error: z.object({ code: z.enum(ERROR_CODES), message: z.string() }),
});
export type ErrorCode = (typeof ERROR_CODES)[number];
