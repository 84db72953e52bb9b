/** The commands about runs: list, show, logs, cancel. */
import { z } from "zod";
import { unknownName, UserError } from "../errors.ts";
import { findRun, type PlaceOptions, print, withJournal } from "./cli_place.ts";
import { duration } from "./display.ts";
import type { Event, EventType } from "./events.ts";
import { longest } from "./graph.ts";
import { describeParams } from "./params.ts";
import type { RunDetail, RunSummary } from "./journal.ts";
import { thisOwner } from "./owner.ts";

/** `pipeline runs`: the latest runs, a line each, or as JSON. */
export async function listRunsCommand(
  options: PlaceOptions & { json?: boolean | undefined; limit?: number | undefined },
): Promise<void> {
  await withJournal(options, { readOnly: true }, async (journal) => {
    const runs = await journal.runs({ limit: options.limit ?? 50 });
    if (options.json) return await print(JSON.stringify(runs, null, 2) + "\n");
    if (runs.length === 0) return await print("no runs yet: start one with: pipeline WORKFLOW\n");
    const width = longest(runs.map((run) => run.id));
    await print(runs.map((run) => `${run.id.padEnd(width)}  ${runText(run)}\n`).join(""));
  });
}

/**
 * `pipeline show RUN`: its stages with state and duration, or all of it as JSON.
 *
 * @throws UserError (wrong use) where there is no such run
 */
export async function showRunCommand(
  id: string,
  options: PlaceOptions & { json?: boolean | undefined },
): Promise<void> {
  await withJournal(options, { readOnly: true }, async (journal) => {
    const run = await findRun(journal, id);
    await print(options.json ? JSON.stringify(run, null, 2) + "\n" : detailText(run));
  });
}

/** The events that make lines of a log. */
const LOGGED: readonly EventType[] = [
  "stage.log",
  "stage.started",
  "stage.done",
  "stage.cached",
  "stage.failed",
  "stage.skipped",
];

/**
 * `pipeline logs RUN [STAGE]`: what the stage, or each of them, said, attempt by attempt; with `follow`,
 * as it says it, until the stage or the run has ended.
 *
 * @throws UserError (wrong use) where there is no such run or stage
 */
export async function logsCommand(
  id: string,
  stage: string | undefined,
  options: PlaceOptions & { follow?: boolean | undefined; json?: boolean | undefined },
): Promise<void> {
  await withJournal(options, { readOnly: true }, async (journal) => {
    const run = await findRun(journal, id);
    const known = run.stages.map((one) => one.id);
    if (stage !== undefined && !known.includes(stage)) {
      throw unknownName(`stage of run ${id}`, stage, known);
    }
    let ended = false;
    const tell = async (event: Event) => {
      if (!("stage" in event) || (stage !== undefined && event.stage !== stage)) return;
      if (stage !== undefined) ended = ENDS_STAGE.has(event.type);
      const text = options.json ? JSON.stringify(event) : logText(event);
      if (text === undefined) return;
      const from = stage === undefined && !options.json ? `${event.stage} | ` : "";
      await print(text.split("\n").map((line) => `${from}${line}\n`).join(""));
    };
    const filter = {
      ...(stage === undefined ? {} : { stage }),
      ...(options.json ? {} : { types: LOGGED }),
    };
    let after = 0;
    for (;;) {
      const events = await journal.events(id, { ...filter, afterSeq: after, limit: 1_000 });
      for (const event of events) await tell(event);
      if (events.length === 0) break;
      after = events.at(-1)!.seq;
    }
    if (!options.follow || ended) return;
    for await (const event of journal.follow(id, after)) {
      await tell(event);
      if (ended) return;
    }
  });
}

/** After these a stage says nothing more. */
const ENDS_STAGE: ReadonlySet<EventType> = new Set([
  "stage.done",
  "stage.cached",
  "stage.skipped",
]);

