/**
 * Opens a journal by its location: the path of an SQLite file. It is in WAL mode, so that readers in
 * other processes never wait for the writer nor the writer for them.
 */
import { existsSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { Kysely, type SqliteDatabase, SqliteDialect } from "kysely";
import { UserError } from "../errors.ts";
import type { Journal } from "./journal.ts";
import { DatabaseJournal, migrate, type Tables } from "./journal_database.ts";

/** How long a statement waits for another process's transaction. */
const BUSY_TIMEOUT_MS = 30_000;
/** Kept in the file's own header, so that a journal of a later program is recognised. */
const FILE_VERSION = 1;

/**
 * Opens the journal at `location`. With `readOnly` nothing is ever written, and a journal that does
 * not exist yet reads as empty until it does.
 *
 * @throws UserError where the file is not a journal, or one of a later version
 */
export function openJournal(location: string, options: { readOnly?: boolean } = {}): Journal {
  const readOnly = options.readOnly ?? false;
  return new DatabaseJournal(() =>
    readOnly && !existsSync(location) ? Promise.resolve(undefined) : openFile(location, readOnly)
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
    version = Number(file.prepare("pragma user_version").get()?.["user_version"] ?? 0);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new UserError(`opening the journal ${path}: ${reason}`, { cause });
  }
  if (version > FILE_VERSION) {
    file.close();
    throw new UserError(
      `the journal ${path} has version ${version}; this program reads up to ${FILE_VERSION}: ` +
        `update the program or name another file with --journal`,
    );
  }
  if (readOnly && version === 0) {
    file.close();
    return undefined;
  }
  const db = new Kysely<Tables>({ dialect: new SqliteDialect({ database: adapt(file) }) });
  if (!readOnly && version < FILE_VERSION) {
    await migrate(db);
    file.exec(`pragma user_version = ${FILE_VERSION}`);
  }
  return db;
}

/** node:sqlite in the form that kysely's SQLite dialect drives; statements are kept prepared. */
function adapt(file: DatabaseSync): SqliteDatabase {
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
        all: (values) => ready.all(...values as SQLInputValue[]),
        run: (values) => ready.run(...values as SQLInputValue[]),
        iterate: (values) =>
          ready.iterate(...values as SQLInputValue[]) as IterableIterator<unknown>,
      };
    },
  };
}
