/**
 * Runs of generated graphs in which the runner, a stage or both are killed at random points: each must
 * end with the bytes of an undisturbed run. CRASH_POINTS sets how many kills (default 20), CRASH_SEED
 * where they fall.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openJournal } from "./journal_open.ts";
import { contents, withFixture } from "./testing/fixture.ts";
import { generated, generator } from "./testing/generated.ts";

const points = Number(Deno.env.get("CRASH_POINTS") ?? 20);
const seed = Number(Deno.env.get("CRASH_SEED") ?? 1);
const KILLS_PER_RUN = 5;
const main = new URL("./testing/main.ts", import.meta.url).pathname;

function start(options: object, folder: string): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", main, "pipeline", "generated", JSON.stringify(options)],
    cwd: folder,
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
}

function childrenOf(pid: number): number[] {
  const found: number[] = [];
  try {
    for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
      const text = Deno.readTextFileSync(`/proc/${pid}/task/${name}/children`);
      found.push(...text.split(" ").filter((word) => word !== "").map(Number));
    }
  } catch {
    // It has ended.
  }
  return found;
}

function isRunning(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/s.test(Deno.readTextFileSync(`/proc/${pid}/stat`));
  } catch {
    return false;
  }
}

async function until(condition: () => boolean, milliseconds: number): Promise<boolean> {
  const end = performance.now() + milliseconds;
  while (!condition()) {
    if (performance.now() > end) return false;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return true;
}

function killIfThere(pid: number) {
  try {
    Deno.kill(pid, "SIGKILL");
  } catch {
    // It has ended.
  }
}

for (let first = 0; first < points; first += KILLS_PER_RUN) {
  const shape = seed * 1_000 + first;
  const kills = Math.min(KILLS_PER_RUN, points - first);
  Deno.test({
    name: `a run of graph ${shape} killed ${kills} times ends with the same bytes`,
    ignore: Deno.build.os !== "linux",
    fn: () => withFixture((fixture) => crash(fixture, shape, kills)),
  });
}

async function crash(
  { folder, run }: Parameters<Parameters<typeof withFixture>[0]>[0],
  shape: number,
  kills: number,
) {
  const random = generator(shape);
  const build: typeof generated.build = (w) => generated.build(w, { shape, stepMilliseconds: 0 });
  await run({ ...generated, build } as never, { out: join(folder, "calm") });
  const expected = await contents(join(folder, "calm"));

  const options = {
    set: [`shape=${shape}`, "stepMilliseconds=0"],
    out: "crashed",
    store: "store2",
    journal: "journal2.sqlite",
    slots: 2,
  };
  let stopped = 0;
  for (let restarts = 0; stopped < kills && restarts < 4 * kills; restarts++) {
    const runner = start(options, folder);
    const log = new Response(runner.stderr).text();
    await until(() => false, 100 + random() * 1_200);
    if (!isRunning(runner.pid)) {
      const status = await runner.status;
      assert.equal(status.code, 0, await log);
      await log;
      // It was quicker than the kill: begin again from nothing.
      await Deno.remove(join(folder, "store2"), { recursive: true });
      continue;
    }
    const stages = childrenOf(runner.pid);
    const victim = ["runner", "stage", "both"][Math.floor(random() * 3)];
    if (victim !== "runner" && stages.length > 0) {
      killIfThere(stages[Math.floor(random() * stages.length)]!);
      stopped++;
    }
    if (victim !== "stage" || random() < 0.5) {
      killIfThere(runner.pid);
      stopped++;
    }
    const status = victim === "stage" ? undefined : await runner.status;
    if (status?.signal === "SIGKILL") {
      assert(await until(() => !stages.some(isRunning), 5_000), "a stage outlived its runner");
    }
    if (victim === "stage") await runner.status;
    await log;
  }
  const last = start(options, folder);
  const log = await new Response(last.stderr).text();
  assert.equal((await last.status).code, 0, log);
  assert.deepEqual(await contents(join(folder, "crashed")), expected);

  for (const place of ["tmp", "work", "scratch"]) {
    const left = await contents(join(folder, "store2", place)).catch(() => ({}));
    assert.deepEqual(left, {}, `left in ${place}`);
  }
  const journal = openJournal(join(folder, "journal2.sqlite"), { readOnly: true });
  try {
    for (const { id, state } of await journal.runs()) {
      assert.equal(state, "done");
      const events = await journal.events(id);
      assert.deepEqual(events.map((event) => event.seq), events.map((_, i) => i + 1));
      const done = events.flatMap((event) => event.type === "stage.done" ? [event.stage] : []);
      assert.equal(new Set(done).size, done.length, "a stage was done twice in one run");
    }
  } finally {
    await journal.close();
  }
}
