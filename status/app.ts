/** The app: pages, API, static files, security headers and the one place where errors are answered. */
import { type Context, Hono, type MiddlewareHandler } from "hono";
import { HTTPException } from "hono/http-exception";
import { secureHeaders } from "hono/secure-headers";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { UserError } from "../errors.ts";
import { type JournalReader, openJournal, type RunDetail } from "../pipeline/mod.ts";
import { type CurvesProps, reportStyle } from "../report/mod.ts";
import { requireToken } from "./access.ts";
import { createApi, findRun } from "./api.ts";
import client from "./client.js" with { type: "text" };
import { ChartCache, curvesOf } from "./curves.ts";
import { lastLogs } from "./logs.ts";
import { errorPage, runPage, runsPage, stagePage } from "./pages.tsx";
import { prometheus } from "./prometheus.ts";
import { hasReport, readReport } from "./report_files.ts";
import style from "./style.css" with { type: "text" };

export interface AppOptions {
  /** The journal, or its location; one that does not exist yet reads as empty. */
  journal: JournalReader | string;
  /** Where given, reading needs this token (`access.ts`); else reading is public. */
  readToken?: string;
  /** Answers jobs that write their events to `/journal/` over HTTP (`journalHandler`). */
  intake?: (request: Request) => Promise<Response>;
  /** Ends open event streams when aborted. */
  signal?: AbortSignal;
  /** The clock, in milliseconds since 1970. */
  now?: () => number;
  /** Where defects are told; default `console.error`. */
  report?: (error: unknown) => void;
}

const LOG_LINES = 200;
const RUNS_SHOWN = 100;
/** More points than a page has room for make it slow and no clearer. */
const CURVE_POINTS = 20_000;

/** The app as a Hono app; `app.fetch` is a fetch handler for any server or serverless host. */
export function createApp(options: AppOptions): Hono {
  const journal = typeof options.journal === "string"
    ? openJournal(options.journal, { readOnly: true })
    : options.journal;
  const now = options.now ?? Date.now;
  const report = options.report ?? ((error: unknown) => console.error(error));
  const charts = new ChartCache();

  const app = new Hono();
  app.use(headers);
  // Before the readers' token: writers have one of their own.
  const { intake } = options;
  if (intake !== undefined) app.all("/journal/*", (c) => intake(c.req.raw));
  if (options.readToken !== undefined) app.use(requireToken(options.readToken));
  const { signal } = options;
  app.route("/", createApi({ journal, ...(signal === undefined ? {} : { signal }) }));

  const curves = async (run: RunDetail, stage?: string): Promise<CurvesProps> => ({
    curves: curvesOf(
      await journal.metrics(run.id, stage, { maxPoints: CURVE_POINTS }),
      run.stages.map((s) => s.id),
    ),
    draw: (panel) => charts.draw(run.id, panel),
  });

  app.get("/", async (c) => c.html(runsPage(await journal.runs({ limit: RUNS_SHOWN }), now())));
  app.get("/runs/:id", async (c) => {
    const run = await findRun(journal, c.req.param("id"));
    return c.html(runPage({
      run,
      curves: await curves(run),
      logs: await lastLogs(journal, run.id, { limit: LOG_LINES }),
      report: await hasReport(run),
      now: now(),
    }));
  });
  app.get("/runs/:id/stages/:stage", async (c) => {
    const id = c.req.param("stage");
    const run = await findRun(journal, c.req.param("id"), id);
    return c.html(stagePage({
      run,
      stage: run.stages.find((s) => s.id === id)!,
      curves: await curves(run, id),
      logs: await lastLogs(journal, run.id, { stage: id, limit: 5 * LOG_LINES }),
      now: now(),
    }));
  });
  app.get("/runs/:id/report", async (c) => {
    const run = await findRun(journal, c.req.param("id"));
    const html = await readReport(run, "report.html");
    if (html === undefined) throw noReport(run);
    return c.html(html);
  });
  app.get("/runs/:id/report.json", async (c) => {
    const run = await findRun(journal, c.req.param("id"));
    const text = await readReport(run, "report.json");
    if (text === undefined) throw noReport(run);
    return c.body(text, 200, { "Content-Type": "application/json" });
  });
  app.get(
    "/metrics",
    async (c) =>
      c.text(prometheus(await journal.runs({ limit: 1000 }), now()), 200, {
        "Content-Type": "text/plain; version=0.0.4; charset=utf-8",
      }),
  );
  app.get("/static/style.css", (c) => asset(c, reportStyle + style, "text/css"));
  app.get("/static/client.js", (c) => asset(c, client, "text/javascript"));

  app.notFound((c) => answer(c, 404, `there is nothing at ${c.req.path}`));
  app.onError((error, c) => {
    if (error instanceof HTTPException) return answer(c, error.status, error.message);
    if (error instanceof UserError) return answer(c, 503, error.message);
    report(error);
    return answer(c, 500, "answering failed; the server's log says why");
  });
  return app;
}

const common = {
  xFrameOptions: "DENY",
  referrerPolicy: "no-referrer",
  // Pages and sandboxed reports share an origin, so they cannot ask for different agent clusters.
  originAgentCluster: false,
  // Whether this host is reached by HTTPS alone is for its proxy to say.
  strictTransportSecurity: false,
} as const;

const pageHeaders = secureHeaders({
  ...common,
  contentSecurityPolicy: {
    defaultSrc: ["'none'"],
    scriptSrc: ["'self'"],
    styleSrc: ["'self'"],
    imgSrc: ["'self'", "data:"],
    connectSrc: ["'self'"],
    baseUri: ["'none'"],
    formAction: ["'none'"],
    frameAncestors: ["'none'"],
  },
});

/** A report brings its own scripts, styles and policy; the sandbox shuts it off from this origin. */
const reportHeaders = secureHeaders({
  ...common,
  contentSecurityPolicy: {
    sandbox: ["allow-scripts"],
    defaultSrc: ["'none'"],
    imgSrc: ["data:"],
    styleSrc: ["'unsafe-inline'"],
    scriptSrc: ["'unsafe-inline'"],
    frameAncestors: ["'none'"],
  },
});

const headers: MiddlewareHandler = (c, next) =>
  (/^\/runs\/[^/]+\/report$/.test(c.req.path) ? reportHeaders : pageHeaders)(c, next);

/** Programs get JSON, people a page; the words are the same. */
function answer(c: Context, status: ContentfulStatusCode | number, message: string): Response {
  const code = status as ContentfulStatusCode;
  const forPeople = !c.req.path.startsWith("/api/") &&
    (c.req.header("accept") ?? "").includes("text/html");
  return forPeople
    ? c.html(errorPage(code, message), code)
    : c.json({ error: { status: code, message } }, code);
}

function noReport(run: RunDetail): HTTPException {
  const why = run.state === "done"
    ? `no report lies in its folder ${run.out} on this machine`
    : `it is ${run.state}; the report is written when the run is done`;
  return new HTTPException(404, { message: `run '${run.id}' has no report: ${why}` });
}

function asset(c: Context, text: string, type: string): Response {
  return c.body(text, 200, {
    "Content-Type": `${type}; charset=utf-8`,
    "Cache-Control": "no-cache",
  });
}
