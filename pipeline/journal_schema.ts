/**
 * The tables of the journal, version by version. A journal of any earlier version is brought up to
 * date by the steps it lacks; steps are never changed once they have been released.
 */
import { type Kysely, sql } from "kysely";

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

/** What databases differ in. */
export interface DialectRules {
  /** Makes the transaction the only one that claims a run. */
  lockClaims(tx: Kysely<Tables>): Promise<void>;
  /** Whether a transaction that failed so may succeed when it is tried again shortly after. */
  isPassing(error: unknown): boolean;
}

type Step = (db: Kysely<Tables>) => Promise<void>;

const bigint = sql`bigint`;

/** Step i leads from version i to version i + 1. */
const STEPS: readonly Step[] = [createTables, addCancelRequests, scatterPoints];

/** The version that this program writes. */
export const JOURNAL_VERSION = STEPS.length;

/** Brings the tables from version `from` (0: none yet) to `JOURNAL_VERSION`. */
export async function migrate(db: Kysely<Tables>, from: number): Promise<void> {
  for (const step of STEPS.slice(from)) await step(db);
}

async function createTables(db: Kysely<Tables>): Promise<void> {
  await db.schema.createTable("events").ifNotExists()
    .addColumn("run", "text", (c) => c.notNull()).addColumn("seq", bigint, (c) => c.notNull())
    .addColumn("v", "integer", (c) => c.notNull()).addColumn("time", bigint, (c) => c.notNull())
    .addColumn("type", "text", (c) => c.notNull()).addColumn("stage", "text")
    .addColumn("data", "text", (c) => c.notNull())
    .addPrimaryKeyConstraint("events_key", ["run", "seq"]).execute();
  await db.schema.createIndex("events_type").ifNotExists().on("events")
    .columns(["run", "type", "seq"]).execute();
  await db.schema.createIndex("events_stage").ifNotExists().on("events")
    .columns(["run", "stage", "seq"]).execute();
  await db.schema.createTable("runs").ifNotExists()
    .addColumn("run", "text", (c) => c.primaryKey()).addColumn("workflow", "text")
    .addColumn("started", bigint, (c) => c.notNull())
    .addColumn("record", "text", (c) => c.notNull())
    .addColumn("graph", "text", (c) => c.notNull()).execute();
  await db.schema.createTable("stages").ifNotExists()
    .addColumn("run", "text", (c) => c.notNull()).addColumn("stage", "text", (c) => c.notNull())
    .addColumn("place", "integer", (c) => c.notNull())
    .addColumn("state", "text", (c) => c.notNull())
    .addColumn("record", "text", (c) => c.notNull())
    .addPrimaryKeyConstraint("stages_key", ["run", "stage"]).execute();
  await db.schema.createIndex("stages_state").ifNotExists().on("stages")
    .columns(["run", "state"]).execute();
  await db.schema.createTable("claims").ifNotExists()
    .addColumn("run", "text", (c) => c.primaryKey())
    .addColumn("fingerprint", "text", (c) => c.notNull())
    .addColumn("place", "integer", (c) => c.notNull())
    .addColumn("fence", "integer", (c) => c.notNull()).addColumn("owner", "text")
    .addColumn("beat", "integer", (c) => c.notNull())
    .addColumn("time", bigint, (c) => c.notNull()).execute();
  await db.schema.createIndex("claims_fingerprint").ifNotExists().on("claims")
    .columns(["fingerprint", "place"]).execute();
}

/**
 * A place for each event, scattered by a multiplicative hash of its number: the first so many in this
 * order are an even choice of all, whatever curves alternate. Written out, since only an expression
 * that is the same to the letter is looked up in its index.
 */
export const SCATTERED = sql<number>`((seq * 2654435761) % 4294967296)`;

/** Lets so many metric points be chosen without looking at all. */
async function scatterPoints(db: Kysely<Tables>): Promise<void> {
  await sql`create index if not exists events_points on events (run, ${SCATTERED})
    where type = 'stage.metric'`.execute(db);
  await sql`create index if not exists events_stage_points on events (run, stage, ${SCATTERED})
    where type = 'stage.metric'`.execute(db);
}

async function addCancelRequests(db: Kysely<Tables>): Promise<void> {
  await db.schema.alterTable("claims")
    .addColumn("stop", "integer", (c) => c.notNull().defaultTo(0)).execute();
}
