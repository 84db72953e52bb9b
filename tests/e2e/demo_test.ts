/**
 * The main job end to end, at its smallest: the demo ends in a table, a page and a JSON file; it is the
 * same with the same seed, in whatever processes and however often it was killed; and its status is
 * served while it runs. The first run is shared by all tests of this file.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { z } from "zod";
import { type Ended, filesBelow, inFolder, linesOf, run, start, tiny, told } from "./program.ts";

const demo = ["pipeline", "demo", ...tiny];

/** What the status server said while the run went on. */
interface Watched {
  readonly page: string;
  readonly health: Response;
  /** Each state of the run that was seen, with the states of its stages. */
  readonly seen: { state: string; stages: Record<string, string> }[];
  readonly unknown: number;
  readonly ended: Ended;
}

interface Finished extends Ended {
  readonly folder: string;
  readonly out: string;
  readonly watched: Watched;
}

let first: Promise<Finished> | undefined;

/** The run that nothing disturbs, watched from another process. */
function undisturbed(): Promise<Finished> {
  return first ??= (async () => {
    const folder = await Deno.makeTempDir({ prefix: "oreo-e2e-" });
    const status = start(["status", "--port", "0"], { cwd: folder });
    const child = start([...demo, "--out", "results"], { cwd: folder });
    let running = true;
    const ended = child.output().finally(() => running = false);
    const watched = watch(status, () => running);
    const finished = told(await ended);
    return { ...finished, folder, out: join(folder, "results"), watched: await watched };
  })();
}

Deno.test.afterAll(async () => {
  const finished = await first?.catch(() => undefined);
  if (finished !== undefined) await Deno.remove(finished.folder, { recursive: true });
});

const RunList = z.object({ runs: z.array(z.object({ id: z.string(), state: z.string() })) });
const Run = z.object({
  state: z.string(),
  stages: z.array(z.object({ id: z.string(), state: z.string() })),
});

async function watch(status: Deno.ChildProcess, running: () => boolean): Promise<Watched> {
  const errors = new Response(status.stderr).text();
  const lines = linesOf(status.stdout);
  const announced = (await lines.next()).value ?? await errors;
  const url = /http:\/\/\S+/.exec(announced)?.[0];
  assert(url !== undefined, `the status command announced no address: ${announced}`);
  const get = (path: string) => fetch(new URL(path, url));
  const json = async (path: string) => await (await get(path)).json();

  const seen: Watched["seen"] = [];
  let page = "";
  for (let last = false; !last;) {
    last = !running();
    const [one] = RunList.parse(await json("/api/runs")).runs;
    if (one !== undefined) {
      const { state, stages } = Run.parse(await json(`/api/runs/${one.id}`));
      seen.push({ state, stages: Object.fromEntries(stages.map((s) => [s.id, s.state])) });
      if (state === "running" && page === "") page = await (await get("/")).text();
    }
    if (!last) await new Promise((resolve) => setTimeout(resolve, 300));
  }
  const health = await get("/healthz");
  await health.body?.cancel();
  const missing = await get("/api/runs/no-such-run");
  await missing.body?.cancel();
  status.kill("SIGINT");
  let stdout = announced;
  for await (const line of lines) stdout += line;
  const { code } = await status.status;
  const ended = { code, stdout, stderr: await errors };
  return { page, health, seen, unknown: missing.status, ended };
}

const Report = z.object({
  workflow: z.string(),
  methods: z.array(z.object({
    name: z.string(),
    iteration: z.int(),
    accuracy: z.number().min(0).max(1),
    low: z.number().min(0).max(1),
    high: z.number().min(0).max(1),
    n: z.int().positive(),
  })),
});

