import assert from "node:assert/strict";
import { join } from "node:path";
import { inlineExecutor } from "./executors/inline.ts";
import type { GraphRecord } from "./events.ts";
import type { Journal } from "./journal.ts";
import { openJournal } from "./journal_open.ts";
import { journalHandler } from "./journal_serve.ts";
import { thisOwner } from "./owner.ts";
import { runWorkflow } from "./runner.ts";
import { withFixture, workflowOf } from "./testing/fixture.ts";
import { generator } from "./testing/generated.ts";
import { mix, stages } from "./testing/stages.ts";

const graph: GraphRecord = { nodes: [{ id: "a", stage: "s", inputs: [], params: {} }] };
const started = {
  type: "run.started",
  workflow: "w",
  params: {},
  seed: 0,
  graph,
  out: "o",
} as const;

type Handler = (request: Request) => Promise<Response>;

/** A journal in a file and the same journal over HTTP; `around` may get in between. */
async function withServer(
  body: (place: { far: Journal; near: Journal; url: string; path: string }) => Promise<void>,
  around: (handler: Handler) => Handler = (handler) => handler,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "journal.sqlite");
  const near = openJournal(path);
  const handler = around(journalHandler(near, { token: "secret" }));
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, handler);
  const url = `http://127.0.0.1:${server.addr.port}/journal`;
  Deno.env.set("OREO_JOURNAL_TOKEN", "secret");
  const far = openJournal(url);
  try {
    await body({ far, near, url, path });
  } finally {
    Deno.env.delete("OREO_JOURNAL_TOKEN");
    await far.close();
    await server.shutdown();
    await near.close();
    await Deno.remove(folder, { recursive: true });
  }
}

function test(name: string, fn: () => Promise<void>) {
  // The client keeps connections open for its next request.
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });
}

test("a run on a machine that sees only the HTTP address is as one beside the file", async () => {
  await withServer(async ({ far, near }) => {
    await withFixture(async ({ store, folder }) => {
      const workflow = workflowOf((w) => {
        const a = w.stage("a", mix, { params: { steps: 3 }, inputs: { rest: [] } });
        w.stage("b", mix, { inputs: { rest: [a.outputs.text] } });
      });
      const executor = inlineExecutor(stages, store);
      const out = join(folder, "out");
      const { run } = await runWorkflow(workflow, {}, { store, journal: far, executor, out });
      assert.equal((await near.run(run))?.state, "done");
      assert.deepEqual(await far.run(run), await near.run(run));
      assert.deepEqual(await far.runs({ workflow: "w" }), await near.runs({ workflow: "w" }));
      assert.deepEqual(await far.runs({ workflow: "v" }), []);
      assert.deepEqual(await far.events(run), await near.events(run));
      const some = { types: ["stage.done", "stage.metric"], stage: "a", afterSeq: 4 } as const;
      assert.deepEqual(await far.events(run, some), await near.events(run, some));
      assert.deepEqual(await far.metrics(run, "a"), await near.metrics(run, "a"));
      assert.equal((await far.metrics(run, "a")).length, 3);
      const followed = await Array.fromAsync(far.follow(run));
      assert.deepEqual(followed, await near.events(run));
      assert.equal(await far.run("none"), undefined);
    });
  });
});

test("nothing is told or taken without the token", async () => {
  await withServer(async ({ far, url }) => {
    Deno.env.set("OREO_JOURNAL_TOKEN", "guess");
    await assert.rejects(far.runs(), /refused the token; set OREO_JOURNAL_TOKEN/);
    await assert.rejects(far.claim({ newRun: "r", fingerprint: "f" }, thisOwner()), /the token/);
    const bare = await fetch(`${url}/runs`);
    assert.equal(bare.status, 401);
    await bare.body?.cancel();
  });
});

test("what is no journal, or no request of one, is told as such", async () => {
  await withServer(async ({ url }) => {
    const elsewhere = openJournal(url.replace("/journal", "/elsewhere"));
    await assert.rejects(elsewhere.runs(), /nothing is there/);
    const headers = { authorization: "Bearer secret" };
    const post = async (path: string, body: string) => {
      const response = await fetch(`${url}/${path}`, { method: "POST", headers, body });
      return [response.status, (await response.json()).error.code];
    };
    assert.deepEqual(await post("claims", "{"), [400, "bad_request"]);
    assert.deepEqual(await post("claims", "{}"), [400, "bad_request"]);
    const event = { ...started, v: 1, run: "other", seq: 1, time: 0 };
    const mixed = JSON.stringify({ fence: 1, events: [event] });
    assert.deepEqual(await post("runs/r/events", mixed), [400, "bad_request"]);
    const own = JSON.stringify({ fence: 1, events: [{ ...event, run: "r" }] });
    assert.deepEqual(await post("runs/r/events", own), [409, "lease_lost"]);
  });
});

