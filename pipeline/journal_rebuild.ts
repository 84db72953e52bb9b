/**
 * Makes the tables of runs and stages again from the events, which are the truth: after a change to
 * what `summary.ts` derives, or where those tables were damaged.
 */
import { type Kysely, sql } from "kysely";
import { type Event, type GraphRecord, upgradeEvent } from "./events.ts";
import { applyToStages } from "./journal_queue.ts";
import type { Tables } from "./journal_schema.ts";
import { graphIn, placesOf, writeSummary } from "./journal_writer.ts";
import { reduceRun, type RunRecord, type StageRecord } from "./summary.ts";

const EVENTS_AT_A_TIME = 10_000;

/** Rebuilds every run, each in a transaction of its own; returns how many there are. */
export async function rebuildSummaries(db: Kysely<Tables>): Promise<number> {
  const runs = await db.selectFrom("events").select("run").where("seq", "=", 1).execute();
  for (const { run } of runs) {
    await db.transaction().execute((tx) => rebuildRun(tx, run));
  }
  return runs.length;
}

async function rebuildRun(tx: Kysely<Tables>, run: string): Promise<void> {
  // A runner that writes to this run meanwhile waits, as it writes to this row first.
  await tx.updateTable("claims").set({ beat: sql`beat` }).where("run", "=", run).execute();
  const stages = new Map<string, StageRecord>();
  let record: RunRecord | undefined;
  let graph: GraphRecord | undefined;
  for (let after = 0;;) {
    const rows = await tx.selectFrom("events").selectAll().where("run", "=", run)
      .where("seq", ">", after).orderBy("seq").limit(EVENTS_AT_A_TIME).execute();
    if (rows.length === 0) break;
    const events = rows.map(eventOf);
    for (const event of events) {
      record = reduceRun(record, event);
      applyToStages(stages, event, new Set());
    }
    graph = graphIn(events) ?? graph;
    after = rows.at(-1)!.seq;
  }
  const places = placesOf(stages);
  const changed = new Set(stages.keys());
  await writeSummary(tx, { record: record!, graph, stages, places, changed });
}

/** An event from its row. */
export function eventOf(row: Tables["events"]): Event {
  const { data, stage, ...envelope } = row;
  const body = JSON.parse(data) as Record<string, unknown>;
  return upgradeEvent({ ...envelope, ...(stage === null ? {} : { stage }), ...body });
}
