/**
 * The charts of the report and of the status page, drawn on the server as inline SVG by Observable
 * Plot over a light DOM. Colours are CSS variables (`--series-1` … `--series-6`, `currentColor`), so
 * one drawing serves light and dark; no styles are inlined, so a page may forbid inline styles
 * (`style.css` of this room carries what Plot's own style element would).
 *
 * Every function returns a complete `<svg>` as a string, with all text escaped, or undefined where
 * there is nothing to draw.
 */
import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import { decodingTitle, type MethodResult, methodTitle, ordered } from "./data.ts";
import type { CalibrationBin, Decoding } from "./data.ts";
import type { Panel } from "./metrics.ts";
import { wilson } from "./statistics.ts";

type PlotDocument = NonNullable<Plot.PlotOptions["document"]>;
const { document } = parseHTML("<!doctype html><html><body></body></html>") as unknown as {
  document: PlotDocument;
};

const WIDTH = 960;
/** Colours of style.css; more series than colours share them again. */
const SERIES_COLOURS = 6;
export const seriesColour = (i: number): string => `var(--series-${(i % SERIES_COLOURS) + 1})`;

/** Draws with Plot and returns the SVG with its description, free of inline styles. */
function draw(description: string, options: Plot.PlotOptions): string {
  const svg = Plot.plot({
    document,
    width: WIDTH,
    marginBottom: 42,
    ...options,
    style: { fontSize: "12px" },
  }) as unknown as SvgElement;
  svg.querySelector("style")?.remove();
  svg.removeAttribute("style");
  svg.setAttribute("font-size", "12");
  svg.setAttribute("class", (options.width ?? WIDTH) === WIDTH ? "plot wide" : "plot");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", description);
  return svg.outerHTML;
}

/** The little of the DOM that is touched here; Deno has no DOM types. */
interface SvgElement {
  outerHTML: string;
  querySelector(selector: string): { remove(): void } | null;
  setAttribute(name: string, value: string): void;
  removeAttribute(name: string): void;
}

/** Labels in a chart's margin are cut, as SVG does not wrap; tables carry the whole name. */
const shortened = (label: string): string => label.length > 32 ? `${label.slice(0, 31)}…` : label;
const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
const symbols: Record<Decoding, Plot.SymbolType> = {
  greedy: "circle",
  sampled: "square",
  beam: "diamond",
  best_of: "triangle",
};

/** One dot and 95 % interval a result, a row each, in the order of the table. */
export function accuracyChart(methods: readonly MethodResult[]): string | undefined {
  const several = new Set(methods.map((m) => m.iteration)).size > 1;
  const colours = methodColours(methods);
  const rows = ordered(methods).filter((m) => m.n > 0).map((m) => ({
    label: [
      `${shortened(methodTitle(m.name))}, ${decodingTitle(m)}`,
      ...(several && m.iteration > 0 ? [`iteration ${m.iteration}`] : []),
    ].join(", "),
    colour: colours.get(m.name)!,
    symbol: symbols[m.decoding],
    ...wilson(m.correct, m.n),
  }));
  if (rows.length === 0) return undefined;
  const longest = Math.max(...rows.map((row) => row.label.length));
  return draw("Accuracy of each method with its 95 % interval", {
    height: 64 + 24 * rows.length,
    marginLeft: 16 + 6.8 * longest,
    marginRight: 24,
    x: { label: "Accuracy (%)", percent: true, grid: true, nice: true, zero: false },
    y: { label: null, domain: rows.map((row) => row.label), tickSize: 0 },
    symbol: { type: "identity" },
    marks: [
      Plot.ruleY(rows, { y: "label", x1: "low", x2: "high", stroke: "colour", strokeWidth: 2 }),
      Plot.tickX(rows, { y: "label", x: "low", stroke: "colour", strokeWidth: 2, inset: 5 }),
      Plot.tickX(rows, { y: "label", x: "high", stroke: "colour", strokeWidth: 2, inset: 5 }),
      Plot.dot(rows, {
        y: "label",
        x: "accuracy",
        symbol: "symbol",
        fill: "colour",
        r: 5,
        title: (row: typeof rows[number]) =>
          `${row.label}: ${percent(row.accuracy)} (${percent(row.low)} to ${percent(row.high)})`,
      }),
    ],
  });
}

/** The colour of each method, by first appearance, the same in every chart of one report. */
function methodColours(methods: readonly MethodResult[]): Map<string, string> {
  const colours = new Map<string, string>();
  for (const { name } of methods) {
    if (!colours.has(name)) colours.set(name, seriesColour(colours.size));
  }
  return colours;
}

