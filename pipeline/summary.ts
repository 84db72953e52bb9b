/**
 * What a run's events add up to: the state of the run and of each of its stages. Pure functions from
 * (summary, event) to summary, so that a summary kept beside the events can always be made again
 * from them.
 */
import type { Event, GraphRecord, Values } from "./events.ts";

/** `interrupted`: the run has not ended, yet nothing drives it any more. It can be resumed. */
export type RunState = "running" | "interrupted" | "done" | "failed" | "cancelled";

export type StageState =
  | "waiting"
  | "running"
  | "done"
  | "cached"
  | "failed"
  | "skipped"
  | "cancelled";

export interface RunRecord {
  id: string;
  workflow: string;
  state: RunState;
  params: Values;
  seed: number;
  /** The one node that the run is for, where it is not for the whole workflow. */
  only?: string;
  out: string;
  /** Milliseconds since 1970. */
  started: number;
  updated: number;
  ended?: number;
  /** Wall-clock seconds of the runner that finished the run. */
  seconds?: number;
  values?: Values;
  /** Why the run failed or was cancelled. */
  message?: string;
  /** What its stages have used in all, as last told. */
  gpuSeconds?: number;
  lastSeq: number;
}

export interface StageRecord {
  /** The node's name in the graph; `stage` is the kind of work it does. */
  id: string;
  stage: string;
  inputs: string[];
  params: Values;
  state: StageState;
  /** How often it was started in this run. */
  attempt: number;
  started?: number;
  ended?: number;
  seconds?: number;
  progress?: { done: number; total: number; unit?: string; time: number };
  lastMetric?: { step: number; values: Record<string, number | null> };
  key?: string;
  artifacts?: Record<string, string>;
  values?: Values;
  message?: string;
}

/** The run as it stands after `event`. The first event of a run must be `run.started`. */
export function reduceRun(run: RunRecord | undefined, event: Event): RunRecord {
  if (run === undefined) {
    if (event.type !== "run.started") {
      throw new Error(`run ${event.run} begins with ${event.type}; expected run.started`);
    }
    return {
      id: event.run,
      workflow: event.workflow,
      state: "running",
      params: event.params,
      seed: event.seed,
      ...(event.only === undefined ? {} : { only: event.only }),
      out: event.out,
      started: event.time,
      updated: event.time,
      lastSeq: event.seq,
    };
  }
  const next: RunRecord = { ...run, updated: event.time, lastSeq: event.seq };
  switch (event.type) {
    case "run.resumed":
      delete next.ended;
      delete next.message;
      delete next.seconds;
      delete next.values;
      next.state = "running";
      next.out = event.out;
      break;
    case "run.heartbeat":
      if (event.gpuSeconds !== undefined) next.gpuSeconds = event.gpuSeconds;
      break;
    case "run.done":
      next.state = "done";
      next.ended = event.time;
      next.seconds = event.seconds;
      next.values = event.values;
      break;
    case "run.failed":
      next.state = "failed";
      next.ended = event.time;
      next.message = event.message;
      break;
    case "run.cancelled":
      next.state = "cancelled";
      next.ended = event.time;
      if (event.message !== undefined) next.message = event.message;
      break;
  }
  return next;
}

/** The rows of a run that starts or is resumed with `graph`: finished stages keep what they have. */
export function stagesOf(graph: GraphRecord, before: Map<string, StageRecord>): StageRecord[] {
  return graph.nodes.map((node) => {
    const { id, stage, inputs, params } = node;
    const known = before.get(id);
    if (known?.state === "done" || known?.state === "cached") {
      return { ...known, stage, inputs, params };
    }
    return { id, stage, inputs, params, state: "waiting", attempt: known?.attempt ?? 0 };
  });
}

/** The stage as it stands after an event that names it. */
export function reduceStage(stage: StageRecord, event: Event): StageRecord {
  switch (event.type) {
    case "stage.started": {
      const { id, stage: name, inputs, params } = stage;
      const fresh: StageRecord = { id, stage: name, inputs, params, state: "running", attempt: 0 };
      return { ...fresh, attempt: event.attempt, started: event.time, key: event.key };
    }
    case "stage.cached":
      return {
        ...withoutMessage(stage),
        // A stage that this run itself finished before it was resumed keeps its duration.
        ...(stage.state === "done" && stage.key === event.key
          ? {}
          : { state: "cached", ended: event.time }),
        key: event.key,
        artifacts: event.artifacts,
        values: event.values,
      };
    case "stage.progress": {
      const { done, total, unit, time } = event;
      return {
        ...stage,
        progress: unit === undefined ? { done, total, time } : { done, total, unit, time },
      };
    }
    case "stage.metric":
      return { ...stage, lastMetric: { step: event.step, values: event.values } };
    case "stage.done":
      return {
        ...withoutMessage(stage),
        state: "done",
        ended: event.time,
        seconds: event.seconds,
        key: event.key,
        artifacts: event.artifacts,
        values: event.values,
      };
    case "stage.failed":
      return { ...stage, state: "failed", ended: event.time, message: event.message };
    case "stage.skipped":
      return { ...stage, state: "skipped", ended: event.time, message: event.reason };
    default:
      return stage;
  }
}

/** What becomes of a stage that has not finished when its run ends. */
export function stageAtEnd(stage: StageRecord, event: Event): StageRecord {
  if (event.type === "run.done" || stage.state !== "running") return stage;
  return { ...stage, state: "cancelled", ended: event.time };
}

function withoutMessage(stage: StageRecord): StageRecord {
  const { message: _, ...rest } = stage;
  return rest;
}
