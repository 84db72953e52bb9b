/** Opens a journal by its location. */
import type { Journal } from "./journal.ts";
import { openHttpJournal } from "./journal_http.ts";
import { openPostgresJournal } from "./journal_postgres.ts";
import { openSqliteJournal } from "./journal_sqlite.ts";

/**
 * Opens the journal at `location`: `postgres://user@host/database`, `http(s)://host/journal`
 * (`journal_serve.ts`), or the path of an SQLite file. With
 * `readOnly` nothing is ever written, and a journal that does not exist yet reads as empty until it
 * does.
 *
 * @throws UserError (from the first use on) where there is no such database, or what is there is not a
 *   journal, or one of a later version
 */
export function openJournal(location: string, options: { readOnly?: boolean } = {}): Journal {
  const readOnly = options.readOnly ?? false;
  if (/^https?:/.test(location)) return openHttpJournal(location, readOnly);
  return /^postgres(ql)?:/.test(location)
    ? openPostgresJournal(location, readOnly)
    : openSqliteJournal(location, readOnly);
}