/** One drawn line: a method at an iteration, over beam widths; `greedy` is its dashed rule. */
export interface BeamSeries {
  label: string;
  colour: string;
  points: { beam: number; accuracy: number; low: number; high: number }[];
  greedy?: number;
}

/** Beam results grouped by method and iteration, with the greedy accuracy where it was measured. */
export function beamSeries(methods: readonly MethodResult[]): BeamSeries[] {
  const groups = new Map<string, MethodResult[]>();
  for (const m of ordered(methods)) {
    if (m.n === 0) continue;
    const key = `${m.iteration} ${m.name}`;
    groups.set(key, [...(groups.get(key) ?? []), m]);
  }
  const withBeams = [...groups.values()].filter((g) => g.some((m) => m.decoding === "beam"));
  const several = new Set(methods.map((m) => m.iteration)).size > 1;
  return withBeams.map((group, i) => {
    const greedy = group.find((m) => m.decoding === "greedy");
    const first = group[0]!;
    return {
      label: methodTitle(first.name) + (several ? `, iteration ${first.iteration}` : ""),
      colour: seriesColour(i),
      points: group.filter((m) => m.decoding === "beam").map((m) => ({
        beam: m.beam!,
        ...wilson(m.correct, m.n),
      })),
      ...(greedy === undefined ? {} : { greedy: greedy.correct / greedy.n }),
    };
  });
}

/** Accuracy over beam width B with 95 % intervals; greedy decoding is a dashed rule. */
export function beamChart(series: readonly BeamSeries[]): string | undefined {
  const points = series.flatMap((s) => s.points);
  if (points.length === 0) return undefined;
  const widths = [...new Set(points.map((p) => p.beam))].sort((a, b) => a - b);
  return draw("Accuracy over beam width, with greedy decoding as a dashed rule", {
    height: 320,
    marginRight: 64,
    x: { label: "Beam width B", ticks: widths, tickFormat: "d", inset: 32 },
    y: { label: "Accuracy (%)", percent: true, grid: true, nice: true, zero: false, ticks: 6 },
    marks: series.flatMap((s, i) => {
      const stroke = s.colour;
      // Intervals of several series at one width stand beside each other.
      const dx = 7 * (i - (series.length - 1) / 2);
      const greedy = s.greedy === undefined ? [] : [s.greedy];
      return [
        Plot.ruleY(greedy, { stroke, strokeDasharray: "5 4", strokeOpacity: 0.8 }),
        Plot.text(greedy, {
          y: (accuracy: number) => accuracy,
          text: () => "greedy",
          frameAnchor: "right",
          textAnchor: "start",
          dx: 8,
          fill: stroke,
        }),
        Plot.ruleX(s.points, { x: "beam", y1: "low", y2: "high", stroke, strokeWidth: 2, dx }),
        Plot.line(s.points, { x: "beam", y: "accuracy", stroke, strokeWidth: 1.5, dx }),
        Plot.dot(s.points, {
          x: "beam",
          y: "accuracy",
          fill: stroke,
          symbol: "diamond",
          r: 5,
          dx,
          title: (p: typeof points[number]) =>
            `${s.label}, B = ${p.beam}: ${percent(p.accuracy)} ` +
            `(${percent(p.low)} to ${percent(p.high)})`,
        }),
      ];
    }),
  });
}

/** A small chart of at most six curves over training steps. */
export interface LineChartOptions {
  /** What is drawn, for the accessible description. */
  title: string;
  series: readonly {
    label: string;
    points: readonly (readonly [step: number, value: number | null])[];
  }[];
}

/** More points than pixels tell nothing and make a page of megabytes. */
const MAX_POINTS = 400;
/** From so many points on a moving average is drawn over the faint raw line. */
const SMOOTH_FROM = 60;

/**
 * Quantities over training steps, in the colours of the series in their order. Long curves are thinned
 * to the mean of equal stretches. Points that are not finite are left out, as SVG cannot place them.
 */
