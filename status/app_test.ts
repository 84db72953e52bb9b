import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseHTML } from "linkedom";
import { z } from "zod";
import { journalHandler } from "../pipeline/mod.ts";
import { createApp } from "./app.ts";
import * as schemas from "./schemas.ts";
import { done, halfway, HOSTILE, started, type TestJournal, testJournal } from "./testdata.ts";

const NOW = Date.UTC(2026, 0, 2, 3, 4, 5);
type App = ReturnType<typeof createApp>;

async function withApp(body: (app: App, t: TestJournal) => Promise<void>) {
  const t = await testJournal();
  try {
    await body(createApp({ journal: t.path, now: () => NOW }), t);
  } finally {
    await t.close();
  }
}

async function json<T>(app: App, path: string, schema: z.ZodType<T>, status = 200): Promise<T> {
  const response = await app.request(path);
  assert.equal(response.status, status, path);
  assert.match(response.headers.get("content-type")!, /application\/json/);
  return schema.parse(await response.json());
}

const html = async (app: App, path: string, status = 200): Promise<string> => {
  const response = await app.request(path, { headers: { accept: "text/html" } });
  assert.equal(response.status, status, path);
  return await response.text();
};

Deno.test("without a journal everything answers, and runs appear when there is one", async () => {
  await withApp(async (app, t) => {
    await Deno.remove(t.path).catch(() => {});
    await json(app, "/healthz", z.object({ status: z.literal("ok") }));
    assert.deepEqual(await json(app, "/api/runs", z.unknown()), { runs: [] });
    assert.match(await html(app, "/"), /no runs yet/);
    const writer = await t.begin("first");
    writer.append(started(t.folder));
    await writer.flush();
    const { runs } = await json(app, "/api/runs", z.object({ runs: z.array(schemas.Run) }));
    assert.deepEqual(runs.map((r) => [r.id, r.state, r.counts.waiting]), [[
      "first",
      "running",
      15,
    ]]);
    await writer.close();
  });
});

Deno.test("a run's stages, metrics and logs are what the journal says", async () => {
  await withApp(async (app, t) => {
    const writer = await t.begin("r 1/ü");
    halfway(writer, t.folder);
    await writer.flush();
    const path = `/api/runs/${encodeURIComponent("r 1/ü")}`;
    const run = await json(app, path, schemas.RunDetail);
    const states = Object.fromEntries(run.stages.map((s) => [s.id, s.state]));
    assert.equal(states["problems"], "cached");
    assert.equal(states["sft"], "done");
    assert.equal(states["oreo.1"], "running");
    assert.equal(states["report"], "waiting");
    assert.equal(run.report, undefined);
    const Points = z.object({ points: z.array(schemas.MetricPoint) });
    assert.equal((await json(app, `${path}/metrics`, Points)).points.length, 190);
    const { points } = await json(app, `${path}/metrics?stage=sft`, Points);
    assert.equal(points.length, 150);
    assert.equal(points[2]!.values["grad_norm"], null);
    const Lines = z.object({ lines: z.array(schemas.LogLine) });
    const { lines } = await json(app, `${path}/logs?limit=2`, Lines);
    assert.deepEqual(lines.map((l) => l.stage), ["score.1", "oreo.1"]);
    await writer.close();
  });
});

Deno.test("errors are JSON for programs, pages for people, and say what would be right", async () => {
  await withApp(async (app, t) => {
    const writer = await t.begin("demo-1");
    writer.append(started(t.folder));
    await writer.flush();
    const message = async (path: string, status: number) =>
      (await json(app, path, schemas.ApiError, status)).error.message;
    assert.match(await message("/api/runs/demo-2", 404), /no run 'demo-2'.*mean 'demo-1'/);
    assert.match(await message("/api/runs/demo-1/metrics?stage=stf", 404), /mean 'sft'/);
    assert.match(await message("/api/runs?limit=0", 400), /limit/);
    assert.match(
      await message("/api/runs/demo-1/events?types=stage.metrics", 400),
      /unknown event type 'stage.metrics'/,
    );
    assert.match(await message("/api/nothing", 404), /nothing at \/api\/nothing/);
    assert.match(await html(app, "/runs/demo-2", 404), /<h1>Not found<\/h1>/);
    assert.match(await html(app, "/runs/demo-1/report", 404), /it is running/);
    await writer.close();
  });
});

