import assert from "node:assert/strict";
import { statfsSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type Event, eventSchema, type GraphRecord } from "./events.ts";
import type { Journal, RunWriter } from "./journal.ts";
import { JOURNAL_VERSION } from "./journal_schema.ts";
import { openJournal } from "./journal_open.ts";
import { QueuedWriter } from "./journal_queue.ts";
import { thisOwner } from "./owner.ts";
import { withSmallDisk } from "./testing/small_disk.ts";

const graph: GraphRecord = {
  nodes: [
    { id: "a", stage: "make", inputs: [], params: { size: 1 } },
    { id: "b", stage: "use", inputs: ["a"], params: {} },
  ],
};

async function withJournal(body: (journal: Journal, path: string) => Promise<void>) {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "deep", "journal.sqlite");
  const journal = openJournal(path);
  try {
    await body(journal, path);
  } finally {
    await journal.close();
    await Deno.remove(folder, { recursive: true });
  }
}

async function granted(journal: Journal, newRun: string, fingerprint = "f"): Promise<RunWriter> {
  const result = await journal.claim({ newRun, fingerprint }, thisOwner());
  assert(result.state === "granted");
  return result.writer;
}

function start(writer: RunWriter) {
  writer.append({ type: "run.started", workflow: "w", params: {}, seed: 1, graph, out: "o" });
}

Deno.test("a run's summary follows its events", async () => {
  await withJournal(async (journal, path) => {
    const writer = await granted(journal, "r1");
    start(writer);
    writer.append({ type: "stage.started", stage: "a", attempt: 1, key: "k" });
    writer.append({ type: "stage.progress", stage: "a", attempt: 1, done: 1, total: 4 });
    writer.append({ type: "stage.metric", stage: "a", attempt: 1, step: 3, values: { loss: 0.5 } });
    await writer.flush();

    const reader = openJournal(path, { readOnly: true });
    const running = await reader.run("r1");
    assert.equal(running?.state, "running");
    assert.equal(running.counts.running, 1);
    assert.equal(running.counts.waiting, 1);
    assert.equal(running.stages[0]?.progress?.total, 4);
    assert.deepEqual(running.stages[0]?.lastMetric, { step: 3, values: { loss: 0.5 } });

    writer.append({
      type: "stage.done",
      stage: "a",
      attempt: 1,
      key: "k",
      artifacts: { out: "x" },
      values: { n: 2 },
      seconds: 0.5,
    });
    writer.append({ type: "stage.skipped", stage: "b", reason: "not needed" });
    writer.append({ type: "run.done", seconds: 1, values: { best: 2 } });
    await writer.close();
    const done = (await reader.runs())[0];
    assert.equal(done?.state, "done");
    assert.deepEqual(done.values, { best: 2 });
    assert.equal(done.counts.done + done.counts.skipped, 2);
    for (const event of await reader.events("r1")) eventSchema.parse(event);
    await reader.close();
  });
});

Deno.test("events are filtered by sequence, stage and type", async () => {
  await withJournal(async (journal) => {
    const writer = await granted(journal, "r");
    start(writer);
    for (let step = 0; step < 5; step++) {
      writer.append({ type: "stage.metric", stage: "a", attempt: 1, step, values: { x: step } });
      writer.append({ type: "stage.log", stage: "b", attempt: 1, text: `${step}`, level: "info" });
    }
    await writer.flush();
    const events = await journal.events("r", { afterSeq: 5, stage: "b", types: ["stage.log"] });
    assert.deepEqual(events.map((event) => event.seq), [7, 9, 11]);
    assert.equal((await journal.events("r", { limit: 2 })).length, 2);
  });
});

Deno.test("a step drawn again after a kill counts once", async () => {
  await withJournal(async (journal) => {
    const writer = await granted(journal, "r");
    start(writer);
    for (const [attempt, step] of [[1, 1], [1, 2], [2, 2], [2, 3]] as const) {
      writer.append({ type: "stage.metric", stage: "a", attempt, step, values: { x: attempt } });
    }
    await writer.flush();
    const points = await journal.metrics("r", "a");
    assert.deepEqual(points.map((p) => [p.step, p.values["x"]]), [[1, 1], [2, 2], [3, 2]]);
  });
});

