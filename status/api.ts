/**
 * The JSON API over the journal, with its OpenAPI description. It only reads: whoever runs a workflow,
 * in whatever process, writes the journal, and every answer here is the journal's state of the moment.
 */
import { createRoute, OpenAPIHono, z } from "@hono/zod-openapi";
import { HTTPException } from "hono/http-exception";
import { streamSSE } from "hono/streaming";
import { nearest } from "../errors.ts";
import type { Event, JournalReader, RunDetail as Detail } from "../pipeline/mod.ts";
import { lastLogs } from "./logs.ts";
import { hasReport, reportPath } from "./report_files.ts";
import * as schemas from "./schemas.ts";

const json = <T extends z.ZodType>(schema: T, description: string) => ({
  content: { "application/json": { schema } },
  description,
});
const notFound = { 404: json(schemas.ApiError, "The journal has no such run or stage") };
const badQuery = { 400: json(schemas.ApiError, "A query parameter does not fit") };
const runParam = z.object({ id: z.string().openapi({ example: "demo-20260102-030405" }) });
const Limit = (fallback: number, most: number) =>
  z.coerce.number().int().min(1).max(most).default(fallback);

const routes = {
  health: createRoute({
    method: "get",
    path: "/healthz",
    summary: "Whether this server can read its journal",
    responses: {
      200: json(z.object({ status: z.literal("ok") }), "It can"),
      503: json(schemas.ApiError, "It cannot"),
    },
  }),
  runs: createRoute({
    method: "get",
    path: "/api/runs",
    summary: "Runs, the latest first",
    request: {
      query: z.object({ workflow: z.string().optional(), limit: Limit(100, 1000) }),
    },
    responses: {
      200: json(z.object({ runs: z.array(schemas.Run) }), "The runs"),
      ...badQuery,
    },
  }),
  run: createRoute({
    method: "get",
    path: "/api/runs/{id}",
    summary: "A run with its graph and the state of each stage",
    request: { params: runParam },
    responses: { 200: json(schemas.RunDetail, "The run"), ...notFound },
  }),
  metrics: createRoute({
    method: "get",
    path: "/api/runs/{id}/metrics",
    summary: "Points of the training curves, in the order drawn",
    request: {
      params: runParam,
      query: z.object({
        stage: z.string().optional(),
        maxPoints: Limit(10_000, 1_000_000).openapi({
          description: "of more points about so many are given, chosen evenly and always the same",
        }),
      }),
    },
    responses: {
      200: json(z.object({ points: z.array(schemas.MetricPoint) }), "The points"),
      ...notFound,
      ...badQuery,
    },
  }),
  logs: createRoute({
    method: "get",
    path: "/api/runs/{id}/logs",
    summary: "The last lines that stages logged, oldest first",
    request: {
      params: runParam,
      query: z.object({ stage: z.string().optional(), limit: Limit(200, 5000) }),
    },
    responses: {
      200: json(z.object({ lines: z.array(schemas.LogLine) }), "The lines"),
      ...notFound,
      ...badQuery,
    },
  }),
  events: createRoute({
    method: "get",
    path: "/api/runs/{id}/events",
    summary: "Events of a run as they happen, as server-sent events",
    description:
      "Each message's data is one event as JSON and its id the event's sequence number. " +
      "A client that comes back with Last-Event-ID goes on after that event. When the run has ended " +
      "a message of type `end` follows and the stream closes; asking again then gives 204.",
    request: {
      params: runParam,
      query: z.object({
        after: z.coerce.number().int().min(0).default(0).openapi({
          description: "only events with a greater sequence number; Last-Event-ID goes before it",
        }),
        stage: z.string().optional(),
        types: schemas.EventTypes,
      }),
    },
    responses: {
      200: {
        content: { "text/event-stream": { schema: z.string() } },
        description: "The stream",
      },
      204: { description: "The run has ended and there is nothing after this event" },
      ...notFound,
      ...badQuery,
    },
  }),
};

/** How often an idle stream says that it is alive; proxies close what is silent for a minute. */
const KEEP_ALIVE_MS = 15_000;

export interface ApiOptions {
  journal: JournalReader;
  /** Ends every open stream when aborted, so that a server can shut down. */
  signal?: AbortSignal;
}

