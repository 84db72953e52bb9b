/**
 * The journal behind an HTTP address, for jobs that reach neither its file nor its database. The token
 * is in the environment variable OREO_JOURNAL_TOKEN, so that it stands in no command line. Where the
 * server is out of reach for a while, a run waits for it; events that were sent twice count once.
 */
import type { z } from "zod";
import { UserError } from "../errors.ts";
import { type Event, upgradeEvent } from "./events.ts";
import {
  type Claim,
  type ClaimResult,
  type EventFilter,
  type Journal,
  type Lease,
  LeaseLostError,
  type MetricPoint,
  MissingEventsError,
  type RunDetail,
  type RunSummary,
} from "./journal.ts";
import { followByAsking } from "./journal_follow.ts";
import { QueuedWriter } from "./journal_queue.ts";
import { acceptAnswer, claimAnswer, errorAnswer, EVENTS_PER_REQUEST } from "./journal_wire.ts";
import type { Owner } from "./owner.ts";
import type { RunRecord, StageRecord } from "./summary.ts";

const TOKEN = "OREO_JOURNAL_TOKEN";
const TIMEOUT_MS = 30_000;
const FOLLOW_POLL_MS = 500;

/** The server did not answer, or not as a journal does; it may shortly. */
class OutOfReachError extends UserError {
  override name = "OutOfReachError";
}

/** Opens the journal served at `location`, such as `https://status.example/journal`. */
export function openHttpJournal(location: string, readOnly: boolean): HttpJournal {
  return new HttpJournal(location, readOnly);
}

export class HttpJournal implements Journal {
  readonly #location: string;
  readonly #readOnly: boolean;

  constructor(location: string, readOnly: boolean) {
    this.#location = location.replace(/\/+$/, "");
    this.#readOnly = readOnly;
  }

  async runs(filter: { workflow?: string; limit?: number } = {}): Promise<RunSummary[]> {
    return await this.#get("runs", filter) as RunSummary[];
  }

  async run(id: string): Promise<RunDetail | undefined> {
    return await this.#get(runPath(id)) as RunDetail | null ?? undefined;
  }

  async events(run: string, filter: EventFilter = {}): Promise<Event[]> {
    const { types, ...rest } = filter;
    const asked = types === undefined ? rest : { ...rest, types: types.join(",") };
    const events = await this.#get(runPath(run, "events"), asked) as Event[];
    return events.map((event) => upgradeEvent({ ...event }));
  }

  async metrics(
    run: string,
    stage?: string,
    options: { maxPoints?: number } = {},
  ): Promise<MetricPoint[]> {
    return await this.#get(runPath(run, "metrics"), { stage, ...options }) as MetricPoint[];
  }

  follow(run: string, afterSeq = 0, signal?: AbortSignal): AsyncIterable<Event> {
    return followByAsking(this, () => this.lastSeq(run), run, afterSeq, signal, FOLLOW_POLL_MS);
  }

  async lastSeq(run: string): Promise<number | undefined> {
    return await this.#get(runPath(run, "end")) as number | null ?? undefined;
  }

  async claim(
    claim: Claim,
    owner: Owner,
    takeOver?: { owner: Owner; beat: number },
  ): Promise<ClaimResult> {
    const answer = await this.#post("claims", { claim, owner, takeOver }, claimAnswer);
    if (answer.state === "held") return answer;
    const { run, fence, record, stages } = answer;
    const lease: Lease = {
      run,
      fence,
      record: record as RunRecord | null ?? undefined,
      stages: stages as unknown as StageRecord[],
    };
    return { state: "granted", writer: new HttpWriter(this, lease) };
  }

  async accept(run: string, fence: number, events: readonly Event[]): Promise<{ stop: boolean }> {
    return await this.#post(runPath(run, "events"), { fence, events }, acceptAnswer);
  }

  async release(run: string, fence: number): Promise<void> {
    await this.#post(runPath(run, "release"), { fence });
  }

  async requestCancel(run: string): Promise<void> {
    await this.#post(runPath(run, "cancel"), {});
  }

  rebuild(): Promise<number> {
    return Promise.reject(
      new UserError(
        `rebuilding the journal ${this.#location}: do it where its file or database is, with ` +
          `pipeline rebuild --journal`,
        { exitCode: 2 },
      ),
    );
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  async #get(path: string, query: Record<string, unknown> = {}): Promise<unknown> {
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
    return await this.#ask(text.size === 0 ? path : `${path}?${text}`, {});
  }

  async #post<T>(path: string, body: unknown, answer?: z.ZodType<T>): Promise<T> {
    if (this.#readOnly) throw new Error("the journal was opened for reading only");
    const got = await this.#ask(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    return answer === undefined ? got as T : answer.parse(got);
  }

  async #ask(path: string, init: RequestInit): Promise<unknown> {
    const what = `asking the journal ${this.#location}`;
    const headers = new Headers(init.headers);
    const token = Deno.env.get(TOKEN);
    if (token !== undefined) headers.set("authorization", `Bearer ${token}`);
    let status: number;
    let text: string;
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const response = await fetch(`${this.#location}/${path}`, { ...init, headers, signal });
      status = response.status;
      text = await response.text();
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new OutOfReachError(`${what}: ${reason}; is its server running?`, { cause });
    }
    if (status === 401) {
      throw new UserError(`${what}: it refused the token; set ${TOKEN} to the server's`);
    }
    const body = parseJson(text);
    if (status === 200 && body !== undefined) return body;
    const error = errorAnswer.safeParse(body).data?.error;
    if (error?.code === "lease_lost") throw new LeaseLostError(error.message);
    if (error?.code === "missing_events") throw new MissingEventsError(error.message);
    if (error?.code === "bad_request") throw new UserError(`${what}: ${error.message}`);
    const said = error?.message ?? `it answered ${status}, not as a journal does`;
    if (status >= 500 || status === 429) throw new OutOfReachError(`${what}: ${said}`);
    throw new UserError(`${what}: ${said}; check the address`, { exitCode: 2 });
  }
}

class HttpWriter extends QueuedWriter {
  readonly #journal: HttpJournal;

  constructor(journal: HttpJournal, lease: Lease) {
    super(lease);
    this.#journal = journal;
  }

  protected override async write(events: readonly Event[]): Promise<void> {
    for (let i = 0; i < events.length; i += EVENTS_PER_REQUEST) {
      await this.#send(events.slice(i, i + EVENTS_PER_REQUEST));
    }
  }

  protected override async hold(): Promise<void> {
    await this.#send([]);
  }

  protected override async release(): Promise<void> {
    await this.#journal.release(this.run, this.fence);
  }

  protected override isPassing(error: unknown): boolean {
    return error instanceof OutOfReachError;
  }

  async #send(events: readonly Event[]): Promise<void> {
    const { stop } = await this.#journal.accept(this.run, this.fence, events);
    if (stop) this.askedToStop();
  }
}

function runPath(run: string, more?: string): string {
  return `runs/${encodeURIComponent(run)}${more === undefined ? "" : `/${more}`}`;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