Deno.test("the demo ends with a table, a page, a JSON file and the trained models", async () => {
  const { code, stdout, stderr, out } = await undisturbed();
  assert.equal(code, 0, stderr);
  const table = await Deno.readTextFile(join(out, "report.txt"));
  assert(stdout.includes(table), stdout);
  for (const method of ["SFT", "Rejection sampling", "OREO", "beam, B = 3"]) {
    assert(table.includes(method), table);
  }
  assert.match(stdout, /^results: .*results$/m);
  const html = await Deno.readTextFile(join(out, "report.html"));
  assert.match(html, /^<!doctype html>/i);
  assert.match(html, /<svg/);
  assert.doesNotMatch(html, /(?:src|href)="https?:/, "the page needs nothing from elsewhere");
  const files = await filesBelow(out);
  for (const file of ["policy/model.safetensors", "policy/config.json", "value/tokenizer.json"]) {
    assert(files.includes(file), files.join(" "));
  }
});

Deno.test("report.json names every method with its accuracy, interval and count", async () => {
  const { out } = await undisturbed();
  const text = await Deno.readTextFile(join(out, "report.json"));
  const { workflow, methods } = Report.parse(JSON.parse(text));
  assert.equal(workflow, "demo");
  const byName = new Map(methods.map((method) => [method.name, method]));
  assert.equal(byName.size, methods.length, "no name comes twice in one iteration");
  const expected = { sft: 0, rejection_sampling: 1, oreo: 1, "oreo+beam1": 1, "oreo+beam3": 1 };
  for (const [name, iteration] of Object.entries(expected)) {
    const method = byName.get(name);
    assert(method !== undefined, `no ${name} among ${[...byName.keys()]}`);
    assert.equal(method.iteration, iteration);
    assert.equal(method.n, name.includes("beam") ? 8 : 24);
    assert(method.low <= method.accuracy && method.accuracy <= method.high, text);
    const correct = method.accuracy * method.n;
    assert(Math.abs(correct - Math.round(correct)) < 1e-9, "a share of n");
  }
});

Deno.test("another process serves the run's state while it goes on", async () => {
  const { watched: { page, health, seen, unknown, ended } } = await undisturbed();
  assert.equal(ended.code, 0, ended.stderr);
  assert.equal(ended.stderr, "");
  assert.equal(health.status, 200);
  assert.equal(unknown, 404);
  assert.match(page, /demo-\d{8}-\d{6}/);
  assert(seen.some(({ state, stages }) => state === "running" && stages["sft"] === "running"));
  assert.equal(seen.at(-1)!.state, "done");
  assert.deepEqual([...new Set(Object.values(seen.at(-1)!.stages))], ["done"]);
});

Deno.test("the same command again computes nothing and gives the same bytes", async () => {
  const { folder, out } = await undisturbed();
  const again = await run([...demo, "--out", "again"], { cwd: folder });
  assert.equal(again.code, 0, again.stderr);
  assert.doesNotMatch(again.stderr, /: started/);
  assert.equal(again.stderr.match(/in the store/g)?.length, 11, again.stderr);
  await sameFiles(join(folder, "again"), out);

  const dry = await run([...demo, "--dry-run"], { cwd: folder });
  assert.match(dry.stdout, /workflow demo: 11 stages, 11 in the store/);
});

Deno.test("the same seed gives the same bytes in a fresh store and inside one process", async () => {
  const { out } = await undisturbed();
  await inFolder(async (folder) => {
    const other = await run([...demo, "--out", "results", "--executor", "inline"], { cwd: folder });
    assert.equal(other.code, 0, other.stderr);
    await sameFiles(join(folder, "results"), out);
  });
});

Deno.test("a run killed twice in training goes on and ends with the same bytes", async () => {
  const { out } = await undisturbed();
  await inFolder(async (folder) => {
    const inSft = await killedAt(folder, "sft", 60);
    assert.equal(inSft[0]?.type, "run.started");
    assert(!inSft.some(({ type }) => type === "stage.done"));

    const inTrain = await killedAt(folder, "train.1", 4);
    assert.equal(inTrain[0]?.type, "run.resumed");
    const resumedAt = stepsOf(inTrain, "sft")[0]!;
    assert(resumedAt > 40, `training went on from its checkpoint, not from step ${resumedAt}`);

    const last = await run([...demo, "--out", "results"], { cwd: folder });
    assert.equal(last.code, 0, last.stderr);
    for (const stage of ["sft", "sample.1", "score.1"]) {
      assert.match(last.stderr, new RegExp(`${stage}: in the store`));
    }
    await sameFiles(join(folder, "results"), out);
    const left = await filesBelow(join(folder, ".oreo", "store"));
    assert.deepEqual(left.filter((file) => /^(?:tmp|work)\/|checkpoint-/.test(file)), []);
  });
});

const JournalEvent = z.object({
  type: z.string(),
  stage: z.string().optional(),
  step: z.int().optional(),
});
type JournalEvent = z.infer<typeof JournalEvent>;

/** Runs the demo until `stage` has taken `step` steps, then kills the runner; returns its events. */
async function killedAt(folder: string, stage: string, step: number): Promise<JournalEvent[]> {
  const child = start([...demo, "--out", "results", "--json"], { cwd: folder });
  const errors = new Response(child.stderr).text();
  const events: JournalEvent[] = [];
  for await (const line of linesOf(child.stdout)) {
    const event = JournalEvent.parse(JSON.parse(line));
    events.push(event);
    if (event.type !== "stage.metric" || event.stage !== stage || event.step! < step) continue;
    child.kill("SIGKILL");
    break;
  }
  const { signal } = await child.status;
  assert.equal(signal, "SIGKILL", `it ended before ${stage} came to step ${step}: ${await errors}`);
  await errors;
  return events;
}

function stepsOf(events: readonly JournalEvent[], stage: string): number[] {
  return events.filter((event) => event.type === "stage.metric" && event.stage === stage)
    .map((event) => event.step!);
}

async function sameFiles(found: string, expected: string): Promise<void> {
  const files = await filesBelow(expected);
  assert.deepEqual(await filesBelow(found), files);
  for (const file of files) {
    const [a, b] = await Promise.all([found, expected].map((f) => Deno.readFile(join(f, file))));
    assert(Buffer.compare(a!, b!) === 0, `${file} differs`);
  }
}
