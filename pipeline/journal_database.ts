/**
 * The journal on an SQL database, through kysely. The `events` table is the truth; `runs` and `stages`
 * hold what they add up to, written in the same transaction, so that lists stay quick however long
 * the history is. `claims` holds the leases.
 */
import { type Kysely, sql } from "kysely";
import type { Event, GraphRecord } from "./events.ts";
import {
  type Claim,
  type ClaimResult,
  type EventFilter,
  type Journal,
  type MetricPoint,
  MissingEventsError,
  type RunDetail,
  type RunSummary,
} from "./journal.ts";
import { followByAsking } from "./journal_follow.ts";
import { type DialectRules, SCATTERED, type Tables } from "./journal_schema.ts";
import { eventOf, rebuildSummaries } from "./journal_rebuild.ts";
import { adopt, DatabaseWriter, readStages, releaseLease } from "./journal_writer.ts";
import { isAlive, type Owner, ownerSchema } from "./owner.ts";
import type { RunRecord, StageState } from "./summary.ts";

/** A runner on another machine that has not been heard of for so long counts as gone, for display. */
const SILENCE_MS = 30_000;
const RUNS_PER_QUERY = 1_000;

export class DatabaseJournal implements Journal {
  readonly #source: () => Promise<Kysely<Tables> | undefined>;
  readonly #dialect: DialectRules;
  /** Writers for those who hold leases elsewhere, by fence and run. */
  readonly #adopted = new Map<string, DatabaseWriter>();
  #opened: Promise<Kysely<Tables> | undefined> | undefined;

  /** @param source opens the database; undefined while a reader's database does not exist yet */
  constructor(source: () => Promise<Kysely<Tables> | undefined>, dialect: DialectRules) {
    this.#source = source;
    this.#dialect = dialect;
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
    const counts = new Map(rows.map((row) => [row.run, noCounts()]));
    for (let i = 0; i < rows.length; i += RUNS_PER_QUERY) {
      const some = rows.slice(i, i + RUNS_PER_QUERY).map((row) => row.run);
      const tally = await db.selectFrom("stages")
        .select(["run", "state", (e) => e.fn.countAll<number>().as("count")])
        .where("run", "in", some).groupBy(["run", "state"]).execute();
      for (const { run, state, count } of tally) {
        counts.get(run)![state as StageState] = Number(count);
      }
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

  async metrics(
    run: string,
    stage?: string,
    options: { maxPoints?: number } = {},
  ): Promise<MetricPoint[]> {
    const db = await this.#open();
    if (db === undefined) return [];
    const { maxPoints } = options;
    let query = db.selectFrom("events").selectAll().where("run", "=", run);
    if (stage !== undefined) query = query.where("stage", "=", stage);
    query = maxPoints === undefined
      ? query.where("type", "=", "stage.metric").orderBy("seq")
      // Written out for the database to see that the indexes of metric points will do.
      : query.where(sql<boolean>`type = 'stage.metric'`).orderBy(SCATTERED).limit(maxPoints);
    const rows = (await query.execute()).sort((a, b) => a.seq - b.seq);
    const points = new Map<string, MetricPoint>();
    for (const event of rows.map(eventOf)) {
      if (event.type !== "stage.metric") continue;
      const { stage, step, time, values } = event;
      const key = `${step} ${Object.keys(values).join(" ")} ${stage}`;
      points.delete(key);
      points.set(key, { stage, step, time, values });
    }
    return [...points.values()];
  }

  follow(run: string, afterSeq = 0, signal?: AbortSignal): AsyncIterable<Event> {
    return followByAsking(this, () => this.lastSeq(run), run, afterSeq, signal);
  }

  async lastSeq(run: string): Promise<number | undefined> {
    const db = await this.#open();
    const row = await db?.selectFrom("runs").select("record").where("run", "=", run)
      .executeTakeFirst();
    const record = row === undefined ? undefined : JSON.parse(row.record) as RunRecord;
    return record?.ended === undefined ? undefined : record.lastSeq;
  }

  async claim(
    claim: Claim,
    owner: Owner,
    takeOver?: { owner: Owner; beat: number },
  ): Promise<ClaimResult> {
    const db = await this.#writable();
    return await db.transaction().execute(async (tx): Promise<ClaimResult> => {
      await this.#dialect.lockClaims(tx);
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
        const lease = { run: claim.newRun, fence: 1, record: undefined, stages: [] };
        return { state: "granted", writer: new DatabaseWriter(db, this.#dialect, lease) };
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
      const lease = { run: found.run, fence, record, stages: await readStages(tx, found.run) };
      return { state: "granted", writer: new DatabaseWriter(db, this.#dialect, lease) };
    });
  }

  async requestCancel(run: string): Promise<void> {
    const db = await this.#writable();
    await db.updateTable("claims").set({ stop: 1 }).where("run", "=", run).execute();
  }

  async accept(
    run: string,
    fence: number,
    events: readonly Event[],
  ): Promise<{ stop: boolean }> {
    const db = await this.#writable();
    const key = `${fence} ${run}`;
    // Taken anew from the journal where it is unknown here, or others have written meanwhile.
    let writer = this.#adopted.get(key);
    if (writer === undefined || writer.lost.aborted || !writer.take(events)) {
      writer = await adopt(db, this.#dialect, run, fence);
      this.#adopted.set(key, writer);
      if (!writer.take(events)) {
        throw new MissingEventsError(
          `run ${run}: the journal's last event is ${writer.record?.lastSeq ?? 0}, and the next ` +
            `one sent is ${events[0]?.seq}`,
        );
      }
    }
    try {
      await writer.beat();
    } catch (error) {
      this.#adopted.delete(key);
      throw error;
    }
    return { stop: writer.cancelRequested.aborted };
  }

  async release(run: string, fence: number): Promise<void> {
    const db = await this.#writable();
    this.#adopted.delete(`${fence} ${run}`);
    await releaseLease(db, run, fence);
  }

  async rebuild(): Promise<number> {
    return await rebuildSummaries(await this.#writable());
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
