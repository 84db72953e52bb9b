/**
 * Metric points of a run as curves, and their charts. Drawing costs milliseconds and a page is drawn
 * again whenever the run moves, so a chart is kept until its curves have changed.
 */
import type { MetricPoint } from "../pipeline/mod.ts";
import { type Curve, type Panel, panelChart } from "../report/mod.ts";

/** One curve for each stage and metric, in the order of `stages`. */
export function curvesOf(points: readonly MetricPoint[], stages: readonly string[]): Curve[] {
  const curves = new Map<string, Curve>();
  for (const { stage, step, values } of points) {
    for (const [metric, value] of Object.entries(values)) {
      const key = JSON.stringify([stage, metric]);
      let curve = curves.get(key);
      if (curve === undefined) curves.set(key, curve = { stage, metric, points: [] });
      curve.points.push([step, value]);
    }
  }
  // A killed stage goes on at an earlier step, so points are not always in the order of steps.
  for (const curve of curves.values()) curve.points.sort((a, b) => a[0] - b[0]);
  return stages.flatMap((stage) => [...curves.values()].filter((curve) => curve.stage === stage));
}

/** Charts kept at once; the least recently drawn are dropped. */
const KEPT = 300;

/** Draws panels, each one again only when it has changed. One for each server. */
export class ChartCache {
  #kept = new Map<string, { fingerprint: string; svg: string | undefined }>();

  /** The SVG of the panel, or undefined where it has no finite point. */
  draw(run: string, panel: Panel): string | undefined {
    const key = JSON.stringify([run, panel.stage, panel.title]);
    const fingerprint = panel.series.map(({ label, points }) => {
      const sum = points.reduce((sum, [step, value]) => sum + 31 * step + (value ?? 0.5), 0);
      return `${label} ${points.length} ${sum}`;
    }).join("\n");
    const kept = this.#kept.get(key);
    this.#kept.delete(key);
    const svg = kept?.fingerprint === fingerprint ? kept.svg : panelChart(panel);
    this.#kept.set(key, { fingerprint, svg });
    if (this.#kept.size > KEPT) this.#kept.delete(this.#kept.keys().next().value!);
    return svg;
  }
}
