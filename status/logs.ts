/** The last lines that a run's stages logged, read from the journal. */
import type { Event, JournalReader } from "../pipeline/mod.ts";

export interface LogLine {
  seq: number;
  time: number;
  stage: string;
  attempt: number;
  level: "debug" | "info" | "warn" | "error";
  text: string;
}

const PAGE = 10_000;

/** At most `limit` lines, the latest ones, oldest first; of one stage where `stage` is given. */
export async function lastLogs(
  journal: JournalReader,
  run: string,
  { stage, limit }: { stage?: string | undefined; limit: number },
): Promise<LogLine[]> {
  let lines: LogLine[] = [];
  let afterSeq = 0;
  while (true) {
    const events: Event[] = await journal.events(run, {
      afterSeq,
      limit: PAGE,
      types: ["stage.log"],
      ...(stage === undefined ? {} : { stage }),
    });
    for (const event of events) {
      if (event.type !== "stage.log") continue;
      const { seq, time, stage, attempt, level, text } = event;
      lines.push({ seq, time, stage, attempt, level, text });
    }
    lines = lines.slice(-limit);
    if (events.length < PAGE) return lines;
    afterSeq = events.at(-1)!.seq;
  }
}
