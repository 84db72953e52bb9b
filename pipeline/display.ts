/**
 * Shows how a run goes: a live view of its stages on a terminal, plain lines elsewhere, the events
 * themselves for machines.
 */
import { type Event, EVENT_VERSION, type EventBody, type Values } from "./events.ts";
import { longest } from "./graph.ts";
import { reduceStage, type StageRecord, stagesOf } from "./summary.ts";

export interface Display {
  onEvent(event: EventBody, run: string): void;
  /** Says something to the person who watches, a line. */
  note(text: string): void;
  /** Leaves the screen as it should stay. */
  close(): void;
}

export interface DisplayOptions {
  /** Where text goes; a whole number of lines, or control sequences on a terminal. */
  readonly write: (text: string) => void;
  /** Milliseconds; replaceable for tests. */
  readonly now?: () => number;
}

/** A stage's line in plain progress is repeated at most so often. */
const PLAIN_INTERVAL_MS = 10_000;
const FRAME_MS = 100;

/** The stages of a run in memory, with what is needed to tell rates. */
class Progress {
  readonly stages = new Map<string, StageRecord>();
  readonly #first = new Map<string, { done: number; time: number }>();
  #seq = 0;

  apply(body: EventBody, run: string, time: number): void {
    const event: Event = { ...body, v: EVENT_VERSION, run, seq: ++this.#seq, time };
    if (event.type === "run.started" || event.type === "run.resumed") {
      for (const stage of stagesOf(event.graph, this.stages)) this.stages.set(stage.id, stage);
    } else if ("stage" in event) {
      const stage = this.stages.get(event.stage);
      if (event.type === "stage.progress") {
        // An attempt has none before; a stage of several parts counts each from its start.
        const before = stage?.progress;
        if (before === undefined || event.done < before.done || event.total !== before.total) {
          this.#first.set(event.stage, { done: event.done, time });
        }
      }
      if (stage !== undefined) this.stages.set(stage.id, reduceStage(stage, event));
    }
  }

  /** `120/400 steps, 3.2/s, 1:27 left`; empty before the first report. */
  text(stage: StageRecord): string {
    const progress = stage.progress;
    if (progress === undefined) return "";
    const { done, total, unit, time } = progress;
    const parts = [`${round(done)}/${round(total)}${unit === undefined ? "" : ` ${unit}`}`];
    const first = this.#first.get(stage.id);
    const seconds = first === undefined ? 0 : (time - first.time) / 1000;
    if (first !== undefined && seconds > 0 && done > first.done) {
      const rate = (done - first.done) / seconds;
      parts.push(`${rate >= 10 ? Math.round(rate) : rate.toPrecision(2)}/s`);
      if (done < total) parts.push(`${clock((total - done) / rate)} left`);
    }
    return parts.join(", ");
  }
}

/** Every event as a JSON line. */
export function jsonDisplay(options: DisplayOptions): Display {
  return {
    onEvent: (event, run) => options.write(JSON.stringify({ run, ...event }) + "\n"),
    note: () => {},
    close: () => {},
  };
}

/** A line for each thing worth knowing. */
export function plainDisplay(options: DisplayOptions): Display {
  const now = options.now ?? Date.now;
  const progress = new Progress();
  const told = new Map<string, number>();
  const began = now();
  const say = (text: string) => options.write(`[${clock((now() - began) / 1000)}] ${text}\n`);
  return {
    onEvent(event, run) {
      const time = now();
      progress.apply(event, run, time);
      const line = lineOf(event, run, progress, () => {
        if (!("stage" in event) || time - (told.get(event.stage) ?? began) < PLAIN_INTERVAL_MS) {
          return false;
        }
        told.set(event.stage, time);
        return true;
      });
      if (line !== undefined) say(line);
    },
    note: say,
    close: () => {},
  };
}

function lineOf(
  event: EventBody,
  run: string,
  progress: Progress,
  isDue: () => boolean,
): string | undefined {
  switch (event.type) {
    case "run.started":
      return `run ${run}: ${event.graph.nodes.length} stages`;
    case "run.resumed":
      return `run ${run} goes on: ${event.graph.nodes.length} stages`;
    case "run.done":
      return `run ${run} is done in ${duration(event.seconds)}${valuesText(event.values)}`;
    case "run.failed":
    case "run.cancelled":
      return `run ${run}: ${event.message ?? "cancelled"}`;
    case "stage.started":
      return `${event.stage}: started${event.attempt > 1 ? `, attempt ${event.attempt}` : ""}`;
    case "stage.cached":
      return `${event.stage}: in the store${valuesText(event.values)}`;
    case "stage.progress": {
      const stage = progress.stages.get(event.stage);
      return stage !== undefined && isDue()
        ? `${event.stage}: ${progress.text(stage)}${metricText(stage)}`
        : undefined;
    }
    case "stage.log":
      return event.level === "debug" ? undefined : `${event.stage} | ${event.text}`;
    case "stage.done":
      return `${event.stage}: done in ${duration(event.seconds)}${valuesText(event.values)}`;
    case "stage.failed":
      return `${event.stage}: failed: ${event.message}`;
    case "stage.skipped":
      return `${event.stage}: skipped: ${event.reason}`;
    case "stage.metric":
    case "run.heartbeat":
      return undefined;
    default:
      return event satisfies never;
  }
}

export interface TerminalOptions extends DisplayOptions {
  readonly size: () => { columns: number; rows: number };
  /** Calls back at each frame until the returned function is called. */
  readonly everyFrame?: (draw: () => void, milliseconds: number) => () => void;
}

/** A view of the stages that is redrawn in place, with log lines passing above it. */
export function terminalDisplay(options: TerminalOptions): Display {
  const now = options.now ?? Date.now;
  const progress = new Progress();
  const began = now();
  let title = "";
  let drawn = 0;
  let above: string[] = [];
  let changed = false;

  const draw = () => {
    const { columns, rows } = options.size();
    const lines = [...above, ...viewLines(progress, title, now(), began, rows - 1)]
      .map((line) => cut(line, columns));
    // Up over the last view, each line cleared to its end as it is written anew.
    const up = drawn === 0 ? "" : `\x1b[${drawn}A\r`;
    options.write(up + lines.map((line) => `${line}\x1b[K\n`).join("") + "\x1b[J");
    drawn = lines.length - above.length;
    above = [];
    changed = false;
  };
  const everyFrame = options.everyFrame ?? ((frame, milliseconds) => {
    const timer = setInterval(frame, milliseconds);
    return () => clearInterval(timer);
  });
  let frames = 0;
  const stop = everyFrame(() => {
    // The clock of running stages ticks even when nothing is said.
    if (changed || ++frames % 10 === 0) draw();
  }, FRAME_MS);
  return {
    onEvent(event, run) {
      progress.apply(event, run, now());
      if (event.type === "run.started" || event.type === "run.resumed") title = run;
      if (event.type === "stage.log" || event.type === "stage.failed") {
        const line = lineOf(event, run, progress, () => false);
        if (line !== undefined) above.push(...line.split("\n"));
      }
      changed = true;
    },
    note(text) {
      above.push(text);
      changed = true;
    },
    close() {
      stop();
      draw();
    },
  };
}

function viewLines(
  progress: Progress,
  title: string,
  now: number,
  began: number,
  height: number,
): string[] {
  const stages = [...progress.stages.values()];
  const finished = stages.filter((s) => ["done", "cached", "skipped"].includes(s.state)).length;
  const head = `${title}  ${finished}/${stages.length} stages  ${clock((now - began) / 1000)}`;
  const room = Math.max(1, height - 2);
  const width = longest(stages.map((stage) => stage.id));
  const line = (stage: StageRecord) => viewLine(stage, progress, now, width);
  if (stages.length <= room) return [head, ...stages.map(line)];
  const active = stages.filter((stage) => stage.state === "running" || stage.state === "failed");
  const recent = stages.filter((s) => s.ended !== undefined && s.state !== "failed")
    .sort((a, b) => a.ended! - b.ended!);
  const shown = new Set([...recent.slice(active.length - room), ...active].slice(-room));
  return [head, ...stages.filter((stage) => shown.has(stage)).map(line)];
}

const MARKS = {
  waiting: "·",
  running: "▸",
  done: "✓",
  cached: "=",
  failed: "✗",
  skipped: "-",
  cancelled: "✗",
} as const;

function viewLine(stage: StageRecord, progress: Progress, now: number, width: number): string {
  const name = `${MARKS[stage.state]} ${stage.id.padEnd(width)}`;
  switch (stage.state) {
    case "running": {
      const time = clock((now - (stage.started ?? now)) / 1000);
      return `${name}  ${time}  ${bar(stage)}${progress.text(stage)}${metricText(stage)}`.trimEnd();
    }
    case "done":
      return `${name}  ${duration(stage.seconds ?? 0)}${valuesText(stage.values ?? {})}`;
    case "cached":
      return `${name}  in the store${valuesText(stage.values ?? {})}`;
    case "failed":
    case "skipped":
      return `${name}  ${stage.state}: ${(stage.message ?? "").split("\n")[0]}`;
    case "waiting":
    case "cancelled":
      return name;
    default:
      return stage.state satisfies never;
  }
}

function bar(stage: StageRecord): string {
  if (stage.progress === undefined || stage.progress.total <= 0) return "";
  const part = Math.min(1, Math.max(0, stage.progress.done / stage.progress.total));
  const full = Math.round(part * 12);
  return `${"█".repeat(full)}${"░".repeat(12 - full)} `;
}

/** The small results that fit on a line: numbers and short texts. */
function valuesText(values: Values): string {
  const shown = Object.entries(values).flatMap(([name, value]) => {
    if (typeof value === "number") return [`${name} ${round(value)}`];
    if (typeof value === "string" && value.length <= 20) return [`${name} ${value}`];
    return [];
  }).slice(0, 6);
  return shown.length === 0 ? "" : `  (${shown.join(", ")})`;
}

function metricText(stage: StageRecord): string {
  if (stage.lastMetric === undefined) return "";
  const shown = Object.entries(stage.lastMetric.values).slice(0, 3)
    .map(([name, value]) => `${name} ${value === null ? "-" : round(value)}`);
  return shown.length === 0 ? "" : `  ${shown.join(" ")}`;
}

function cut(line: string, columns: number): string {
  const chars = [...line];
  return chars.length <= columns ? line : `${chars.slice(0, columns - 1).join("")}…`;
}

function round(value: number): string {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}

/** `1:05`, `2:03:04`. */
export function clock(seconds: number): string {
  const total = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  const two = (n: number) => String(n).padStart(2, "0");
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** `0.4 s`, `12 s`, `3:20`. */
export function duration(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  return seconds < 60 ? `${Math.round(seconds)} s` : clock(seconds);
}