Deno.test("of many points, about as many as asked for are chosen, of every curve", async () => {
  await withJournal(async (journal) => {
    const writer = await granted(journal, "r");
    start(writer);
    for (let step = 0; step < 2_000; step++) {
      const stage = step % 2 === 0 ? "a" : "b";
      writer.append({ type: "stage.metric", stage, attempt: 1, step, values: { x: step } });
    }
    await writer.flush();
    assert.equal((await journal.metrics("r", "a")).length, 1_000);
    assert.equal((await journal.metrics("r", "a", { maxPoints: 1_000 })).length, 1_000);
    const some = await journal.metrics("r", undefined, { maxPoints: 200 });
    assert(some.length > 150 && some.length < 250, String(some.length));
    const ofA = some.filter((point) => point.stage === "a").length;
    assert(ofA > 70 && ofA < 130, String(ofA));
    assert.deepEqual(await journal.metrics("r", undefined, { maxPoints: 200 }), some);
  });
});

Deno.test("following a run yields events as they come and ends with it", async () => {
  await withJournal(async (journal, path) => {
    const writer = await granted(journal, "r");
    const reader = openJournal(path, { readOnly: true });
    const seen: string[] = [];
    const following = (async () => {
      for await (const event of reader.follow("r")) {
        seen.push(event.type);
        if (event.type === "run.started") {
          writer.append({ type: "run.done", seconds: 0, values: {} });
        }
      }
    })();
    start(writer);
    await following;
    assert.deepEqual(seen, ["run.started", "run.done"]);
    await writer.close();
    await reader.close();
  });
});

Deno.test("following ends when its signal aborts", async () => {
  await withJournal(async (journal) => {
    const writer = await granted(journal, "r");
    start(writer);
    const stop = new AbortController();
    for await (const _ of journal.follow("r", 0, stop.signal)) stop.abort();
  });
});

Deno.test("a run in progress is held; a finished one makes place for a new run", async () => {
  await withJournal(async (journal) => {
    const writer = await granted(journal, "r1");
    start(writer);
    await writer.flush();
    const second = await journal.claim({ newRun: "r2", fingerprint: "f" }, thisOwner());
    assert.equal(second.state, "held");
    const other = await granted(journal, "r3", "another fingerprint");
    assert.equal(other.run, "r3");
    writer.append({ type: "run.done", seconds: 0, values: {} });
    await writer.close();
    assert.equal((await granted(journal, "r4")).run, "r4");
  });
});

Deno.test("a run that failed is taken up again with what it had", async () => {
  await withJournal(async (journal) => {
    const first = await granted(journal, "r1");
    start(first);
    first.append({ type: "stage.started", stage: "a", attempt: 1, key: "k" });
    first.append({ type: "run.failed", message: "no" });
    await first.close();
    assert.equal((await journal.run("r1"))?.stages[0]?.state, "cancelled");
    const again = await granted(journal, "r2");
    assert.equal(again.run, "r1");
    assert.equal(again.resumed, true);
    assert.equal(again.stages.get("a")?.attempt, 1);
    again.append({ type: "run.resumed", graph, out: "o" });
    await again.flush();
    const run = await journal.run("r1");
    assert.equal(run?.state, "running");
    assert.equal(run.message, undefined);
    assert.equal(run.stages[0]?.state, "waiting");
  });
});

Deno.test("a runner whose lease was taken over can write no more", async () => {
  await withJournal(async (journal) => {
    const first = await granted(journal, "r1");
    start(first);
    await first.flush();
    const held = await journal.claim({ newRun: "r2", fingerprint: "f" }, thisOwner());
    assert(held.state === "held");
    const taken = await journal.claim({ newRun: "r2", fingerprint: "f" }, thisOwner(), held);
    assert(taken.state === "granted");
    first.append({ type: "run.done", seconds: 1, values: {} });
    await assert.rejects(first.flush(), /another runner has taken over run r1/);
    assert.equal(first.lost.aborted, true);
    taken.writer.append({ type: "run.resumed", graph, out: "o" });
    await taken.writer.close();
    const types = (await journal.events("r1")).map((event) => event.type);
    assert.deepEqual(types, ["run.started", "run.resumed"]);
  });
});

