/** The single writer of a run, on an SQL database. */
import type { Kysely } from "kysely";
import type { Event, GraphRecord } from "./events.ts";
import { type Lease, LeaseLostError } from "./journal.ts";
import { QueuedWriter } from "./journal_queue.ts";
import type { DialectRules, Tables } from "./journal_schema.ts";
import type { RunRecord, StageRecord } from "./summary.ts";

const ROWS_PER_INSERT = 1_000;

export class DatabaseWriter extends QueuedWriter {
  readonly #db: Kysely<Tables>;
  readonly #dialect: DialectRules;
  #places: ReadonlyMap<string, number> | undefined;

  constructor(db: Kysely<Tables>, dialect: DialectRules, lease: Lease) {
    super(lease);
    this.#db = db;
    this.#dialect = dialect;
  }

  protected override isPassing(error: unknown): boolean {
    return this.#dialect.isPassing(error);
  }

  protected override async hold(db: Kysely<Tables> = this.#db): Promise<void> {
    const held = await db.updateTable("claims")
      .set((e) => ({ beat: e("beat", "+", 1), time: Date.now() }))
      .where("run", "=", this.run).where("fence", "=", this.fence)
      .returning("stop").executeTakeFirst();
    if (held === undefined) {
      throw new LeaseLostError(`another runner has taken over run ${this.run}`);
    }
    if (held.stop !== 0) this.askedToStop();
  }

  protected override async release(): Promise<void> {
    await releaseLease(this.#db, this.run, this.fence);
  }

  protected override async write(
    events: readonly Event[],
    changed: ReadonlySet<string>,
  ): Promise<void> {
    await this.#db.transaction().execute(async (tx) => {
      // As the first statement of the transaction it also takes the write lock.
      await this.hold(tx);
      for (let i = 0; i < events.length; i += ROWS_PER_INSERT) {
        await tx.insertInto("events").values(events.slice(i, i + ROWS_PER_INSERT).map(rowOf))
          .onConflict((conflict) => conflict.columns(["run", "seq"]).doNothing()).execute();
      }
      const graph = graphIn(events);
      if (graph !== undefined) this.#places = undefined;
      const places = this.#places ??= placesOf(this.stages);
      await writeSummary(tx, { record: this.record!, graph, stages: this.stages, places, changed });
    });
  }
}

export async function releaseLease(db: Kysely<Tables>, run: string, fence: number): Promise<void> {
  await db.updateTable("claims").set({ owner: null })
    .where("run", "=", run).where("fence", "=", fence).execute();
}

/**
 * The writer for a lease that is held elsewhere.
 *
 * @throws LeaseLostError where it is held no more
 */
export async function adopt(
  db: Kysely<Tables>,
  dialect: DialectRules,
  run: string,
  fence: number,
): Promise<DatabaseWriter> {
  const found = await db.selectFrom("claims").leftJoin("runs", "runs.run", "claims.run")
    .select(["claims.owner", "runs.record"])
    .where("claims.run", "=", run).where("claims.fence", "=", fence).executeTakeFirst();
  if (found === undefined || found.owner === null) {
    throw new LeaseLostError(`the lease ${fence} of run ${run} is held no more`);
  }
  const record = found.record === null ? undefined : JSON.parse(found.record) as RunRecord;
  const stages = await readStages(db, run);
  return new DatabaseWriter(db, dialect, { run, fence, record, stages });
}

export async function readStages(db: Kysely<Tables>, run: string): Promise<StageRecord[]> {
  const rows = await db.selectFrom("stages").select("record").where("run", "=", run)
    .orderBy("place").execute();
  return rows.map((row) => JSON.parse(row.record) as StageRecord);
}

/** What a run's events add up to, and which part of it is to be written. */
export interface Summary {
  readonly record: RunRecord;
  /** Where the graph is new, everything of the run is written anew. */
  readonly graph: GraphRecord | undefined;
  readonly stages: ReadonlyMap<string, StageRecord>;
  /** Where each stage is in the order of the graph. */
  readonly places: ReadonlyMap<string, number>;
  readonly changed: ReadonlySet<string>;
}

/** The places of stages that are in the order of the graph. */
export function placesOf(stages: ReadonlyMap<string, StageRecord>): ReadonlyMap<string, number> {
  return new Map([...stages.keys()].map((id, place) => [id, place]));
}

export async function writeSummary(tx: Kysely<Tables>, summary: Summary): Promise<void> {
  const { record, graph, stages, places, changed } = summary;
  if (graph !== undefined) {
    const row = {
      run: record.id,
      workflow: record.workflow,
      started: record.started,
      record: JSON.stringify(record),
      graph: JSON.stringify(graph),
    };
    await tx.insertInto("runs").values(row)
      .onConflict((conflict) => conflict.column("run").doUpdateSet(row)).execute();
    await tx.deleteFrom("stages").where("run", "=", record.id).execute();
  } else {
    await tx.updateTable("runs").set({ record: JSON.stringify(record) })
      .where("run", "=", record.id).execute();
  }
  const rows = [...changed].map((id) => {
    const stage = stages.get(id)!;
    const row = { run: record.id, stage: id, place: places.get(id)!, state: stage.state };
    return { ...row, record: JSON.stringify(stage) };
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
}

/** The latest graph that the events bring. */
export function graphIn(events: readonly Event[]): GraphRecord | undefined {
  for (const event of [...events].reverse()) {
    if (event.type === "run.started" || event.type === "run.resumed") return event.graph;
  }
  return undefined;
}

function rowOf(event: Event): Tables["events"] {
  const { v, run, seq, time, type, ...rest } = event;
  const { stage, ...data } = rest as { stage?: string };
  return { v, run, seq, time, type, stage: stage ?? null, data: JSON.stringify(data) };
}
