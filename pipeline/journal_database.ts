/**
 * The journal on an SQL database, through kysely. The `events` table is the truth; `runs` and `stages`
 * hold what they add up to, written in the same transaction, so that lists stay quick however long
 * the history is. `claims` holds the leases.
 */
import type { Kysely } from "kysely";
import { endsRun, EVENT_VERSION, upgradeEvent } from "./events.ts";
import type { Event, EventBody, GraphRecord } from "./events.ts";
import { LeaseLostError } from "./journal.ts";
import type {
  Claim,
  ClaimResult,
  EventFilter,
  Journal,
  MetricPoint,
  RunDetail,
  RunSummary,
  RunWriter,
} from "./journal.ts";
import { isAlive, type Owner, ownerSchema } from "./owner.ts";
import { reduceRun, reduceStage, stageAtEnd, stagesOf } from "./summary.ts";
import type { RunRecord, StageRecord, StageState } from "./summary.ts";

/** The tables. `data`, `record`, `graph` and `owner` are JSON text. */
export interface Tables {
  events: {
    run: string;
    seq: number;
    v: number;
    time: number;
    type: string;
    stage: string | null;
    data: string;
  };
  runs: { run: string; workflow: string; started: number; record: string; graph: string };
  stages: { run: string; stage: string; place: number; state: string; record: string };
  claims: {
    run: string;
    fingerprint: string;
    place: number;
    fence: number;
    owner: string | null;
    beat: number;
    time: number;
    /** 1 where the run is to be cancelled. */
    stop: number;
  };
}

/** A runner on another machine that has not been heard of for so long counts as gone, for display. */
const SILENCE_MS = 30_000;
const FOLLOW_POLL_MS = 100;
const ROWS_PER_INSERT = 1_000;

type EventRow = Tables["events"];

export class DatabaseJournal implements Journal {
  readonly #source: () => Promise<Kysely<Tables> | undefined>;
  #opened: Promise<Kysely<Tables> | undefined> | undefined;

  /** @param source opens the database; undefined while a reader's database does not exist yet */
  constructor(source: () => Promise<Kysely<Tables> | undefined>) {
    this.#source = source;
  }

  /** The database, opened when it is first needed; asked for again until it is there. */
  async #open(): Promise<Kysely<Tables> | undefined> {
    const opened = this.#opened ??= this.#source();
    let db;
    try {
      db = await opened;
      return db;
    } finally {
      if (db === undefined && this.#opened === opened) this.#opened = undefined;
    }
  }

  async runs(filter: { workflow?: string; limit?: number } = {}): Promise<RunSummary[]> {
    const db = await this.#open();
    if (db === undefined) return [];
    let query = db.selectFrom("runs").innerJoin("claims", "claims.run", "runs.run")
      .select(["runs.run", "runs.record", "claims.owner", "claims.time"])
      .orderBy("claims.place", "desc").limit(filter.limit ?? 1_000);
    if (filter.workflow !== undefined) query = query.where("runs.workflow", "=", filter.workflow);
    const rows = await query.execute();
    const tally = rows.length === 0 ? [] : await db.selectFrom("stages")
      .select(["run", "state", (e) => e.fn.countAll<number>().as("count")])
      .where("run", "in", rows.map((row) => row.run)).groupBy(["run", "state"]).execute();
    const counts = new Map(rows.map((row) => [row.run, noCounts()]));
    for (const { run, state, count } of tally) {
      counts.get(run)![state as StageState] = Number(count);
    }
    return rows.map((row) => summary(row.record, row.owner, row.time, counts.get(row.run)!));
  }

  async run(id: string): Promise<RunDetail | undefined> {
    const db = await this.#open();
    if (db === undefined) return undefined;
    const row = await db.selectFrom("runs").innerJoin("claims", "claims.run", "runs.run")
      .select(["runs.record", "runs.graph", "claims.owner", "claims.time"])
      .where("runs.run", "=", id).executeTakeFirst();
    if (row === undefined) return undefined;
    const stages = await readStages(db, id);
    const counts = noCounts();
    for (const stage of stages) counts[stage.state]++;
    return {
      ...summary(row.record, row.owner, row.time, counts),
      graph: JSON.parse(row.graph) as GraphRecord,
      stages,
    };
  }