Deno.test("a claim of a process that has died is granted at once", async () => {
  await withJournal(async (journal) => {
    const dead = { ...thisOwner(), pid: 2 ** 22 + 1, birth: "1" };
    const first = await journal.claim({ newRun: "r1", fingerprint: "f" }, dead);
    assert(first.state === "granted");
    start(first.writer);
    await first.writer.flush();
    assert.equal((await journal.run("r1"))?.state, "interrupted");
    assert.equal((await granted(journal, "r2")).run, "r1");
  });
});

Deno.test("a runner killed between its run's end and its own leaves a run that is done", async () => {
  await withJournal(async (journal) => {
    const dead = { ...thisOwner(), pid: 2 ** 22 + 1, birth: "1" };
    const first = await journal.claim({ newRun: "r1", fingerprint: "f" }, dead);
    assert(first.state === "granted");
    start(first.writer);
    first.writer.append({ type: "run.done", seconds: 1, values: {} });
    await first.writer.flush(); // and never gives the lease back
    assert.equal((await journal.run("r1"))?.state, "done");
    const second = await granted(journal, "r2");
    assert.equal(second.run, "r2");
    assert.equal(second.resumed, false);
    assert.deepEqual((await journal.events("r1")).map(({ type }) => type), [
      "run.started",
      "run.done",
    ]);
  });
});

