/** The single writer of a run, on an SQL database. */
import type { Kysely } from "kysely";
import { endsRun, type Event, EVENT_VERSION, type EventBody, type GraphRecord } from "./events.ts";
import { LeaseLostError, type RunWriter } from "./journal.ts";
import type { DialectRules, Tables } from "./journal_schema.ts";
import {
  reduceRun,
  reduceStage,
  type RunRecord,
  stageAtEnd,
  type StageRecord,
  stagesOf,
} from "./summary.ts";

const ROWS_PER_INSERT = 1_000;

/** A database that is out of reach is tried again for about half a minute before a run gives up. */
const RETRY_PAUSES_MS = [100, 200, 500, 1_000, 2_000, 4_000, 8_000, 16_000];

export class DatabaseWriter implements RunWriter {
  readonly run: string;
  readonly resumed: boolean;
  readonly gpuSeconds: number;
  readonly stages = new Map<string, StageRecord>();
  readonly #db: Kysely<Tables>;
  readonly #dialect: DialectRules;
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
    dialect: DialectRules,
    run: string,
    fence: number,
    record: RunRecord | undefined,
    stages: StageRecord[],
  ) {
    this.#db = db;
    this.#dialect = dialect;
    this.run = run;
    this.#fence = fence;
    this.#record = record;
    this.#seq = record?.lastSeq ?? 0;
    this.resumed = record !== undefined;
    this.gpuSeconds = record?.gpuSeconds ?? 0;
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
    this.#flushing = Promise.resolve().then(() => this.#writeQueue())
      .catch(() => {}) // `flush` throws what `#guard` has kept
      .finally(() => {
        this.#flushing = undefined;
        if (!this.#lost.signal.aborted) this.#schedule();
      });
  }

  async #guard(work: () => Promise<void>): Promise<void> {
    for (let tries = 0;; tries++) {
      try {
        this.#lost.signal.throwIfAborted();
        return await work();
      } catch (error) {
        const pause = RETRY_PAUSES_MS[tries];
        if (pause === undefined || !this.#dialect.isPassing(error)) {
          this.#lost.abort(error);
          throw error;
        }
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
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

  async #writeQueue(): Promise<void> {
    const events = this.#queue;
    this.#queue = [];
    const changed = new Set<string>();
    for (const event of events) this.#apply(event, changed);
    await this.#guard(() => this.#write(events, changed));
    this.#graph = undefined;
  }

  /** Writes events and what has changed with them; doing it twice is as doing it once. */
  async #write(events: readonly Event[], changed: ReadonlySet<string>): Promise<void> {
    const record = this.#record!;
    await this.#db.transaction().execute(async (tx) => {
      await this.#hold(tx);
      for (let i = 0; i < events.length; i += ROWS_PER_INSERT) {
        await tx.insertInto("events").values(events.slice(i, i + ROWS_PER_INSERT).map(rowOf))
          .onConflict((conflict) => conflict.columns(["run", "seq"]).doNothing()).execute();
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

function rowOf(event: Event): Tables["events"] {
  const { v, run, seq, time, type, ...rest } = event;
  const { stage, ...data } = rest as { stage?: string };
  return { v, run, seq, time, type, stage: stage ?? null, data: JSON.stringify(data) };
}