Deno.test("a journal that cannot be read gives 503 with the reason, defects give 500 without", async () => {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "journal.sqlite");
  await writeFile(path, "this is no database ".repeat(100));
  const broken = createApp({ journal: path });
  const { error } = await json(broken, "/healthz", schemas.ApiError, 503);
  assert.match(error.message, /journal\.sqlite/);
  await Deno.remove(folder, { recursive: true });

  const told: unknown[] = [];
  const failing = createApp({
    journal: { runs: () => Promise.reject(new Error("secret")) } as never,
    report: (e) => told.push(e),
  });
  const answer = await json(failing, "/api/runs", schemas.ApiError, 500);
  assert.doesNotMatch(answer.error.message, /secret/);
  assert.equal(told.length, 1);
});

Deno.test("the pages show the run, and text from the journal stays text", async () => {
  await withApp(async (app, t) => {
    const writer = await t.begin("r1");
    halfway(writer, t.folder);
    await writer.flush();
    for (const path of ["/", "/runs/r1", "/runs/r1/stages/sft", "/runs/r1/stages/score.1"]) {
      const text = await html(app, path);
      const { document } = parseHTML(text) as unknown as {
        document: { querySelectorAll(s: string): Iterable<{ getAttribute(n: string): string }> };
      };
      const all = (selector: string) => [...document.querySelectorAll(selector)];
      assert.deepEqual(all("script").map((s) => s.getAttribute("src")), ["/static/client.js"]);
      assert.equal(all("img, style, [style], [onerror]").length, 0, path);
      if (path !== "/runs/r1") continue;
      assert.equal(all("svg.graph a.node").length, 15);
      assert.equal(all("svg.plot").length, 6);
      assert.ok(text.includes("40 of 120 steps"));
      assert.ok(text.includes("&lt;script&gt;alert"));
    }
    await writer.close();
  });
});

Deno.test("every answer carries the security headers", async () => {
  await withApp(async (app) => {
    for (const path of ["/", "/api/runs", "/nothing", "/static/client.js", "/metrics"]) {
      const { headers } = await app.request(path);
      assert.match(headers.get("content-security-policy")!, /default-src 'none'/, path);
      assert.doesNotMatch(headers.get("content-security-policy")!, /unsafe/, path);
      assert.equal(headers.get("x-content-type-options"), "nosniff");
    }
  });
});

Deno.test("a finished run's report is served, shut off from this origin", async () => {
  await withApp(async (app, t) => {
    const out = join(t.folder, "out");
    await mkdir(out);
    await writeFile(join(out, "report.html"), "<!doctype html><p>it works</p>");
    await writeFile(join(out, "report.json"), '{"workflow":"demo","methods":[]}');
    const writer = await t.begin("r1");
    writer.append(started(out));
    writer.append({ type: "run.done", seconds: 412, values: { accuracy: 0.7 } });
    await writer.close();
    const run = await json(app, "/api/runs/r1", schemas.RunDetail);
    assert.equal(run.report, "/runs/r1/report");
    assert.match(await html(app, "/runs/r1"), /href="\/runs\/r1\/report"/);
    const report = await app.request(run.report);
    assert.match(await report.text(), /it works/);
    assert.match(
      report.headers.get("content-security-policy")!,
      /^sandbox allow-scripts; default-src 'none'/,
    );
    await json(app, "/runs/r1/report.json", z.object({ workflow: z.literal("demo") }));
    await Deno.remove(join(out, "report.html"));
    assert.match(await html(app, "/runs/r1/report", 404), /no report lies in its folder/);
  });
});

Deno.test("a run whose runner has gone is shown as interrupted", async () => {
  await withApp(async (app, t) => {
    const writer = await t.begin("r1");
    halfway(writer, t.folder);
    await writer.close();
    const run = await json(app, "/api/runs/r1", schemas.RunDetail);
    assert.equal(run.state, "interrupted");
    assert.match(await html(app, "/runs/r1"), /goes on where it stopped/);
  });
});

Deno.test("the OpenAPI description names every API route and its schemas", async () => {
  await withApp(async (app) => {
    const api = await json(
      app,
      "/openapi.json",
      z.object({
        openapi: z.literal("3.1.0"),
        paths: z.record(z.string(), z.unknown()),
        components: z.object({ schemas: z.record(z.string(), z.unknown()) }),
      }),
    );
    assert.deepEqual(Object.keys(api.paths).sort(), [
      "/api/runs",
      "/api/runs/{id}",
      "/api/runs/{id}/events",
      "/api/runs/{id}/logs",
      "/api/runs/{id}/metrics",
      "/healthz",
    ]);
    assert.ok("RunDetail" in api.components.schemas);
  });
});

