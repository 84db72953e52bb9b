/** How runs and stages are told to people: marks, times, addresses. */
import type { RunState, RunSummary, StageRecord, StageState } from "../pipeline/mod.ts";

/** A sign for a state, so that colour is never the only carrier. */
export function stateMark(state: StageState | RunState): string {
  switch (state) {
    case "done":
      return "✓";
    case "cached":
      return "↺";
    case "running":
      return "▶";
    case "waiting":
      return "·";
    case "failed":
      return "✗";
    case "skipped":
      return "–";
    case "cancelled":
      return "■";
    case "interrupted":
      return "‖";
    default:
      return state satisfies never;
  }
}

/** How long the stage took, or has run up to `now`; undefined where it has not started. */
export function stageSeconds(stage: StageRecord, now: number): number | undefined {
  if (stage.seconds !== undefined) return stage.seconds;
  if (stage.started === undefined || stage.state === "waiting") return undefined;
  const until = stage.state === "running" ? now : stage.ended;
  return until === undefined ? undefined : Math.max(0, (until - stage.started) / 1000);
}

/**
 * How long the run took or has run. A done one says it itself, without the time it lay still before it
 * was resumed; an interrupted one is counted up to its last sign of life.
 */
export function runSeconds(
  run: Pick<RunSummary, "state" | "started" | "ended" | "updated" | "heartbeat" | "seconds">,
  now: number,
): number {
  if (run.seconds !== undefined) return run.seconds;
  const last = run.ended ?? Math.max(run.updated, run.heartbeat ?? 0);
  return Math.max(0, ((run.state === "running" ? now : last) - run.started) / 1000);
}

/** `2026-01-02 03:04:05` in UTC. */
export const utc = (milliseconds: number): string =>
  new Date(milliseconds).toISOString().slice(0, 19).replace("T", " ");

export const runPath = (run: string): string => `/runs/${encodeURIComponent(run)}`;
export const stagePath = (run: string, stage: string): string =>
  `${runPath(run)}/stages/${encodeURIComponent(stage)}`;

/** A small result as people read it: few digits, JSON for what is not a scalar. */
export function shownValue(value: unknown): string {
  if (typeof value === "number") return String(Number(value.toPrecision(4)));
  return typeof value === "string" ? value : JSON.stringify(value);
}
