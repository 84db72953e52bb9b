/**
 * The journal in an SQLite file. It is in WAL mode, so that readers in other processes never wait for
 * the writer nor the writer for them.
 */
import { existsSync, mkdirSync, statfsSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { Kysely, type SqliteDatabase, SqliteDialect } from "kysely";
import { UserError } from "../errors.ts";
import { explainDisk } from "./files.ts";
import type { Journal } from "./journal.ts";
import { DatabaseJournal } from "./journal_database.ts";
import { type DialectRules, JOURNAL_VERSION, migrate, type Tables } from "./journal_schema.ts";

/** How long a statement waits for another process's transaction. */
const BUSY_TIMEOUT_MS = 30_000;

/** With less, a disk is full: SQLite takes 32 KiB and more at a time. */
const ROOM_BYTES = 1 << 18;

const RULES: DialectRules = {
  // Every transaction takes the write lock at its start: see `adapt`.
  lockClaims: () => Promise.resolve(),
  isPassing: () => false,
};

/**
 * Opens the journal in the file `path`.
 *
 * @throws UserError where the file is not a journal, or one of a later version
 */
export function openSqliteJournal(path: string, readOnly: boolean): Journal {
  return new DatabaseJournal(
    () => readOnly && !existsSync(path) ? Promise.resolve(undefined) : openFile(path, readOnly),
    RULES,
  );
}

async function openFile(path: string, readOnly: boolean): Promise<Kysely<Tables> | undefined> {
  let file: DatabaseSync;
  let version: number;
  try {
    if (!readOnly) mkdirSync(dirname(path), { recursive: true });
    file = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
    // A reader opens the file writable all the same: in WAL mode even readers keep a shared index.
    file.exec(readOnly ? "pragma query_only = on" : "pragma journal_mode = wal");
    file.exec("pragma synchronous = normal");
    version = versionOf(file);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const explained = explainFile(cause, `opening the journal ${path}`, path);
    if (explained instanceof UserError) throw explained;
    throw new UserError(`opening the journal ${path}: ${reason}`, { cause });
  }
  if (version > JOURNAL_VERSION) {
    file.close();
    throw new UserError(
      `the journal ${path} has version ${version}; this program reads up to ${JOURNAL_VERSION}: ` +
        `update the program or name another file with --journal`,
    );
  }
  if (readOnly && version === 0) {
    file.close();
    return undefined;
  }
  const db = new Kysely<Tables>({ dialect: new SqliteDialect({ database: adapt(file, path) }) });
  if (!readOnly && version < JOURNAL_VERSION) {
    // In one transaction, which also makes a second process wait; it then finds nothing to do. The
    // version is kept in the file's own header.
    await db.transaction().execute(async (tx) => {
      await migrate(tx, versionOf(file));
      file.exec(`pragma user_version = ${JOURNAL_VERSION}`);
    });
  }
  return db;
}

function versionOf(file: DatabaseSync): number {
  return Number(file.prepare("pragma user_version").get()?.["user_version"] ?? 0);
}

/** SQLite calls it an I/O error where there is no room for the index that it shares in WAL mode. */
function explainFile(error: unknown, doing: string, path: string): unknown {
  if (!(error instanceof Error) || !/disk I\/O error/.test(error.message)) {
    return explainDisk(error, doing);
  }
  let free = Infinity;
  try {
    const { bavail, bsize } = statfsSync(dirname(path));
    free = bavail * bsize;
  } catch {
    // It says what it said.
  }
  const cause = free < ROOM_BYTES ? new Error("disk is full", { cause: error }) : error;
  return explainDisk(cause, doing);
}

const nothingChanged = { changes: 0, lastInsertRowid: 0 };

/** node:sqlite in the form that kysely's SQLite dialect drives; statements are kept prepared. */
function adapt(file: DatabaseSync, path: string): SqliteDatabase {
  const explained = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw explainFile(error, `writing the journal ${path}`, path);
    }
  };
  const prepared = new Map<string, StatementSync>();
  return {
    close: () => file.close(),
    prepare(text) {
      // Every transaction of the journal writes. Taking the write lock at the start is what lets it
      // wait for another writer instead of failing half way.
      const sql = text === "begin" ? "begin immediate" : text;
      let statement = prepared.get(sql);
      if (statement === undefined) {
        statement = file.prepare(sql);
        if (prepared.size < 200) prepared.set(sql, statement);
      }
      const ready = statement;
      return {
        reader: ready.columns().length > 0,
        all: (values) => explained(() => ready.all(...values as SQLInputValue[])),
        run: (values) => {
          // A full disk makes SQLite itself roll back; a second time would hide the reason.
          if (text === "rollback" && !file.isTransaction) return nothingChanged;
          return explained(() => ready.run(...values as SQLInputValue[]));
        },
        iterate: (values) =>
          ready.iterate(...values as SQLInputValue[]) as IterableIterator<unknown>,
      };
    },
  };
}