test("a holder whose lease was taken over can write no more", async () => {
  await withServer(async ({ far, near }) => {
    const first = await far.claim({ newRun: "x", fingerprint: "x" }, thisOwner());
    assert(first.state === "granted");
    first.writer.append(started);
    await first.writer.flush();
    const held = await far.claim({ newRun: "y", fingerprint: "x" }, thisOwner());
    assert(held.state === "held");
    const second = await near.claim({ newRun: "y", fingerprint: "x" }, thisOwner(), held);
    assert(second.state === "granted");
    first.writer.append({ type: "run.done", seconds: 0, values: {} });
    await assert.rejects(first.writer.flush(), /run x is held no more|taken over run x/);
    assert.equal(first.writer.lost.aborted, true);
    assert.equal((await near.events("x")).length, 1);
    await second.writer.close();
  });
});

test("a run far away is cancelled from beside the file, and the other way round", async () => {
  await withServer(async ({ far, near }) => {
    for (const [run, holder, other] of [["a", far, near], ["b", near, far]] as const) {
      const claim = await holder.claim({ newRun: run, fingerprint: run }, thisOwner());
      assert(claim.state === "granted");
      claim.writer.append(started);
      await claim.writer.beat();
      assert.equal(claim.writer.cancelRequested.aborted, false);
      await other.requestCancel(run);
      await claim.writer.beat();
      assert.equal(claim.writer.cancelRequested.aborted, true);
      await claim.writer.close();
    }
  });
});

test("no event is lost or doubled when requests and answers get lost", async () => {
  const random = generator(5);
  const lossy = (handler: Handler): Handler => async (request) => {
    const luck = random();
    if (luck < 0.1) return new Response("try later", { status: 503 });
    const answer = await handler(request);
    if (luck > 0.9) throw new Error("the answer is lost");
    return answer;
  };
  const quiet = (handler: Handler): Handler => async (request) => {
    try {
      return await lossy(handler)(request);
    } catch {
      return new Response("bad gateway", { status: 502 });
    }
  };
  await withServer(async ({ far, near }) => {
    let claim = await far.claim({ newRun: "z", fingerprint: "z" }, thisOwner()).catch(() =>
      undefined
    );
    claim ??= await near.claim({ newRun: "z", fingerprint: "z" }, thisOwner());
    assert(claim.state === "granted");
    const { writer } = claim;
    writer.append(started);
    for (let step = 1; step <= 60; step++) {
      writer.append({ type: "stage.progress", stage: "a", attempt: 1, done: step, total: 60 });
      if (step % 2 === 0) await writer.flush();
    }
    writer.append({ type: "run.done", seconds: 1, values: {} });
    await writer.flush();
    const events = await near.events("z");
    assert.deepEqual(events.map((event) => event.seq), Array.from({ length: 62 }, (_, i) => i + 1));
    const detail = await near.run("z");
    assert.equal(detail?.state, "done");
    assert.equal(detail.stages[0]?.progress?.done, 60);
  }, quiet);
});

test("a second server on the same journal goes on where the first was", async () => {
  await withServer(async ({ far, near, path }) => {
    const claim = await far.claim({ newRun: "s", fingerprint: "s" }, thisOwner());
    assert(claim.state === "granted");
    const { run, fence } = claim.writer;
    const event = (seq: number) =>
      ({
        type: "stage.progress",
        stage: "a",
        attempt: 1,
        done: seq,
        total: 9,
        v: 1,
        run,
        seq,
        time: 0,
      }) as const;
    await far.accept(run, fence, [{ ...started, v: 1, run, seq: 1, time: 0 }, event(2)]);
    const other = openJournal(path);
    await other.accept(run, fence, [event(2), event(3)]);
    await assert.rejects(
      far.accept(run, fence, [event(6)]),
      /last event is 3, and the next one sent is 6/,
    );
    await far.accept(run, fence, [event(4)]);
    assert.deepEqual((await near.events(run)).map((one) => one.seq), [1, 2, 3, 4]);
    await other.release(run, fence);
    const next = await other.claim({ newRun: "t", fingerprint: "s" }, thisOwner());
    assert(next.state === "granted");
    assert.deepEqual([next.writer.run, next.writer.fence], [run, fence + 1]);
    await assert.rejects(far.accept(run, fence, [event(5)]), /taken over run s/);
    await other.close();
  });
});
