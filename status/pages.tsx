/** @jsxRuntime automatic */
/** @jsxImportSource hono/jsx */
// deno-lint-ignore-file jsx-key -- pages are written once on the server; nothing is reconciled
/**
 * The pages for people. All are whole without scripts; `client.js` only fetches the page again when
 * the run has moved and swaps the parts marked `data-live`, so there is one renderer.
 */
import type { Child, PropsWithChildren } from "hono/jsx";
import type { RunDetail, RunSummary, StageRecord } from "../pipeline/mod.ts";
import { Curves, type CurvesProps, duration } from "../report/mod.ts";
import {
  runPath,
  runSeconds,
  shownValue,
  stagePath,
  stageSeconds,
  stateMark,
  utc,
} from "./describe.ts";
import { StageGraph } from "./graph.tsx";
import type { LogLine } from "./logs.ts";
import { reportPath } from "./report_files.ts";

interface PageProps {
  title: string;
  /** Address of the run's event stream; without it the page looks for news every few seconds. */
  events?: string;
  /** Nothing more will happen: the page need not look for news. */
  still?: boolean;
}

function Page({ title, events, still, children }: PropsWithChildren<PageProps>) {
  return (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>{title}</title>
        <link rel="icon" href="data:," />
        <link rel="stylesheet" href="/static/style.css" />
        {!still && <script type="module" src="/static/client.js"></script>}
      </head>
      <body data-events={events}>{children}</body>
    </html>
  );
}

/** The page as text, `<!doctype html>` included. */
const whole = (page: Child): string => "<!doctype html>\n" + String(page) + "\n";

function State({ state }: { state: RunSummary["state"] | StageRecord["state"] }) {
  return (
    <span class={`state state-${state}`}>
      <span aria-hidden="true">{stateMark(state)}</span> {state}
    </span>
  );
}

function Time({ at }: { at: number }) {
  return <time datetime={new Date(at).toISOString()}>{utc(at)}</time>;
}

export function runsPage(runs: readonly RunSummary[], now: number): string {
  return whole(
    <Page title="Runs · OREO pipeline">
      <header class="page-header">
        <h1>Runs</h1>
      </header>
      <main id="runs" data-live>
        {runs.length === 0
          ? (
            <p>
              The journal has no runs yet. Start one with{" "}
              <code>deno task pipeline</code>; it appears here by itself.
            </p>
          )
          : (
            <div class="scroll" tabindex={0} role="group" aria-label="Table of runs">
              <table>
                <thead>
                  <tr>
                    <th scope="col">Run</th>
                    <th scope="col">Workflow</th>
                    <th scope="col">State</th>
                    <th scope="col">Stages</th>
                    <th scope="col">Started (UTC)</th>
                    <th scope="col" class="number">Took</th>
                  </tr>
                </thead>
                <tbody>{runs.map((run) => <RunRow run={run} now={now} />)}</tbody>
              </table>
            </div>
          )}
      </main>
    </Page>,
  );
}

function RunRow({ run, now }: { run: RunSummary; now: number }) {
  const { counts } = run;
  const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
  const finished = counts.done + counts.cached + counts.skipped;
  return (
    <tr>
      <th scope="row">
        <a href={runPath(run.id)}>{run.id}</a>
      </th>
      <td>{run.workflow}</td>
      <td class="nowrap">
        <State state={run.state} />
      </td>
      <td class="nowrap">
        <progress value={finished} max={Math.max(1, total)} aria-label="stages finished"></progress>
        {" "}
        {finished} of {total}
      </td>
      <td class="nowrap">
        <Time at={run.started} />
      </td>
      <td class="number">{duration(runSeconds(run, now))}</td>
    </tr>
  );
}

export interface RunPageData {
  run: RunDetail;
  curves: CurvesProps;
  logs: readonly LogLine[];
  report: boolean;
  now: number;
}

const eventsPath = (run: RunDetail) =>
  `/api${runPath(run.id)}/events?${new URLSearchParams({ after: String(run.lastSeq) })}`;

/** A run that is not done can move again; a done one never does. */
const isStill = (run: RunDetail) => run.state === "done";

export function runPage({ run, curves, logs, report, now }: RunPageData): string {
  return whole(
    <Page
      title={`${run.workflow} ${run.state} · ${run.id}`}
      events={eventsPath(run)}
      still={isStill(run)}
    >
      <header class="page-header">
        <p class="crumbs">
          <a href="/">Runs</a>
        </p>
        <h1>{run.workflow}</h1>
        <div id="facts" data-live>
          <p class="facts">
            <State state={run.state} />
            <span>{duration(runSeconds(run, now))}</span>
            <span>
              started <Time at={run.started} /> UTC
            </span>
            <span>seed {run.seed}</span>
            <span class="mono">{run.id}</span>
          </p>
          {run.message !== undefined && <p class="problem">{run.message}</p>}
          {run.state === "interrupted" && (
            <p>
              Nothing drives this run any more. The same command goes on where it stopped.
            </p>
          )}
          {report && (
            <p>
              <a class="button" href={reportPath(run.id)}>Open the report</a>
            </p>
          )}
        </div>
      </header>
      <main>
        <section aria-label="Graph" id="graph" class="scroll" tabindex={0} data-live>
          <StageGraph run={run.id} stages={run.stages} now={now} />
        </section>
        <section aria-labelledby="stages-title">
          <h2 id="stages-title">Stages</h2>
          <div
            class="scroll"
            id="stages"
            data-live
            tabindex={0}
            role="group"
            aria-label="Table of stages"
          >
            <table>
              <thead>
                <tr>
                  <th scope="col">Stage</th>
                  <th scope="col">State</th>
                  <th scope="col" class="number">Took</th>
                  <th scope="col">Progress and results</th>
                </tr>
              </thead>
              <tbody>
                {run.stages.map((stage) => <StageRow run={run.id} stage={stage} now={now} />)}
              </tbody>
            </table>
          </div>
        </section>
        <div id="curves" data-live>
          <Curves {...curves} />
        </div>
        <Logs logs={logs} withStage />
        <Values title="Results" values={run.values} />
        <Values title="Parameters" values={run.params} />
      </main>
    </Page>,
  );
}

