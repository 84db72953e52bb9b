/** The journal's runs in Prometheus' text exposition format, version 0.0.4. */
import type { RunState, RunSummary, StageState } from "../pipeline/mod.ts";
import { runSeconds } from "./describe.ts";

const RUN_STATES: RunState[] = ["running", "interrupted", "done", "failed", "cancelled"];

/** Runs and stages by workflow and state, and, for each workflow, its latest run's time and seconds. */
export function prometheus(runs: readonly RunSummary[], now: number): string {
  const workflows = [...new Set(runs.map((run) => run.workflow))].sort();
  const of = (workflow: string) => runs.filter((run) => run.workflow === workflow);
  const lines: string[] = [];
  const gauge = (name: string, help: string, samples: [Record<string, string>, number][]) => {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} gauge`);
    for (const [labels, value] of samples) {
      const pairs = Object.entries(labels).map(([k, v]) => `${k}="${escaped(v)}"`);
      lines.push(`${name}{${pairs.join(",")}} ${value}`);
    }
  };
  gauge(
    "oreo_runs",
    "Runs in the journal by state.",
    workflows.flatMap((workflow) =>
      RUN_STATES.map((state): [Record<string, string>, number] => [
        { workflow, state },
        of(workflow).filter((run) => run.state === state).length,
      ])
    ),
  );
  gauge(
    "oreo_latest_run_stages",
    "Stages of each workflow's latest run by state.",
    workflows.flatMap((workflow) =>
      (Object.entries(of(workflow)[0]!.counts) as [StageState, number][]).map((
        [state, count],
      ): [Record<string, string>, number] => [{ workflow, state }, count])
    ),
  );
  gauge(
    "oreo_latest_run_seconds",
    "Seconds that each workflow's latest run took or has run.",
    workflows.map((workflow) => [{ workflow }, runSeconds(of(workflow)[0]!, now)]),
  );
  gauge(
    "oreo_latest_run_started_timestamp_seconds",
    "When each workflow's latest run started.",
    workflows.map((workflow) => [{ workflow }, of(workflow)[0]!.started / 1000]),
  );
  return lines.join("\n") + "\n";
}

const escaped = (label: string) =>
  label.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
