/**
 * The journal in a Postgres database, for runners and readers on many machines. Where the database is
 * out of reach for a while, a run waits for it.
 */
import { Kysely, PostgresDialect, sql } from "kysely";
import { UserError } from "../errors.ts";
import type { Journal } from "./journal.ts";
import { DatabaseJournal } from "./journal_database.ts";
import { type DialectRules, JOURNAL_VERSION, migrate, type Tables } from "./journal_schema.ts";

/** The part of pg's client that is listened to. */
interface EventSource {
  on(event: "error", listener: () => void): unknown;
}

const INT8 = 20;
const CONNECT_TIMEOUT_MS = 10_000;

const RULES: DialectRules = {
  async lockClaims(tx) {
    await sql`lock table claims in share row exclusive mode`.execute(tx);
  },
  isPassing(error) {
    const { code = "", message = "" } = error as { code?: string; message?: string };
    // Connection exceptions, shutdown and start-up, deadlocks; and the network's own.
    return /^(08...|57P0.|40P01|40001|53300|ECONN\w+|EPIPE|ETIMEDOUT|EHOSTUNREACH)$/.test(code) ||
      /connection terminated|connection timeout|connection error|not queryable|^connect /i.test(
        message,
      );
  },
};

/** Opens the journal in the database at `url`. */
export function openPostgresJournal(url: string, readOnly: boolean): Journal {
  return new DatabaseJournal(() => connect(url, readOnly), RULES);
}

async function connect(url: string, readOnly: boolean): Promise<Kysely<Tables> | undefined> {
  // Loaded here so that only those who use it pay for it.
  const { default: pg } = await import("pg");
  let db: Kysely<Tables> | undefined;
  try {
    const pool = new pg.Pool({
      connectionString: url,
      max: 4,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      types: {
        // Times and sequence numbers are far below 2^53.
        getTypeParser: (oid: number, format: never) =>
          oid === INT8 ? Number : pg.types.getTypeParser(oid, format),
      },
    });
    // A connection that breaks is replaced when it is needed; the query on it fails by itself.
    pool.on("error", () => {});
    pool.on("connect", (client: EventSource) => client.on("error", () => {}));
    db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
    const version = await versionOf(db);
    if (version > JOURNAL_VERSION) {
      throw new UserError(
        `it has version ${version}; this program reads up to ${JOURNAL_VERSION}: update the program`,
      );
    }
    if (version < JOURNAL_VERSION) {
      if (readOnly && version === 0) {
        await db.destroy();
        return undefined;
      }
      if (!readOnly) await upgrade(db);
    }
    return db;
  } catch (cause) {
    await db?.destroy();
    const reason = cause instanceof Error ? cause.message || String(cause) : String(cause);
    throw new UserError(`opening the journal ${withoutPassword(url)}: ${reason}`, { cause });
  }
}

async function versionOf(db: Kysely<Tables>): Promise<number> {
  const found = await sql<{ name: string | null }>`
    select to_regclass('journal_version')::text as name`.execute(db);
  if (found.rows[0]?.name == null) return 0;
  const row = await sql<{ version: number }>`select version from journal_version`.execute(db);
  return row.rows[0]?.version ?? 0;
}

async function upgrade(db: Kysely<Tables>): Promise<void> {
  await db.transaction().execute(async (tx) => {
    // Others who come now wait, and then find nothing to do.
    await sql`select pg_advisory_xact_lock(hashtext('journal_version'))`.execute(tx);
    const version = await versionOf(tx);
    await sql`create table if not exists journal_version (version integer not null)`.execute(tx);
    await migrate(tx, version);
    await sql`delete from journal_version`.execute(tx);
    await sql`insert into journal_version values (${JOURNAL_VERSION})`.execute(tx);
  });
}

function withoutPassword(url: string): string {
  return url.replace(/(:\/\/[^:@/]*):[^@/]*@/, "$1@");
}
