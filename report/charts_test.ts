import assert from "node:assert/strict";
import {
  accuracyChart,
  beamChart,
  beamSeries,
  duration,
  lineChart,
  timingsChart,
} from "./charts.ts";
import { parseHTML } from "linkedom";
import { HOSTILE, testReport } from "./testdata.ts";

const count = (text: string, part: string) => text.split(part).length - 1;

Deno.test("the accuracy chart has a mark and its figures for every result", () => {
  const { methods } = testReport();
  const svg = accuracyChart(methods)!;
  assert.equal(count(svg, "<title>"), methods.length);
  assert.match(svg, /<title>OREO, greedy, iteration 2: 70\.1 % \(67\.2 % to 72\.9 %\)<\/title>/);
});

Deno.test("the beam chart draws each policy's widths and its greedy accuracy", () => {
  const series = beamSeries(testReport().methods);
  assert.deepEqual(series.map((s) => [s.label, s.points.map((p) => p.beam), s.greedy]), [
    ["OREO, iteration 1", [1, 3, 5, 7], 0.668],
    ["OREO, iteration 2", [1, 3, 5, 7], 0.701],
  ]);
  const svg = beamChart(series)!;
  assert.equal(count(svg, "<title>"), 8);
  assert.equal(count(svg, ">greedy<"), 2);
});

const line = (...points: [number, number | null][]) =>
  lineChart({ title: HOSTILE, series: [{ label: "a", points }] });

Deno.test("a curve leaves out what SVG cannot place and stays small", () => {
  assert.doesNotMatch(line([1, 2], [2, null], [3, Infinity], [4, NaN], [5, 1])!, /NaN|Infinity/);
  assert.equal(line([1, NaN]), undefined);
  const points = Array.from({ length: 200_000 }, (_, i): [number, number] => [i, Math.sin(i)]);
  assert.ok(lineChart({ title: "x", series: [{ label: "a", points }] })!.length < 40_000);
});

Deno.test("curves of one chart share its axes and differ in colour", () => {
  const svg = lineChart({
    title: "x",
    series: [{ label: "a", points: [[1, 0], [2, 1]] }, { label: "b", points: [[1, 5], [2, 6]] }],
  })!;
  assert.equal(count(svg, "var(--series-1)"), 1);
  assert.equal(count(svg, "var(--series-2)"), 1);
  assert.equal(count(svg, 'aria-label="y-grid"'), 1);
});

Deno.test("charts carry no styles of their own and escape their labels", () => {
  const methods = [{ ...testReport().methods[0]!, name: HOSTILE }];
  for (
    const svg of [
      line([0, 0], [1, 1])!,
      accuracyChart(methods)!,
      timingsChart([{ stage: HOSTILE, seconds: 1 }])!,
    ]
  ) {
    const { document } = parseHTML(`<body>${svg}</body>`) as unknown as {
      document: { querySelector(selector: string): unknown };
    };
    assert.equal(document.querySelector("script, img, style, [style], [onerror]"), null);
    assert.ok(svg.includes("alert(&quot;x") || svg.includes("&lt;script"));
  }
});

Deno.test("durations read as people say them", () => {
  assert.deepEqual([0.04, 9.94, 9.96, 59.4, 59.6, 3599.6, 7805].map(duration), [
    "0.0 s",
    "9.9 s",
    "10 s",
    "59 s",
    "1 min 0 s",
    "1 h 0 min",
    "2 h 10 min",
  ]);
});