function StageRow({ run, stage, now }: { run: string; stage: StageRecord; now: number }) {
  const seconds = stageSeconds(stage, now);
  return (
    <tr>
      <th scope="row">
        <a href={stagePath(run, stage.id)}>{stage.id}</a>
        {stage.stage !== stage.id && <span class="soft kind">{stage.stage}</span>}
      </th>
      <td class="nowrap">
        <State state={stage.state} />
        {stage.attempt > 1 && <span class="soft">, attempt {stage.attempt}</span>}
      </td>
      <td class="number">{seconds === undefined ? "" : duration(seconds)}</td>
      <td>
        <StageNews stage={stage} />
      </td>
    </tr>
  );
}

/** What there is to say of a stage in one cell: why it failed, how far it is, what it found. */
function StageNews({ stage }: { stage: StageRecord }) {
  if (stage.message !== undefined) {
    return <span class={stage.state === "failed" ? "problem" : "soft"}>{stage.message}</span>;
  }
  if (stage.state === "running") {
    const { progress, lastMetric } = stage;
    return (
      <>
        {progress !== undefined && (
          <>
            <progress value={progress.done} max={Math.max(1, progress.total)}></progress>{" "}
            {progress.done} of {progress.total} {progress.unit}
            {" "}
          </>
        )}
        {lastMetric !== undefined && (
          <span class="soft">
            {Object.entries(lastMetric.values).map(([k, v]) => `${k} ${shownValue(v)}`).join(", ")}
          </span>
        )}
      </>
    );
  }
  const values = Object.entries(stage.values ?? {}).filter(([, v]) => typeof v !== "object");
  return <>{values.map(([k, v]) => `${k} ${shownValue(v)}`).join(", ")}</>;
}

function Logs({ logs, withStage }: { logs: readonly LogLine[]; withStage?: boolean }) {
  return (
    <section aria-labelledby="logs-title">
      <h2 id="logs-title">Log</h2>
      <div class="log mono" id="log" data-live tabindex={0} role="log" aria-label="Stage logs">
        {logs.length === 0 && <p class="soft">Nothing was logged yet.</p>}
        {logs.map((line) => (
          <div class={`line level-${line.level}`}>
            <time class="soft" datetime={new Date(line.time).toISOString()}>
              {utc(line.time).slice(11)}
            </time>{" "}
            {withStage && <b>{line.stage}</b>}{" "}
            {line.level === "error" || line.level === "warn" ? `${line.level}: ` : ""}
            {line.text}
          </div>
        ))}
      </div>
    </section>
  );
}

function Values({ title, values }: { title: string; values: Record<string, unknown> | undefined }) {
  const entries = Object.entries(values ?? {});
  if (entries.length === 0) return null;
  return (
    <section>
      <h2>{title}</h2>
      <div class="scroll" tabindex={0} role="group" aria-label={`Table of ${title.toLowerCase()}`}>
        <table>
          <tbody>
            {entries.map(([name, value]) => (
              <tr>
                <th scope="row" class="mono">{name}</th>
                <td class="mono">{shownValue(value)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

export interface StagePageData {
  run: RunDetail;
  stage: StageRecord;
  curves: CurvesProps;
  logs: readonly LogLine[];
  now: number;
}

export function stagePage({ run, stage, curves, logs, now }: StagePageData): string {
  const seconds = stageSeconds(stage, now);
  return whole(
    <Page
      title={`${stage.id} ${stage.state} · ${run.id}`}
      events={eventsPath(run)}
      still={isStill(run)}
    >
      <header class="page-header">
        <p class="crumbs">
          <a href="/">Runs</a> / <a href={runPath(run.id)}>{run.id}</a>
        </p>
        <h1>{stage.id}</h1>
        <div id="facts" data-live>
          <p class="facts">
            <State state={stage.state} />
            {seconds !== undefined && <span>{duration(seconds)}</span>}
            <span>stage {stage.stage}</span>
            {stage.attempt > 0 && <span>attempt {stage.attempt}</span>}
            {stage.started !== undefined && (
              <span>
                started <Time at={stage.started} /> UTC
              </span>
            )}
          </p>
          <p>
            <StageNews stage={stage} />
          </p>
          {stage.inputs.length > 0 && (
            <p>
              After {stage.inputs.map((input, i) => (
                <>
                  {i > 0 && ", "}
                  <a href={stagePath(run.id, input)}>{input}</a>
                </>
              ))}.
            </p>
          )}
        </div>
      </header>
      <main>
        <div id="curves" data-live>
          <Curves {...curves} />
        </div>
        <Logs logs={logs} />
        <Values title="Results" values={stage.values} />
        <Values title="Artifacts" values={stage.artifacts} />
        <Values title="Parameters" values={stage.params} />
        {stage.key !== undefined && (
          <p class="soft">
            Key <code>{stage.key}</code>
          </p>
        )}
      </main>
    </Page>,
  );
}

/** What went wrong, for a person; the same words as the API's error. */
export function errorPage(status: number, message: string): string {
  return whole(
    <Page title={`${status} · OREO pipeline`} still>
      <header class="page-header">
        <p class="crumbs">
          <a href="/">Runs</a>
        </p>
        <h1>{status === 404 ? "Not found" : "This did not work"}</h1>
      </header>
      <main>
        <p>{message}</p>
      </main>
    </Page>,
  );
}
