/**
 * Runs of generated graphs in which the runner, a stage or both are killed at random points, while the
 * store's writes fail, the disk is full, the clock jumps, bits flip and garbage is collected: each must
 * end with the bytes of an undisturbed run and leave nothing behind. CRASH_POINTS sets how many
 * SIGKILLs (default 200), CRASH_SEED where they fall.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { EventBody } from "./events.ts";
import { inlineExecutor } from "./executors/inline.ts";
import { openJournal } from "./journal_open.ts";
import { runWorkflow } from "./runner.ts";
import { collectGarbage, verifyStore } from "./store_admin.ts";
import { FolderStore } from "./store_folder.ts";
import type { CrashRun } from "./testing/crash_main.ts";
import { contents } from "./testing/fixture.ts";
import { generated, generator } from "./testing/generated.ts";
import { childrenOf, isRunning, killIfThere, processesNaming } from "./testing/processes.ts";
import { stages } from "./testing/stages.ts";
import { withSmallDisk } from "./testing/small_disk.ts";

const points = Number(Deno.env.get("CRASH_POINTS") ?? 200);
const firstSeed = Number(Deno.env.get("CRASH_SEED") ?? 1);
const POINTS_PER_GRAPH = 20;
const DISK_BYTES = 32 << 20;
/** How an attempt may end that was not killed. */
const FAILURES = new RegExp(
  "the disk is full|Input/output error|was ended by SIGKILL|it was made again|" +
    "No space left on device|database or disk is full|disk I/O error|unable to open database",
);
const main = new URL("./testing/crash_main.ts", import.meta.url).pathname;

for (let first = 0; first < points; first += POINTS_PER_GRAPH) {
  const shape = firstSeed * 100_000 + first;
  const count = Math.min(POINTS_PER_GRAPH, points - first);
  Deno.test({
    name: `graph ${shape}, killed at ${count} points, ends with the bytes of an undisturbed run`,
    ignore: Deno.build.os !== "linux",
    fn: () => withSmallDisk(DISK_BYTES, (disk) => new Crash(disk, shape).through(count)),
  });
}

interface Disk {
  readonly folder: string;
  fill(): Promise<void>;
  free(): Promise<void>;
}

class Crash {
  readonly #disk: Disk;
  readonly #folder: string;
  readonly #shape: number;
  readonly #random: () => number;
  readonly #expected = new Map<number, Record<string, string>>();
  /** Seed of the run: after one has ended well, the next begins, in the same store and journal. */
  #seed = 0;
  #kills = 0;
  #full = false;
  readonly #seen = { ends: 0, killedAtEnd: 0, failures: 0, flips: 0, full: 0, collections: 0 };

  constructor(disk: Disk, shape: number) {
    this.#disk = disk;
    this.#folder = disk.folder;
    this.#shape = shape;
    this.#random = generator(shape);
  }