export function lineChart({ title, series }: LineChartOptions): string | undefined {
  const curves = series.map(({ points }, i) => ({
    points: thin(points.filter(isFinitePoint)),
    stroke: seriesColour(i),
  }));
  const all = curves.flatMap((c) => c.points);
  if (all.length === 0) return undefined;
  return draw(`${title} over training steps`, {
    width: 350,
    height: 195,
    marginLeft: 48,
    marginRight: 12,
    marginBottom: 40,
    x: { label: "step", ticks: 5, nice: false },
    y: { label: null, grid: true, ticks: 5, nice: true, tickFormat: tickFormat(all) },
    marks: curves.map(({ points, stroke }) => {
      const channels = { x: (p: Point) => p[0], y: (p: Point) => p[1], stroke };
      if (points.length === 1) return Plot.dot(points, channels);
      const smooth = points.length >= SMOOTH_FROM;
      const k = Math.max(5, Math.round(points.length / 20));
      return [
        Plot.line(points, { ...channels, strokeWidth: 1.5, strokeOpacity: smooth ? 0.3 : 1 }),
        smooth
          ? Plot.line(
            points,
            Plot.windowY({ k, anchor: "middle" }, { ...channels, strokeWidth: 2 }),
          )
          : null,
      ];
    }),
  });
}

/** The chart of a panel of training curves. */
export function panelChart(panel: Panel): string | undefined {
  return lineChart({ title: `${panel.title} of ${panel.stage}`, series: panel.series });
}

type Point = readonly [number, number];
const isFinitePoint = (p: readonly [number, number | null]): p is Point =>
  Number.isFinite(p[0]) && Number.isFinite(p[1]);

/** Short labels: scientific where the range is far from one, else as many digits as tell ticks apart. */
function tickFormat(points: readonly Point[]): string {
  const values = points.map((p) => p[1]);
  const low = Math.min(...values);
  const high = Math.max(...values);
  const largest = Math.max(Math.abs(low), Math.abs(high));
  if (largest !== 0 && (largest < 1e-2 || largest >= 1e4)) return ".1~e";
  return high - low < 0.1 ? ".3~f" : "~g";
}

function thin(points: readonly Point[]): Point[] {
  if (points.length <= MAX_POINTS) return [...points];
  const size = Math.ceil(points.length / MAX_POINTS);
  const thinned: Point[] = [];
  for (let from = 0; from < points.length; from += size) {
    const stretch = points.slice(from, from + size);
    const mean = (k: 0 | 1) => stretch.reduce((sum, p) => sum + p[k], 0) / stretch.length;
    thinned.push([mean(0), mean(1)]);
  }
  return thinned;
}

/** Reliability of V: predicted value against the share that succeeded; the diagonal is perfect. */
export function calibrationChart(bins: readonly CalibrationBin[]): string | undefined {
  const filled = bins.filter((b) => b.n > 0).map((b) => ({
    ...b,
    ...wilson(Math.round(b.observed * b.n), b.n),
  }));
  if (filled.length === 0) return undefined;
  return draw("Share of successes over predicted value, with the diagonal of perfect calibration", {
    width: 350,
    height: 300,
    marginLeft: 48,
    x: { label: "predicted V", domain: [0, 1], grid: true, ticks: 5 },
    y: { label: "share that succeeded", domain: [0, 1], grid: true, ticks: 5 },
    marks: [
      Plot.line([[0, 0], [1, 1]], { stroke: "currentColor", strokeDasharray: "5 4" }),
      Plot.ruleX(filled, { x: "predicted", y1: "low", y2: "high", stroke: seriesColour(0) }),
      Plot.dot(filled, {
        x: "predicted",
        y: "observed",
        fill: seriesColour(0),
        r: 4,
        title: (b: CalibrationBin) =>
          `V ${b.predicted.toFixed(2)}: ${percent(b.observed)} of ${b.n} succeeded`,
      }),
    ],
  });
}

/** Seconds a stage, a bar each, longest labels on the left. */
export function timingsChart(
  timings: readonly { stage: string; seconds: number }[],
): string | undefined {
  if (timings.length === 0) return undefined;
  const longest = Math.max(...timings.map((t) => shortened(t.stage).length));
  // Two entries of one stage (a resumed one) must not share a bar, so rows are keyed by position.
  const rows = timings.map((t, i) => ({ ...t, row: String(i) }));
  return draw("Seconds spent in each stage", {
    height: 64 + 22 * rows.length,
    marginLeft: 16 + 6.8 * longest,
    marginRight: 90,
    x: { label: "seconds", grid: true },
    y: {
      label: null,
      domain: rows.map((t) => t.row),
      tickSize: 0,
      tickFormat: (row: string) => shortened(timings[Number(row)]!.stage),
    },
    marks: [
      Plot.barX(rows, {
        x: "seconds",
        y: "row",
        fill: seriesColour(0),
        insetTop: 3,
        insetBottom: 3,
      }),
      Plot.text(rows, {
        x: "seconds",
        y: "row",
        text: (t: { seconds: number }) => duration(t.seconds),
        textAnchor: "start",
        dx: 5,
        fill: "currentColor",
      }),
    ],
  });
}

/** `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`. */
export function duration(seconds: number): string {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
