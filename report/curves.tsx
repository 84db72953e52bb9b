/** @jsxRuntime automatic */
/** @jsxImportSource hono/jsx */
// deno-lint-ignore-file jsx-key -- pages are written once on the server; nothing is reconciled
/**
 * Training curves as a section of a page: a grid of small charts a stage, with details of optimization
 * folded away. Used by the report and by the live status page.
 */
import { raw } from "hono/html";
import { panelChart } from "./charts.ts";
import type { Curve } from "./data.ts";
import { type Panel, panelsOf } from "./metrics.ts";

export interface CurvesProps {
  curves: readonly Curve[];
  /** Draws a panel; a live page passes one that remembers what it drew. */
  draw?: (panel: Panel) => string | undefined;
}

export function Curves({ curves, draw = panelChart }: CurvesProps) {
  const stages = [...new Set(curves.filter((c) => c.points.length > 0).map((c) => c.stage))];
  if (stages.length === 0) return null;
  return (
    <section aria-labelledby="training-curves">
      <h2 id="training-curves">Training curves</h2>
      {stages.map((stage) => {
        const panels = panelsOf(stage, curves);
        const details = panels.filter((p) => p.detail);
        return (
          <>
            <h3>{stage}</h3>
            <Grid panels={panels.filter((p) => !p.detail)} draw={draw} />
            {details.length > 0 && (
              <details data-key={`details of ${stage}`}>
                <summary>{details.map((p) => p.title).join(", ")}</summary>
                <Grid panels={details} draw={draw} />
              </details>
            )}
          </>
        );
      })}
    </section>
  );
}

function Grid(
  { panels, draw }: { panels: readonly Panel[]; draw: NonNullable<CurvesProps["draw"]> },
) {
  return (
    <div class="small-charts">
      {panels.map((panel) => <PanelFigure panel={panel} chart={draw(panel)} />)}
    </div>
  );
}

/** One panel with its legend and the last value of each curve in words. */
function PanelFigure({ panel, chart }: { panel: Panel; chart: string | undefined }) {
  const [only] = panel.series.length === 1 ? panel.series : [];
  return (
    <figure>
      <figcaption>
        {panel.title} {only !== undefined && <Last points={only.points} />}
      </figcaption>
      {only === undefined && (
        <ul class="legend">
          {panel.series.map(({ label, points }, i) => (
            <li>
              <i class={`series-${i + 1}`}></i>
              {label} <Last points={points} />
            </li>
          ))}
        </ul>
      )}
      {chart === undefined ? <p class="soft">No finite values.</p> : raw(chart)}
    </figure>
  );
}

function Last({ points }: { points: Curve["points"] }) {
  const last = points.at(-1)?.[1];
  if (typeof last !== "number") return null;
  return <span class="soft">{Number(last.toPrecision(3))}</span>;
}