  async through(count: number): Promise<void> {
    for (let attempts = 0; this.#kills < count; attempts++) {
      assert(attempts < 20 * count, `only ${this.#kills} of ${count} kills after ${attempts} runs`);
      await this.#attempt(true);
    }
    while (!await this.#attempt(false));
    await this.#checkAll();
    console.log(`graph ${this.#shape}: ${this.#kills} kills, ${JSON.stringify(this.#seen)}`);
  }

  /** Starts the runner and, with `disturbed`, does to it what can be done. True where the run ended. */
  async #attempt(disturbed: boolean): Promise<boolean> {
    const random = this.#random;
    const run: CrashRun = {
      shape: this.#shape,
      seed: this.#seed,
      faults: Math.floor(random() * 1e6),
      failing: disturbed && random() < 0.3 ? 0.03 : 0,
      jumps: disturbed && random() < 0.5,
      folder: this.#folder,
    };
    if (disturbed && random() < 0.15) await this.#flipBit();
    if (disturbed && random() < 0.15) await this.#fillDisk();
    const runner = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", main, "pipeline"],
      cwd: this.#folder,
      env: { CRASH_RUN: JSON.stringify(run) },
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const log = new Response(runner.stderr).text();
    const ended = runner.status.then(() => true);
    // Most of what happens happens early, and a run that goes on has more to lose later.
    for (let wait = 60 + random() * 500; disturbed; wait = random() * 300) {
      if (await Promise.race([ended, pause(wait)])) break;
      if (random() < 0.2) await this.#collect();
      if (this.#full && random() < 0.5) await this.#freeDisk();
      if (await this.#strike(runner)) break;
    }
    const status = await runner.status;
    const said = await log;
    await this.#freeDisk();
    await this.#noOrphans();
    const killed = status.signal === "SIGKILL";
    if (!killed && status.code !== 0) {
      assert(disturbed, said);
      assert.equal(status.code, 1, said);
      assert.match(said, FAILURES);
      this.#seen.failures++;
    }
    // A runner may be killed when its run is done and it is about to exit: the run has ended then.
    const done = await this.#isDone();
    if (!killed) assert.equal(done, status.success, said);
    if (!done) return false;
    if (killed) this.#seen.killedAtEnd++;
    this.#seen.ends++;
    await this.#checkResults(this.#seed);
    this.#seed++;
    return true;
  }

  /** Whether the journal has the end of the run of the present seed. */
  async #isDone(): Promise<boolean> {
    const journal = openJournal(join(this.#folder, "journal.sqlite"), { readOnly: true });
    try {
      const runs = (await journal.runs()).filter((run) => run.seed === this.#seed);
      assert(runs.length <= 1, `${runs.length} runs of seed ${this.#seed}`);
      return runs[0]?.state === "done";
    } finally {
      await journal.close();
    }
  }

  /** Kills the runner, a stage or both; true where the runner was among them. */
  async #strike(runner: Deno.ChildProcess): Promise<boolean> {
    const random = this.#random;
    const children = childrenOf(runner.pid);
    const victim = ["runner", "stage", "both"][Math.floor(random() * 3)];
    if (victim !== "runner") {
      const child = children[Math.floor(random() * children.length)];
      if (child !== undefined && killIfThere(child) && victim === "stage") this.#kills++;
      if (victim === "stage") return false;
    }
    if (killIfThere(runner.pid)) this.#kills++;
    await runner.status;
    return true;
  }

  /** Everything that a runner started ends with it. */
  async #noOrphans(): Promise<void> {
    const end = performance.now() + 5_000;
    let left = processesNaming(this.#folder);
    while (left.length > 0 && performance.now() < end) {
      await pause(5);
      left = left.filter(isRunning);
    }
    assert.deepEqual(left, [], "processes outlived their runner");
  }

  async #collect(): Promise<void> {
    this.#seen.collections++;
    const journal = openJournal(join(this.#folder, "journal.sqlite"), { readOnly: true });
    try {
      await collectGarbage(new FolderStore(join(this.#folder, "store")), journal, { keepRuns: 1 });
    } catch (error) {
      if (!this.#full) throw error;
    } finally {
      await journal.close();
    }
  }

  async #flipBit(): Promise<void> {
    const blobs = join(this.#folder, "store", "blobs");
    const paths = Object.keys(await contents(blobs).catch(() => ({})));
    const path = paths[Math.floor(this.#random() * paths.length)];
    if (path === undefined) return;
    const file = join(blobs, path);
    const bytes = await Deno.readFile(file);
    const at = Math.floor(this.#random() * bytes.length);
    bytes[at]! ^= 1 << Math.floor(this.#random() * 8);
    await Deno.chmod(file, 0o644);
    await Deno.writeFile(file, bytes);
    this.#seen.flips++;
  }

  async #fillDisk(): Promise<void> {
    await this.#disk.fill();
    this.#full = true;
    this.#seen.full++;
  }

  async #freeDisk(): Promise<void> {
    if (!this.#full) return;
    await this.#disk.free();
    this.#full = false;
  }

  async #checkResults(seed: number): Promise<void> {
    const out = await contents(join(this.#folder, `out-${seed}`));
    assert.deepEqual(out, await this.#undisturbed(seed), `run ${seed} of graph ${this.#shape}`);
  }

  async #checkAll(): Promise<void> {
    const journal = openJournal(join(this.#folder, "journal.sqlite"));
    const store = new FolderStore(join(this.#folder, "store"));
    try {
      const runs = await journal.runs();
      assert.equal(runs.length, this.#seed, "a run for each seed");
      for (const { id, state } of runs) {
        assert.equal(state, "done");
        const events = await journal.events(id, { limit: 100_000 });
        assert.deepEqual(events.map((event) => event.seq), events.map((_, i) => i + 1));
        const started = new Set<string>();
        for (const event of events as EventBody[]) {
          if (event.type === "stage.started") started.add(event.stage);
          if (event.type === "stage.done") assert(started.delete(event.stage), "done unasked");
        }
      }
      for (let seed = 0; seed < this.#seed; seed++) await this.#checkResults(seed);
      await collectGarbage(store, journal, { keepRuns: 1_000 });
      // A bit may have flipped in what no later run has used: that is found, too.
      const { problems } = await verifyStore(store);
      assert(problems.length <= this.#seen.flips * 2, problems.join("\n"));
      await collectGarbage(store, journal, { keepRuns: 1_000 });
      for (const place of ["tmp", "work", "scratch", "corrupt"]) {
        const left = await contents(join(store.location, place)).catch(() => ({}));
        assert.deepEqual(left, {}, `left in ${place}`);
      }
      const known = ["blobs", "artifacts", "records", "collect.lock", "tmp", "work"];
      for await (const { name } of Deno.readDir(store.location)) assert(known.includes(name), name);
    } finally {
      await journal.close();
    }
  }

  async #undisturbed(seed: number): Promise<Record<string, string>> {
    let expected = this.#expected.get(seed);
    if (expected !== undefined) return expected;
    const folder = await Deno.makeTempDir({ prefix: "calm-" });
    const store = new FolderStore(join(folder, "store"));
    const journal = openJournal(join(folder, "journal.sqlite"));
    try {
      const params = { shape: this.#shape, stepMilliseconds: 0 };
      const executor = inlineExecutor(stages, store);
      const out = join(folder, "out");
      await runWorkflow(generated as never, params, { store, journal, executor, out, seed });
      expected = await contents(out);
    } finally {
      await journal.close();
      await Deno.remove(folder, { recursive: true });
    }
    this.#expected.set(seed, expected);
    return expected;
  }
}

function pause(milliseconds: number): Promise<false> {
  return new Promise((resolve) => setTimeout(() => resolve(false), milliseconds));
}