  async events(run: string, filter: EventFilter = {}): Promise<Event[]> {
    const db = await this.#open();
    if (db === undefined) return [];
    let query = db.selectFrom("events").selectAll().where("run", "=", run)
      .where("seq", ">", filter.afterSeq ?? 0).orderBy("seq").limit(filter.limit ?? 10_000);
    if (filter.stage !== undefined) query = query.where("stage", "=", filter.stage);
    if (filter.types !== undefined) query = query.where("type", "in", [...filter.types]);
    return (await query.execute()).map(eventOf);
  }

  async metrics(run: string, stage?: string): Promise<MetricPoint[]> {
    const db = await this.#open();
    if (db === undefined) return [];
    let query = db.selectFrom("events").selectAll().where("run", "=", run)
      .where("type", "=", "stage.metric").orderBy("seq");
    if (stage !== undefined) query = query.where("stage", "=", stage);
    const points = new Map<string, MetricPoint>();
    for (const event of (await query.execute()).map(eventOf)) {
      if (event.type !== "stage.metric") continue;
      const { stage, step, time, values } = event;
      const key = `${step} ${Object.keys(values).join(" ")} ${stage}`;
      points.delete(key);
      points.set(key, { stage, step, time, values });
    }
    return [...points.values()];
  }

  async *follow(run: string, afterSeq = 0, signal?: AbortSignal): AsyncIterable<Event> {
    let seq = afterSeq;
    while (!signal?.aborted) {
      const events = await this.events(run, { afterSeq: seq, limit: 1_000 });
      for (const event of events) {
        yield event;
        seq = event.seq;
      }
      if (events.length > 0) continue;
      const db = await this.#open();
      const row = await db?.selectFrom("runs").select("record").where("run", "=", run)
        .executeTakeFirst();
      if (row !== undefined) {
        const record = JSON.parse(row.record) as RunRecord;
        if (record.ended !== undefined && record.lastSeq <= seq) return;
      }
      await pause(FOLLOW_POLL_MS, signal);
    }
  }

  async claim(
    claim: Claim,
    owner: Owner,
    takeOver?: { owner: Owner; beat: number },
  ): Promise<ClaimResult> {
    const db = await this.#writable();
    return await db.transaction().execute(async (tx): Promise<ClaimResult> => {
      let query = tx.selectFrom("claims").leftJoin("runs", "runs.run", "claims.run")
        .selectAll("claims").select("runs.record").orderBy("claims.place", "desc").limit(1);
      query = claim.run === undefined
        ? query.where("fingerprint", "=", claim.fingerprint)
        : query.where("claims.run", "=", claim.run);
      const found = await query.executeTakeFirst();
      const record = found?.record ? JSON.parse(found.record) as RunRecord : undefined;
      if (found === undefined || (claim.run === undefined && record?.state === "done")) {
        if (claim.run !== undefined) throw new Error(`the journal has no run '${claim.run}'`);
        const last = await tx.selectFrom("claims").select((e) => e.fn.max("place").as("place"))
          .executeTakeFirst();
        await tx.insertInto("claims").values({
          run: claim.newRun,
          fingerprint: claim.fingerprint,
          place: Number(last?.place ?? 0) + 1,
          fence: 1,
          owner: JSON.stringify(owner),
          beat: 1,
          time: Date.now(),
          stop: 0,
        }).execute();
        return { state: "granted", writer: new DatabaseWriter(db, claim.newRun, 1, undefined, []) };
      }
      if (found.owner !== null) {
        const holder = ownerSchema.parse(JSON.parse(found.owner));
        const known = takeOver !== undefined && takeOver.owner.nonce === holder.nonce &&
          takeOver.beat === found.beat;
        if (!known && isAlive(holder) !== false) {
          return { state: "held", run: found.run, owner: holder, beat: found.beat };
        }
      }
      const fence = found.fence + 1;
      await tx.updateTable("claims")
        .set({
          fence,
          owner: JSON.stringify(owner),
          beat: found.beat + 1,
          time: Date.now(),
          stop: 0,
        })
        .where("run", "=", found.run).execute();
      const stages = await readStages(tx, found.run);
      const writer = new DatabaseWriter(db, found.run, fence, record, stages);
      return { state: "granted", writer };
    });
  }

