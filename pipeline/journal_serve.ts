/**
 * A journal over HTTP, for jobs on machines that reach neither its file nor its database: a handler of
 * requests for any server. `journal_wire.ts` has the addresses, `journal_http.ts` the other side.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import { EVENT_TYPES, type EventType } from "./events.ts";
import { type Journal, LeaseLostError, MissingEventsError } from "./journal.ts";
import { acceptRequest, claimRequest, type ErrorCode, releaseRequest } from "./journal_wire.ts";

const MAX_BODY_BYTES = 32 << 20;

export interface ServeJournalOptions {
  /** The base address's path. Default `/journal`. */
  readonly base?: string;
  /** What callers must send as `Authorization: Bearer TOKEN`: those who write here can do anything. */
  readonly token: string;
  /** Where defects are told; default `console.error`. */
  readonly report?: (error: unknown) => void;
}

class Refused extends Error {
  readonly status: number;
  readonly code: ErrorCode;

  constructor(status: number, code: ErrorCode, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The handler; a path below another base answers 404. */
export function journalHandler(
  journal: Journal,
  options: ServeJournalOptions,
): (request: Request) => Promise<Response> {
  const { base = "/journal", token, report = console.error } = options;
  return async (request) => {
    try {
      if (!isBearer(request, token)) {
        throw new Refused(
          401,
          "denied",
          "the journal needs its token: Authorization: Bearer TOKEN",
        );
      }
      const url = new URL(request.url);
      const parts = url.pathname.startsWith(`${base}/`)
        ? url.pathname.slice(base.length + 1).split("/").map(decodeURIComponent)
        : [];
      const answer = request.method === "GET"
        ? await read(journal, parts, url.searchParams)
        : request.method === "POST"
        ? await write(journal, parts, await bodyOf(request))
        : undefined;
      if (answer === undefined) {
        throw new Refused(
          404,
          "bad_request",
          `${request.method} ${url.pathname}: nothing is there`,
        );
      }
      return Response.json(answer);
    } catch (error) {
      return errorResponse(error, report);
    }
  };
}

const count = z.coerce.number().int().min(0).optional();
const queries = {
  runs: z.object({ workflow: z.string().optional(), limit: count }),
  events: z.object({
    afterSeq: count,
    stage: z.string().optional(),
    types: z.string().transform((text) => text.split(",").filter(isEventType)).optional(),
    limit: count,
  }),
  metrics: z.object({ stage: z.string().optional(), maxPoints: count }),
};

async function read(
  journal: Journal,
  [place, run, what, more]: string[],
  params: URLSearchParams,
): Promise<unknown> {
  if (place !== "runs" || more !== undefined) return undefined;
  const query = Object.fromEntries(params);
  if (run === undefined) return await journal.runs(given(queries.runs.parse(query)));
  if (what === undefined) return await journal.run(run) ?? null;
  if (what === "end") return await journal.lastSeq(run) ?? null;
  if (what === "events") return await journal.events(run, given(queries.events.parse(query)));
  if (what === "metrics") {
    const { stage, maxPoints } = queries.metrics.parse(query);
    return await journal.metrics(run, stage, given({ maxPoints }));
  }
  return undefined;
}

async function write(journal: Journal, parts: string[], body: unknown): Promise<unknown> {
  const [place, run, what, more] = parts;
  if (place === "claims" && run === undefined) return await claim(journal, body);
  if (place !== "runs" || run === undefined || more !== undefined) return undefined;
  if (what === "events") {
    const { fence, events } = acceptRequest.parse(body);
    if (events.some((event) => event.run !== run)) {
      throw new Refused(400, "bad_request", `every event must be of run ${run}`);
    }
    return await journal.accept(run, fence, events);
  }
  if (what === "release") {
    await journal.release(run, releaseRequest.parse(body).fence);
    return {};
  }
  if (what === "cancel") {
    await journal.requestCancel(run);
    return {};
  }
  return undefined;
}

async function claim(journal: Journal, body: unknown): Promise<unknown> {
  const { claim: { run, ...rest }, owner, takeOver } = claimRequest.parse(body);
  const asked = run === undefined ? rest : { ...rest, run };
  const answer = await journal.claim(asked, owner, takeOver);
  if (answer.state === "held") return answer;
  const { writer } = answer;
  return {
    state: "granted",
    run: writer.run,
    fence: writer.fence,
    record: writer.record ?? null,
    stages: [...writer.stages.values()],
  };
}

/** Without the members that are undefined. */
function given<T extends object>(object: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(
    Object.entries(object).filter(([, value]) => value !== undefined),
  ) as never;
}

function isEventType(text: string): text is EventType {
  return (EVENT_TYPES as string[]).includes(text);
}

async function bodyOf(request: Request): Promise<unknown> {
  const bytes = await request.arrayBuffer();
  if (bytes.byteLength > MAX_BODY_BYTES) {
    throw new Refused(413, "bad_request", `the request has more than ${MAX_BODY_BYTES} bytes`);
  }
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new Refused(400, "bad_request", "the request is not JSON");
  }
}

function isBearer(request: Request, token: string): boolean {
  const sent = /^Bearer (.+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return sent !== undefined && timingSafeEqual(digest(sent), digest(token));
}

function errorResponse(error: unknown, report: (error: unknown) => void): Response {
  const answer = (status: number, code: ErrorCode, message: string) =>
    Response.json({ error: { code, message } }, { status });
  if (error instanceof Refused) return answer(error.status, error.code, error.message);
  if (error instanceof LeaseLostError) return answer(409, "lease_lost", error.message);
  if (error instanceof MissingEventsError) return answer(409, "missing_events", error.message);
  if (error instanceof z.ZodError) return answer(400, "bad_request", z.prettifyError(error));
  report(error);
  return answer(500, "failed", "the journal failed; the server's log says more");
}
