/** Where a command finds its journal and store, and how it prints. */
import { join } from "node:path";
import { unknownName } from "../errors.ts";
import type { Journal, JournalReader, RunDetail } from "./journal.ts";
import { openJournal } from "./journal_open.ts";

/** Where runs are kept. */
export interface PlaceOptions {
  /** Folder of the artifact store. Default `.oreo/store`. */
  readonly store?: string | undefined;
  /** File of the journal. Default `.oreo/journal.sqlite`. */
  readonly journal?: string | undefined;
}

export const DEFAULT_STORE = join(".oreo", "store");
const DEFAULT_JOURNAL = join(".oreo", "journal.sqlite");

/** Opens the journal for as long as `body` takes. */
export async function withJournal<T>(
  options: PlaceOptions,
  mode: { readOnly?: boolean },
  body: (journal: Journal) => Promise<T>,
): Promise<T> {
  const journal = openJournal(options.journal ?? DEFAULT_JOURNAL, mode);
  try {
    return await body(journal);
  } finally {
    await journal.close();
  }
}

/** Throws a UserError (wrong use) where there is no such run. */
export async function findRun(journal: JournalReader, id: string): Promise<RunDetail> {
  const run = await journal.run(id);
  if (run !== undefined) return run;
  const known = (await journal.runs({ limit: 20 })).map((one) => one.id);
  throw unknownName("run", id, known);
}

/**
 * Writes all of a text to standard output. Ends the program where whoever read that has enough of it,
 * as `head` has.
 */
export async function print(text: string): Promise<void> {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let done = 0; done < bytes.length;) done += await Deno.stdout.write(bytes.subarray(done));
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) Deno.exit(0);
    throw error;
  }
}