Deno.test("with a token, reading needs it, and a browser keeps it as a cookie", async () => {
  const t = await testJournal();
  const app = createApp({ journal: t.path, readToken: "s3cret" });
  const status = async (path: string, headers: Record<string, string> = {}) =>
    (await app.request(path, { headers })).status;
  assert.equal(await status("/api/runs"), 401);
  assert.equal(await status("/static/client.js"), 401);
  assert.equal(await status("/healthz"), 200);
  assert.equal(await status("/api/runs", { authorization: "Bearer wrong" }), 401);
  assert.equal(await status("/api/runs", { authorization: "Bearer s3cret" }), 200);
  assert.equal(await status("/?token=wrong"), 401);
  const opened = await app.request("/?token=s3cret&x=1");
  assert.equal(opened.status, 303);
  assert.equal(opened.headers.get("location"), "/?x=1");
  const cookie = opened.headers.get("set-cookie")!;
  assert.match(cookie, /HttpOnly.*SameSite=Strict/);
  assert.doesNotMatch(cookie, /s3cret/);
  assert.equal(await status("/", { cookie: cookie.split(";")[0]! }), 200);
  assert.equal(await status("/", { cookie: "oreo_status=wrong" }), 401);
  await t.close();
});

Deno.test("jobs write their events with a token of their own, and only where that is wanted", async () => {
  const t = await testJournal();
  const intake = journalHandler(t.journal, { token: "write" });
  const app = createApp({ journal: t.path, readToken: "read", intake });
  const ask = (path: string, token: string, body?: unknown, to = app) =>
    to.request(path, {
      headers: { authorization: `Bearer ${token}` },
      ...(body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }),
    });
  const owner = { machine: "far", host: "far", pid: 1, birth: "", nonce: "n" };
  const claim = { claim: { newRun: "r", fingerprint: "f" }, owner };
  assert.equal((await ask("/journal/claims", "read", claim)).status, 401);
  assert.equal((await ask("/journal/claims", "write", claim)).status, 200);
  const event = { ...started("out"), v: 1, run: "r", seq: 1, time: NOW };
  const sent = await ask("/journal/runs/r/events", "write", { fence: 1, events: [event] });
  assert.deepEqual(await sent.json(), { stop: false });
  assert.equal((await ask("/api/runs/r", "read")).status, 200);
  assert.equal((await ask("/api/runs/r", "write")).status, 401);
  const without = createApp({ journal: t.path, readToken: "read" });
  assert.equal((await ask("/journal/claims", "write", claim, without)).status, 401);
  assert.equal((await ask("/journal/claims", "read", claim, without)).status, 404);
  await t.close();
});

Deno.test("of a long curve as many points are given as are asked for", async () => {
  await withApp(async (app, t) => {
    const writer = await t.begin("long");
    writer.append(started("out"));
    await writer.flush();
    const stage = (await t.journal.run("long"))!.stages[0]!.id;
    for (let step = 0; step < 500; step++) {
      writer.append({ type: "stage.metric", stage, attempt: 1, step, values: { loss: step } });
    }
    await writer.flush();
    const Points = z.object({ points: z.array(schemas.MetricPoint) });
    const count = async (query: string) =>
      (await json(app, `/api/runs/long/metrics${query}`, Points)).points.length;
    assert.equal(await count(""), 500);
    assert.equal(await count("?maxPoints=50"), 50);
    await json(app, "/api/runs/long/metrics?maxPoints=0", schemas.ApiError, 400);
    await writer.close();
  });
});

Deno.test("Prometheus gets runs and stages by state, with labels escaped", async () => {
  await withApp(async (app, t) => {
    const writer = await t.begin("r1");
    writer.append({ ...started(t.folder), workflow: 'a"b\n' } as ReturnType<typeof started>);
    writer.append(done("sft", 2));
    await writer.flush();
    const text = await (await app.request("/metrics")).text();
    assert.match(text, /^oreo_runs\{workflow="a\\"b\\n",state="running"\} 1$/m);
    assert.match(text, /^oreo_latest_run_stages\{.*state="waiting"\} 14$/m);
    for (const line of text.trimEnd().split("\n")) {
      assert.match(line, /^(# (HELP|TYPE) \w+ .+|\w+\{.*\} -?[\d.e+-]+)$/);
    }
    assert.ok(!text.includes(HOSTILE));
    await writer.close();
  });
});