  async requestCancel(run: string): Promise<void> {
    const db = await this.#writable();
    await db.updateTable("claims").set({ stop: 1 }).where("run", "=", run).execute();
  }

  async close(): Promise<void> {
    await (await this.#opened)?.destroy();
  }

  async #writable(): Promise<Kysely<Tables>> {
    const db = await this.#open();
    if (db === undefined) throw new Error("the journal was opened for reading only");
    return db;
  }
}

class DatabaseWriter implements RunWriter {
  readonly run: string;
  readonly resumed: boolean;
  readonly stages = new Map<string, StageRecord>();
  readonly #db: Kysely<Tables>;
  readonly #fence: number;
  readonly #lost = new AbortController();
  readonly #cancel = new AbortController();
  #record: RunRecord | undefined;
  #graph: GraphRecord | undefined;
  #place = new Map<string, number>();
  #queue: Event[] = [];
  #seq: number;
  #flushing: Promise<void> | undefined;

  constructor(
    db: Kysely<Tables>,
    run: string,
    fence: number,
    record: RunRecord | undefined,
    stages: StageRecord[],
  ) {
    this.#db = db;
    this.run = run;
    this.#fence = fence;
    this.#record = record;
    this.#seq = record?.lastSeq ?? 0;
    this.resumed = record !== undefined;
    for (const stage of stages) this.#keep(stage);
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  get cancelRequested(): AbortSignal {
    return this.#cancel.signal;
  }

  append(body: EventBody): void {
    const envelope = { v: EVENT_VERSION, run: this.run, seq: ++this.#seq, time: Date.now() };
    this.#queue.push({ ...body, ...envelope });
    this.#schedule();
  }

  async flush(): Promise<void> {
    while (this.#flushing !== undefined || this.#queue.length > 0) {
      this.#lost.signal.throwIfAborted();
      this.#schedule();
      await this.#flushing;
    }
    this.#lost.signal.throwIfAborted();
  }

  async beat(): Promise<void> {
    await this.flush();
    await this.#guard(() => this.#hold(this.#db));
  }

  async close(): Promise<void> {
    await this.flush();
    await this.#db.updateTable("claims").set({ owner: null })
      .where("run", "=", this.run).where("fence", "=", this.#fence).execute();
  }

  /** Events that come while a write is under way go together into the next one. */
  #schedule(): void {
    if (this.#flushing !== undefined || this.#queue.length === 0) return;
    this.#flushing = Promise.resolve().then(() => this.#guard(() => this.#write()))
      .catch(() => {}) // `flush` throws what `#guard` has kept
      .finally(() => {
        this.#flushing = undefined;
        if (!this.#lost.signal.aborted) this.#schedule();
      });
  }

  async #guard(work: () => Promise<void>): Promise<void> {
    try {
      this.#lost.signal.throwIfAborted();
      await work();
    } catch (error) {
      this.#lost.abort(error);
      throw error;
    }
  }

  /** Renews the lease. As the first statement of a transaction it also takes the write lock. */
  async #hold(db: Kysely<Tables>): Promise<void> {
    const held = await db.updateTable("claims")
      .set((e) => ({ beat: e("beat", "+", 1), time: Date.now() }))
      .where("run", "=", this.run).where("fence", "=", this.#fence)
      .returning("stop").executeTakeFirst();
    if (held === undefined) {
      throw new LeaseLostError(`another runner has taken over run ${this.run}`);
    }
    if (held.stop !== 0) this.#cancel.abort();
  }

  async #write(): Promise<void> {
    const events = this.#queue;
    this.#queue = [];
    const changed = new Set<string>();
    for (const event of events) this.#apply(event, changed);
    const record = this.#record!;
    await this.#db.transaction().execute(async (tx) => {
      await this.#hold(tx);
      for (let i = 0; i < events.length; i += ROWS_PER_INSERT) {
        await tx.insertInto("events").values(events.slice(i, i + ROWS_PER_INSERT).map(rowOf))
          .execute();
      }
      if (this.#graph !== undefined) {
        const row = {
          run: this.run,
          workflow: record.workflow,
          started: record.started,
          record: JSON.stringify(record),
          graph: JSON.stringify(this.#graph),
        };
        await tx.insertInto("runs").values(row)
          .onConflict((conflict) => conflict.column("run").doUpdateSet(row)).execute();
        await tx.deleteFrom("stages").where("run", "=", this.run).execute();
      } else {
        await tx.updateTable("runs").set({ record: JSON.stringify(record) })
          .where("run", "=", this.run).execute();
      }
      const rows = [...changed].flatMap((id) => {
        const stage = this.stages.get(id);
        if (stage === undefined) return [];
        const place = this.#place.get(id)!;
        const { state } = stage;
        return [{ run: this.run, stage: id, place, state, record: JSON.stringify(stage) }];
      });
      for (let i = 0; i < rows.length; i += ROWS_PER_INSERT) {
        await tx.insertInto("stages").values(rows.slice(i, i + ROWS_PER_INSERT))
          .onConflict((conflict) =>
            conflict.columns(["run", "stage"]).doUpdateSet((e) => ({
              state: e.ref("excluded.state"),
              record: e.ref("excluded.record"),
            }))
          ).execute();
      }
    });
    this.#graph = undefined;
  }

  #apply(event: Event, changed: Set<string>): void {
    this.#record = reduceRun(this.#record, event);
    if (event.type === "run.started" || event.type === "run.resumed") {
      this.#graph = event.graph;
      const stages = stagesOf(event.graph, this.stages);
      this.stages.clear();
      this.#place.clear();
      for (const stage of stages) this.#keep(stage);
      for (const stage of stages) changed.add(stage.id);
    } else if ("stage" in event) {
      const stage = this.stages.get(event.stage);
      if (stage === undefined) return;
      this.stages.set(stage.id, reduceStage(stage, event));
      changed.add(stage.id);
    } else if (endsRun(event)) {
      for (const stage of this.stages.values()) {
        const last = stageAtEnd(stage, event);
        if (last === stage) continue;
        this.stages.set(stage.id, last);
        changed.add(stage.id);
      }
    }
  }