/** The API's routes, to be mounted at the root. */
export function createApi({ journal, signal }: ApiOptions): OpenAPIHono {
  const api = new OpenAPIHono({
    defaultHook: (result) => {
      if (result.success) return;
      const issues = result.error.issues.map((i) => `${i.path.join(".")}: ${i.message}`).join("; ");
      throw new HTTPException(400, { message: `reading the query: ${issues}` });
    },
  });

  api.openapi(routes.health, async (c) => {
    await journal.runs({ limit: 1 });
    return c.json({ status: "ok" as const }, 200);
  });
  api.openapi(routes.runs, async (c) => {
    const { workflow, limit } = c.req.valid("query");
    const runs = await journal.runs({ limit, ...(workflow === undefined ? {} : { workflow }) });
    return c.json({ runs }, 200);
  });
  api.openapi(routes.run, async (c) => {
    const run = await findRun(journal, c.req.valid("param").id);
    const report = await hasReport(run) ? { report: reportPath(run.id) } : {};
    return c.json({ ...run, ...report }, 200);
  });
  api.openapi(routes.metrics, async (c) => {
    const { stage, maxPoints } = c.req.valid("query");
    const run = await findRun(journal, c.req.valid("param").id, stage);
    return c.json({ points: await journal.metrics(run.id, stage, { maxPoints }) }, 200);
  });
  api.openapi(routes.logs, async (c) => {
    const { stage, limit } = c.req.valid("query");
    const run = await findRun(journal, c.req.valid("param").id, stage);
    return c.json({ lines: await lastLogs(journal, run.id, { stage, limit }) }, 200);
  });
  api.openapi(routes.events, async (c) => {
    const { after, stage, types } = c.req.valid("query");
    const run = await findRun(journal, c.req.valid("param").id, stage);
    const from = resumePoint(c.req.header("last-event-id")) ?? after;
    if (run.ended !== undefined && run.lastSeq <= from) return c.body(null, 204);
    const wanted = (event: Event) =>
      (types === undefined || types.includes(event.type)) &&
      (stage === undefined || ("stage" in event && event.stage === stage));
    const response = streamSSE(c, async (stream) => {
      const closed = new AbortController();
      const close = () => closed.abort();
      stream.onAbort(close);
      signal?.addEventListener("abort", close, { once: true });
      if (signal?.aborted) close();
      const keepAlive = setInterval(() => stream.write(": still here\n\n"), KEEP_ALIVE_MS);
      try {
        for await (const event of journal.follow(run.id, from, closed.signal)) {
          if (!wanted(event)) continue;
          await stream.writeSSE({ id: String(event.seq), data: JSON.stringify(event) });
        }
        if (!closed.signal.aborted) await stream.writeSSE({ event: "end", data: "{}" });
      } finally {
        clearInterval(keepAlive);
        signal?.removeEventListener("abort", close);
      }
    });
    // Proxies that buffer would hold the events back.
    response.headers.set("X-Accel-Buffering", "no");
    return response;
  });

  api.doc31("/openapi.json", {
    openapi: "3.1.0",
    info: {
      title: "OREO pipeline status",
      version: "1",
      description: "Runs of the pipeline, read from its journal while they go on.",
    },
  });
  return api;
}

/** The number in a Last-Event-ID header; anything else is as if it were not there. */
function resumePoint(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,15}$/.test(header) ? Number(header) : undefined;
}

/** @throws HTTPException 404 where the journal has no such run, or the run no such stage */
export async function findRun(
  journal: JournalReader,
  id: string,
  stage?: string,
): Promise<Detail> {
  const run = await journal.run(id);
  if (run === undefined) {
    throw new HTTPException(404, {
      message: `the journal has no run '${id}'${
        hint(id, (await journal.runs({ limit: 100 })).map((r) => r.id))
      }`,
    });
  }
  const ids = run.stages.map((s) => s.id);
  if (stage !== undefined && !ids.includes(stage)) {
    throw new HTTPException(404, {
      message: `run '${id}' has no stage '${stage}'${hint(stage, ids)}`,
    });
  }
  return run;
}

function hint(name: string, candidates: string[]): string {
  const near = nearest(name, candidates);
  return near === undefined ? "" : `: did you mean '${near}'?`;
}
