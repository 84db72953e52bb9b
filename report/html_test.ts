import assert from "node:assert/strict";
import { parseHTML } from "linkedom";
import { renderReport } from "./html.tsx";
import { ReportData } from "./data.ts";
import { panelsOf } from "./metrics.ts";
import { HOSTILE, testReport } from "./testdata.ts";

interface Element {
  textContent: string;
  getAttribute(name: string): string | null;
  querySelectorAll(selector: string): Iterable<Element>;
  querySelector(selector: string): Element | null;
}
const parse = (html: string) =>
  (parseHTML(html) as unknown as { document: Element & { body: Element } }).document;
const all = (root: Element, selector: string) => [...root.querySelectorAll(selector)];

Deno.test("the report has the table, the charts, the samples and the settings", () => {
  const data = testReport();
  const page = parse(renderReport(data));
  const rows = all(page, "section[aria-labelledby=results] tbody tr").map((r) => r.textContent);
  assert.equal(rows.length, data.methods.length);
  assert.match(rows[2]!, /Rejection sampling.*63\.1 %.*60\.1 – 66\.0.*1000.*\+4\.8 from SFT/);
  const stages = new Set(data.curves.map((c) => c.stage));
  const panels = [...stages].flatMap((stage) => panelsOf(stage, data.curves)).length;
  const drawn = panels + data.calibration.length + 3;
  assert.equal(all(page, "svg[role=img][aria-label]").length, drawn);
  assert.equal(all(page, "article.sample").length, data.samples.length);
  const text = page.body.textContent;
  assert.match(text, /oreo\.learningRate/);
  assert.match(text, /6 min 53 s/);
});

Deno.test("each token carries its value and advantage, and its text comes back unchanged", () => {
  const data = testReport();
  const page = parse(renderReport(data));
  const articles = all(page, "article.sample");
  data.samples.forEach((sample, i) => {
    const spans = all(articles[i]!, ".tokens span");
    assert.deepEqual(spans.map((s) => s.textContent), sample.tokens);
    assert.equal(articles[i]!.querySelector(".prompt")!.textContent, sample.prompt);
  });
  const [low, missing, nan, above, below] = all(articles[3]!, ".tokens span");
  assert.equal(low!.getAttribute("data-v"), "0.200");
  assert.match(low!.getAttribute("class")!, /\bv4\b/);
  assert.equal(missing!.getAttribute("data-v"), "none");
  assert.equal(nan!.getAttribute("data-v"), "none");
  assert.match(above!.getAttribute("class")!, /\bv20\b/);
  assert.match(below!.getAttribute("class")!, /\bv0\b/);
  assert.equal(below!.getAttribute("data-a"), "\u22123.000");
});

Deno.test("text from outside stays text wherever it is printed", () => {
  const html = renderReport(testReport());
  assert.ok(html.includes("&lt;script&gt;alert"));
  const page = parse(html);
  assert.equal(all(page, "script").length, 1, "only the report's own script");
  assert.equal(all(page, "img").length, 0);
  assert.ok(all(page, "tbody th").some((th) => th.textContent === HOSTILE));
});

Deno.test("the report needs no network: no address leaves the file", () => {
  const page = parse(renderReport(testReport()));
  for (const element of all(page, "[src], [href]")) {
    const target = element.getAttribute("src") ?? element.getAttribute("href")!;
    assert.match(target, /^(data:|#)/);
  }
  const policy = page.querySelector("meta[http-equiv]")!.getAttribute("content")!;
  assert.match(policy, /default-src 'none'/);
  assert.match(policy, /script-src 'sha256-[A-Za-z0-9+/]{43}='/);
});

Deno.test("the same data give the same bytes", () => {
  assert.equal(renderReport(testReport()), renderReport(testReport()));
});

Deno.test("a report of nothing but a name is a page that says so", () => {
  const html = renderReport(ReportData.parse({ workflow: "demo", methods: [] }));
  assert.match(html, /No method was evaluated/);
  const page = parse(html);
  assert.equal(all(page, "svg").length, 0);
  assert.equal(all(page, "script").length, 0);
});

Deno.test("data that do not fit together are refused with the place", () => {
  const bad = (change: (data: ReportData) => void): string => {
    const data = testReport();
    change(data);
    const result = ReportData.safeParse(data);
    assert.equal(result.success, false);
    return result.error!.issues.map((i) => `${i.path.join(".")}: ${i.message}`).join("\n");
  };
  assert.match(bad((d) => d.methods[0]!.correct = 1001), /methods\.0\.correct: correct must not/);
  assert.match(bad((d) => d.methods[0]!.beam = 3), /methods\.0\.beam: beam is given exactly/);
  assert.match(bad((d) => d.samples[1]!.values.pop()), /samples\.1\.values: values must have one/);
  assert.match(bad((d) => d.samples[1]!.advantages!.pop()), /samples\.1\.advantages/);
});
