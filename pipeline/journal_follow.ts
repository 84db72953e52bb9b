/** Following a run by asking its journal again and again. */
import type { Event } from "./events.ts";
import type { JournalReader } from "./journal.ts";
import { pause } from "./pause.ts";

const POLL_MS = 100;
const EVENTS_AT_A_TIME = 1_000;

/**
 * As `JournalReader.follow`, by asking for events again and again.
 *
 * @param lastSeq the number of the run's last event where the run has ended, else undefined
 */
export async function* followByAsking(
  journal: Pick<JournalReader, "events">,
  lastSeq: () => Promise<number | undefined>,
  run: string,
  afterSeq: number,
  signal: AbortSignal | undefined,
  pollMilliseconds = POLL_MS,
): AsyncIterable<Event> {
  let seq = afterSeq;
  while (!signal?.aborted) {
    const events = await journal.events(run, { afterSeq: seq, limit: EVENTS_AT_A_TIME });
    for (const event of events) {
      yield event;
      seq = event.seq;
    }
    if (events.length > 0) continue;
    const end = await lastSeq();
    if (end !== undefined && end <= seq) return;
    await pause(pollMilliseconds, signal);
  }
}