  #keep(stage: StageRecord): void {
    this.stages.set(stage.id, stage);
    this.#place.set(stage.id, this.#place.size);
  }
}

function rowOf(event: Event): EventRow {
  const { v, run, seq, time, type, ...rest } = event;
  const { stage, ...data } = rest as { stage?: string };
  return { v, run, seq, time, type, stage: stage ?? null, data: JSON.stringify(data) };
}

function eventOf(row: EventRow): Event {
  const { data, stage, ...envelope } = row;
  const body = JSON.parse(data) as Record<string, unknown>;
  return upgradeEvent({ ...envelope, ...(stage === null ? {} : { stage }), ...body });
}

async function readStages(db: Kysely<Tables>, run: string): Promise<StageRecord[]> {
  const rows = await db.selectFrom("stages").select("record").where("run", "=", run)
    .orderBy("place").execute();
  return rows.map((row) => JSON.parse(row.record) as StageRecord);
}

function summary(
  json: string,
  ownerJson: string | null,
  heartbeat: number,
  counts: Record<StageState, number>,
): RunSummary {
  const record = JSON.parse(json) as RunRecord;
  if (record.state === "running" && !driven(ownerJson, heartbeat)) record.state = "interrupted";
  return { ...record, counts, heartbeat };
}

function driven(ownerJson: string | null, heartbeat: number): boolean {
  if (ownerJson === null) return false;
  const alive = isAlive(ownerSchema.parse(JSON.parse(ownerJson)));
  return alive ?? Date.now() - heartbeat < SILENCE_MS;
}

function noCounts(): Record<StageState, number> {
  return { waiting: 0, running: 0, done: 0, cached: 0, failed: 0, skipped: 0, cancelled: 0 };
}

function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const wake = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", wake);
      resolve();
    };
    const timer = setTimeout(wake, milliseconds);
    signal?.addEventListener("abort", wake, { once: true });
  });
}