function logText(event: Event): string | undefined {
  const time = new Date(event.time).toISOString().slice(11, 19);
  switch (event.type) {
    case "stage.log":
      return `${time} ${event.level === "info" ? "" : `${event.level}: `}${event.text}`;
    case "stage.started":
      return `${time} -- attempt ${event.attempt} started`;
    case "stage.done":
      return `${time} -- done in ${duration(event.seconds)}`;
    case "stage.cached":
      return `${time} -- in the store`;
    case "stage.failed":
      return `${time} -- failed: ${event.message}`;
    case "stage.skipped":
      return `${time} -- skipped: ${event.reason}`;
    default:
      return undefined;
  }
}

/**
 * `pipeline cancel RUN`: asks the runner, wherever it is, to end the run cleanly, and waits until it
 * has. A run that nobody drives any more is marked as cancelled.
 *
 * @throws UserError where there is no such run, it has ended, or its runner does not answer
 */
export async function cancelRunCommand(
  id: string,
  options: PlaceOptions & { waitSeconds?: number | undefined },
): Promise<void> {
  // Read first: a journal must not come into being for a run that is not in it.
  await withJournal(options, { readOnly: true }, (journal) => findRun(journal, id));
  await withJournal(options, {}, async (journal) => {
    const run = await findRun(journal, id);
    if (run.state === "done" || run.state === "failed" || run.state === "cancelled") {
      throw new UserError(`run ${id} has ended already: it is ${run.state}`);
    }
    const claim = await journal.claim({ run: id, newRun: id, fingerprint: "" }, thisOwner());
    if (claim.state === "granted") {
      claim.writer.append({ type: "run.cancelled", message: "cancelled while nobody drove it" });
      await claim.writer.close();
    } else {
      await journal.requestCancel(id);
      const signal = AbortSignal.timeout((options.waitSeconds ?? 30) * 1000);
      for await (const _ of journal.follow(id, run.lastSeq, signal));
      const { state } = await findRun(journal, id);
      if (state === "running") {
        throw new UserError(
          `run ${id} was asked to end, and its stages have not yet; see: pipeline show ${id}`,
        );
      }
    }
    await print(`run ${id} is ${(await findRun(journal, id)).state}\n`);
  });
}

/** `pipeline rebuild`: derives what is shown about runs anew from their events. */
export async function rebuildCommand(options: PlaceOptions): Promise<void> {
  // Read first: a journal must not come into being by this.
  const known = await withJournal(options, { readOnly: true }, (journal) => journal.runs());
  if (known.length === 0) return await print("no runs yet\n");
  const count = await withJournal(options, {}, (journal) => journal.rebuild());
  await print(`rebuilt ${count} runs from their events\n`);
}

function runText(run: RunSummary): string {
  const { counts } = run;
  const finished = counts.done + counts.cached + counts.skipped;
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const time = run.seconds === undefined ? "" : `  ${duration(run.seconds)}`;
  const message = run.message === undefined ? "" : `  ${run.message.split("\n")[0]}`;
  return `${run.state.padEnd(11)}  ${finished}/${total} stages${time}${message}`;
}

function detailText(run: RunDetail): string {
  const width = longest(run.stages.map((stage) => stage.id));
  const lines = [
    `run       ${run.id}`,
    `workflow  ${run.workflow}`,
    `state     ${runText(run)}`,
    `started   ${new Date(run.started).toISOString()}`,
    `results   ${run.out}`,
    `seed      ${run.seed}`,
    ...describeParams(z.unknown(), run.params).map((line) => `param     ${line}`),
    ...Object.entries(run.values ?? {}).map(([name, v]) =>
      `value     ${name} = ${JSON.stringify(v)}`
    ),
    "",
    ...run.stages.map((stage) => {
      const time = stage.seconds === undefined ? "" : `  ${duration(stage.seconds)}`;
      const { progress } = stage;
      const part = stage.state === "running" && progress !== undefined
        ? `  ${progress.done}/${progress.total} ${progress.unit ?? ""}`.trimEnd()
        : "";
      const message = stage.message === undefined ? "" : `  ${stage.message.split("\n")[0]}`;
      return `${stage.id.padEnd(width)}  ${stage.state.padEnd(9)}${time}${part}${message}`
        .trimEnd();
    }),
  ];
  return lines.join("\n") + "\n";
}