Deno.test("a lease that cannot be given back does not undo what was written; a write does", async () => {
  const full = () => Promise.reject(new Error("database or disk is full"));
  class Writer extends QueuedWriter {
    readonly written: string[] = [];
    readonly #writes: boolean;
    constructor(writes: boolean) {
      super({ run: "r", fence: 1, record: undefined, stages: [] });
      this.#writes = writes;
    }
    protected override isPassing = () => false;
    protected override hold = () => Promise.resolve();
    protected override release = full;
    protected override async write(events: readonly Event[]) {
      if (!this.#writes) await full();
      this.written.push(...events.map(({ type }) => type));
    }
  }
  const [good, bad] = [new Writer(true), new Writer(false)];
  for (const writer of [good, bad]) {
    start(writer);
    writer.append({ type: "run.done", seconds: 1, values: {} });
  }
  await good.close();
  assert.deepEqual(good.written, ["run.started", "run.done"]);
  await assert.rejects(bad.close(), /disk is full/);
});

Deno.test("a journal that does not exist yet reads as empty and is seen when it comes", async () => {
  await withJournal(async (journal, path) => {
    const reader = openJournal(path, { readOnly: true });
    assert.deepEqual(await reader.runs(), []);
    assert.equal(await reader.run("r"), undefined);
    const writer = await granted(journal, "r");
    start(writer);
    await writer.flush();
    assert.equal((await reader.runs()).length, 1);
    await reader.close();
  });
});

Deno.test("a file that is no journal, or one of a later version, is refused by name", async () => {
  await withJournal(async (_, path) => {
    const folder = join(path, "..", "..");
    const text = join(folder, "text");
    await Deno.writeTextFile(text, "this is not a database, however long it may be".repeat(20));
    await assert.rejects(openJournal(text).runs(), /opening the journal .*text: /);
    const later = join(folder, "later.sqlite");
    const file = new DatabaseSync(later);
    file.exec("pragma user_version = 99");
    file.close();
    await assert.rejects(openJournal(later, { readOnly: true }).runs(), /has version 99/);
  });
});

Deno.test("a full disk is told by that name, whatever SQLite calls it", async () => {
  await withSmallDisk(1 << 20, async (disk) => {
    const path = join(disk.folder, "journal.sqlite");
    const writable = openJournal(path);
    await writable.requestCancel("none");
    await writable.close();
    await disk.fill();
    const journal = openJournal(path, { readOnly: true });
    if (statfsSync(disk.folder).bavail === 0) {
      await assert.rejects(journal.runs(), /journal .*: the disk is full\. Make room/);
    } else assert.deepEqual(await journal.runs(), []);
    await journal.close();
    await disk.free();
    const again = openJournal(path, { readOnly: true });
    assert.deepEqual(await again.runs(), []);
    await again.close();
  });
});

Deno.test("all that is shown about runs can be made again from their events", async () => {
  await withJournal(async (journal, path) => {
    const failed = await granted(journal, "r1");
    start(failed);
    failed.append({ type: "stage.started", stage: "a", attempt: 1, key: "k" });
    failed.append({ type: "stage.progress", stage: "a", attempt: 1, done: 1, total: 4 });
    failed.append({ type: "run.failed", message: "no" });
    await failed.close();
    const resumed = await granted(journal, "r2");
    resumed.append({ type: "run.resumed", graph, out: "o2" });
    resumed.append({
      type: "stage.cached",
      stage: "a",
      key: "k",
      artifacts: { out: "x" },
      values: { n: 2 },
    });
    resumed.append({ type: "stage.skipped", stage: "b", reason: "not needed" });
    resumed.append({ type: "run.done", seconds: 1, values: { best: 2 } });
    await resumed.close();
    const going = await granted(journal, "r3");
    start(going);
    going.append({ type: "stage.started", stage: "a", attempt: 1, key: "k" });
    going.append({ type: "stage.metric", stage: "a", attempt: 1, step: 3, values: { loss: 1 } });
    await going.flush();
    const all = async () => [await journal.run("r1"), await journal.run("r3")];
    const before = await all();
    const file = new DatabaseSync(path);
    file.exec(`update runs set record = '{}' where run = 'r1'; delete from runs where run = 'r3';
      delete from stages where stage = 'a'; update stages set record = '{}', place = 9`);
    file.close();
    assert.notDeepEqual(await all(), before);
    assert.equal(await journal.rebuild(), 2);
    assert.deepEqual(await all(), before);
    // Its runner goes on as if nothing had been.
    going.append({ type: "stage.failed", stage: "a", attempt: 1, message: "x", retryable: true });
    await going.close();
    assert.equal((await journal.run("r3"))?.stages[0]?.state, "failed");
  });
});

Deno.test("there is a journal of every earlier version to test with", () => {
  const versions = Array.from(
    Deno.readDirSync(new URL("./testing", import.meta.url)),
    ({ name }) => /^journal_v(\d+)\.sql$/.exec(name)?.[1],
  ).filter((version) => version !== undefined).map(Number).sort((a, b) => a - b);
  assert.deepEqual(versions, Array.from({ length: JOURNAL_VERSION - 1 }, (_, i) => i + 1));
});

for (let version = 1; version < JOURNAL_VERSION; version++) {
  Deno.test(`a journal of version ${version} is brought up to date with all it holds`, async () => {
    await withJournal(async (_, path) => {
      const old = join(path, "..", "..", "old.sqlite");
      const file = new DatabaseSync(old);
      file.exec(
        await Deno.readTextFile(new URL(`./testing/journal_v${version}.sql`, import.meta.url)),
      );
      file.close();
      const reader = openJournal(old, { readOnly: true });
      assert.equal((await reader.run("w-1"))?.stages[0]?.state, "failed");
      await reader.close();
      const journal = openJournal(old);
      const writer = await granted(journal, "w-2");
      assert.equal(writer.run, "w-1");
      writer.append({ type: "run.resumed", graph, out: "o" });
      await journal.requestCancel("w-1");
      await writer.beat();
      assert.equal(writer.cancelRequested.aborted, true);
      await writer.close();
      assert.equal((await journal.events("w-1")).length, 5);
      await journal.close();
    });
  });
}
