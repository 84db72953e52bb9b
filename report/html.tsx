/** @jsxRuntime automatic */
/** @jsxImportSource hono/jsx */
// deno-lint-ignore-file jsx-key -- pages are written once on the server; nothing is reconciled
/**
 * The report as one HTML file: no network, no other file, readable without scripts, printable, in the
 * reader's light or dark scheme. All text is escaped by JSX; as a second wall the page's own content
 * security policy allows only its one script, by hash.
 */
import { createHash } from "node:crypto";
import { raw } from "hono/html";
import {
  accuracyChart,
  beamChart,
  beamSeries,
  calibrationChart,
  duration,
  timingsChart,
} from "./charts.ts";
import { compareResults, type Comparison } from "./compare.ts";
import { decodingTitle, methodTitle, ordered, type ReportData } from "./data.ts";
import { wilson } from "./statistics.ts";
import { Curves } from "./curves.tsx";
import { Samples, tokenColours } from "./samples.tsx";
import style from "./style.css" with { type: "text" };
import samplesStyle from "./samples.css" with { type: "text" };
import client from "./client.js" with { type: "text" };

const clientHash = createHash("sha256").update(client).digest("base64");
const POLICY = [
  "default-src 'none'",
  "style-src 'unsafe-inline'",
  `script-src 'sha256-${clientHash}'`,
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

/** The whole page, `<!doctype html>` included; the same data give the same bytes. */
export function renderReport(data: ReportData): string {
  return "<!doctype html>\n" + (<Page data={data} />).toString() + "\n";
}

function Page({ data }: { data: ReportData }) {
  const title = `OREO report: ${data.workflow}`;
  return (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta http-equiv="Content-Security-Policy" content={POLICY} />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>{title}</title>
        <link rel="icon" href="data:," />
        <style>{raw(style + samplesStyle + tokenColours())}</style>
      </head>
      <body>
        <header class="page-header">
          <h1>{title}</h1>
          <RunFacts data={data} />
        </header>
        <main>
          <Results data={data} />
          <Groups data={data} />
          <BeamSection data={data} />
          <Curves curves={data.curves} />
          <Calibration data={data} />
          {data.samples.length > 0 && <Samples samples={data.samples} />}
          <Timings data={data} />
          <Settings data={data} />
        </main>
        {data.samples.length > 0 && <script type="module">{raw(client)}</script>}
      </body>
    </html>
  );
}

function RunFacts({ data: { run, notes } }: { data: ReportData }) {
  const facts = [
    run.id === undefined ? undefined : `run ${run.id}`,
    run.startedAt === undefined
      ? undefined
      : `started ${new Date(run.startedAt).toISOString().slice(0, 16).replace("T", " ")} UTC`,
    run.seconds === undefined ? undefined : `took ${duration(run.seconds)}`,
    run.seed === undefined ? undefined : `seed ${run.seed}`,
    run.codeVersion === undefined ? undefined : `code ${run.codeVersion}`,
  ].filter((fact) => fact !== undefined);
  return (
    <>
      {facts.length > 0 && <p class="soft">{facts.join(" · ")}</p>}
      {run.command !== undefined && (
        <p>
          <code>{run.command}</code>
        </p>
      )}
      {notes.map((note) => <p>{note}</p>)}
    </>
  );
}

const percent = (share: number) => (100 * share).toFixed(1);
/** Percentage points with a sign, the minus a true one. */
const points = (share: number) => `${share < 0 ? "\u2212" : "+"}${percent(Math.abs(share))}`;

function Results({ data }: { data: ReportData }) {
  const rows = ordered(data.methods);
  const chart = accuracyChart(data.methods);
  return (
    <section aria-labelledby="results">
      <h2 id="results">Results</h2>
      {rows.length === 0 && <p class="soft">No method was evaluated.</p>}
      {rows.length > 0 && (
        <div class="scroll" tabindex={0} role="group" aria-label="Table of results">
          <table>
            <thead>
              <tr>
                <th scope="col">Method</th>
                <th scope="col" class="number">Iteration</th>
                <th scope="col">Decoding</th>
                <th scope="col" class="number">Accuracy</th>
                <th scope="col" class="number">95 % interval</th>
                <th scope="col" class="number">n</th>
                <th scope="col">Difference in points, intervals</th>
              </tr>
            </thead>
            <tbody>
              {rows.map((row, i) => {
                const next = rows[i + 1];
                const { accuracy, low, high } = wilson(row.correct, row.n);
                const last = next !== undefined &&
                  (next.name !== row.name || next.iteration !== row.iteration);
                const difference = compareResults(row, data.methods);
                return (
                  <tr class={last ? "group" : undefined}>
                    <th scope="row">{methodTitle(row.name)}</th>
                    <td class="number">{row.iteration}</td>
                    <td class="nowrap">{decodingTitle(row)}</td>
                    <td class="number">
                      <b>{row.n === 0 ? "none" : `${percent(accuracy)} %`}</b>
                    </td>
                    <td class="number">{percent(low)} – {percent(high)}</td>
                    <td class="number">{row.n}</td>
                    <td class="nowrap">
                      {difference !== undefined && <Difference {...difference} />}
                    </td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      )}
      {chart !== undefined && (
        <figure>
          <figcaption>Accuracy with 95 % Wilson intervals</figcaption>
          {raw(chart)}
        </figure>
      )}
    </section>
  );
}

function Difference({ difference, against, apart }: Comparison) {
  const verdict = apart
    ? <b class={difference > 0 ? "good" : "bad"}>apart</b>
    : <span class="soft">overlapping</span>;
  return (
    <>
      {points(difference)} from {against}, {verdict}
    </>
  );
}

/** Accuracy by kind of query, a column a result. */
function Groups({ data }: { data: ReportData }) {
  const results = ordered(data.methods).filter(({ groups }) => groups !== undefined);
  const kinds = [...new Set(results.flatMap(({ groups }) => Object.keys(groups!)))].sort();
  if (kinds.length === 0) return null;
  return (
    <section aria-labelledby="groups">
      <h2 id="groups">Accuracy by type</h2>
      <div class="scroll" tabindex={0} role="group" aria-label="Table of accuracies by type">
        <table>
          <thead>
            <tr>
              <th scope="col">Type</th>
              {results.map((each) => (
                <th scope="col" class="number">
                  {methodTitle(each.name)} {each.iteration}, {decodingTitle(each)}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {kinds.map((kind) => (
              <tr>
                <th scope="row">{kind}</th>
                {results.map(({ groups }) => {
                  const counts = groups![kind];
                  return (
                    <td class="number">
                      {counts === undefined
                        ? "none"
                        : `${percent(counts.correct / counts.n)} % of ${counts.n}`}
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function BeamSection({ data }: { data: ReportData }) {
  const series = beamSeries(data.methods);
  const chart = beamChart(series);
  if (chart === undefined) return null;
  return (
    <section aria-labelledby="beam">
      <h2 id="beam">Value-guided beam search</h2>
      <figure>
        <figcaption>Accuracy over beam width B; the dashed rule is greedy decoding</figcaption>
        <ul class="legend">
          {series.map((s, i) => (
            <li>
              <i class={`series-${(i % 6) + 1}`}></i>
              {s.label}
            </li>
          ))}
        </ul>
        {raw(chart)}
      </figure>
    </section>
  );
}

function Calibration({ data }: { data: ReportData }) {
  const charts = data.calibration
    .map(({ stage, bins }) => ({ stage, chart: calibrationChart(bins) }))
    .filter((c) => c.chart !== undefined);
  if (charts.length === 0) return null;
  return (
    <section aria-labelledby="calibration">
      <h2 id="calibration">Calibration of V</h2>
      <p>
        Of the states whose V fell into a bin, the share whose solution ended in success. On the
        dashed diagonal V is exactly the chance of success.
      </p>
      <div class="small-charts">
        {charts.map(({ stage, chart }) => (
          <figure>
            <figcaption>{stage}</figcaption>
            {raw(chart!)}
          </figure>
        ))}
      </div>
    </section>
  );
}

function Timings({ data }: { data: ReportData }) {
  const chart = timingsChart(data.timings);
  if (chart === undefined) return null;
  const total = data.timings.reduce((sum, t) => sum + t.seconds, 0);
  return (
    <section aria-labelledby="timings">
      <h2 id="timings">Timings</h2>
      <figure>
        <figcaption>Seconds in each stage, {duration(total)} in all</figcaption>
        {raw(chart)}
      </figure>
    </section>
  );
}

function Settings({ data }: { data: ReportData }) {
  const entries = flatten(data.settings);
  if (entries.length === 0) return null;
  return (
    <section aria-labelledby="settings">
      <h2 id="settings">Settings</h2>
      <div class="scroll" tabindex={0} role="group" aria-label="Table of settings">
        <table>
          <tbody>
            {entries.map(([path, value]) => (
              <tr>
                <th scope="row" class="mono">{path}</th>
                <td class="mono">{value}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** Nested settings as dotted paths, as `--set` takes them; arrays stay whole. */
function flatten(value: unknown, path = ""): [path: string, value: string][] {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    const entries = Object.entries(value);
    if (entries.length > 0 || path === "") {
      return entries.flatMap(([key, v]) => flatten(v, path === "" ? key : `${path}.${key}`));
    }
  }
  return [[path, typeof value === "string" ? value : JSON.stringify(value)]];
}
