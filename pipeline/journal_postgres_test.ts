import assert from "node:assert/strict";
import type { GraphRecord } from "./events.ts";
import { inlineExecutor } from "./executors/inline.ts";
import { openJournal } from "./journal_open.ts";
import { JOURNAL_VERSION } from "./journal_schema.ts";
import { thisOwner } from "./owner.ts";
import { runWorkflow } from "./runner.ts";
import { withFixture, workflowOf } from "./testing/fixture.ts";
import { withPostgres } from "./testing/postgres.ts";
import { mix, stages } from "./testing/stages.ts";

const graph: GraphRecord = { nodes: [{ id: "a", stage: "s", inputs: [], params: {} }] };

Deno.test("a journal in Postgres serves runners and readers like one in a file", async (t) => {
  await withPostgres(async (server) => {
    await t.step("a database without a journal reads as empty", async () => {
      const reader = openJournal(server.url, { readOnly: true });
      assert.deepEqual(await reader.runs(), []);
      await reader.close();
    });

    for (let version = 1; version < JOURNAL_VERSION; version++) {
      await t.step(`a journal of version ${version} is brought up to date`, async () => {
        const { default: pg } = await import("pg");
        const name = `old${version}`;
        const file = new URL(`./testing/journal_v${version}.sql`, import.meta.url);
        const dump = (await Deno.readTextFile(file)).replace(/^PRAGMA.*$/m, "");
        const url = server.url.replace("/postgres?", `/${name}?`);
        for (
          const [database, text] of [
            [server.url, `create database ${name}`],
            [url, dump],
            [url, "create table journal_version (version integer not null)"],
            [url, `insert into journal_version values (${version})`],
          ] as const
        ) {
          const client = new pg.Client({ connectionString: database });
          await client.connect();
          await client.query(text);
          await client.end();
        }
        const reader = openJournal(url, { readOnly: true });
        assert.equal((await reader.run("w-1"))?.stages[0]?.state, "failed");
        await reader.close();
        const journal = openJournal(url);
        const claim = await journal.claim({ newRun: "w-2", fingerprint: "f" }, thisOwner());
        assert(claim.state === "granted");
        assert.equal(claim.writer.run, "w-1");
        claim.writer.append({ type: "run.resumed", graph, out: "o" });
        await journal.requestCancel("w-1");
        await claim.writer.beat();
        assert.equal(claim.writer.cancelRequested.aborted, true);
        await claim.writer.close();
        const before = await journal.run("w-1");
        assert.equal(await journal.rebuild(), 1);
        assert.deepEqual(await journal.run("w-1"), before);
        await journal.close();
      });
    }

    await t.step("a run goes through and is read back", async () => {
      await withFixture(async ({ store, folder }) => {
        const journal = openJournal(server.url);
        const reader = openJournal(server.url, { readOnly: true });
        const workflow = workflowOf((w) => {
          const a = w.stage("a", mix, { params: { steps: 3 }, inputs: { rest: [] } });
          w.stage("b", mix, { inputs: { rest: [a.outputs.text] } });
        });
        const executor = inlineExecutor(stages, store);
        const out = `${folder}/out`;
        const { run } = await runWorkflow(workflow, {}, { store, journal, executor, out });
        const found = await reader.run(run);
        assert.equal(found?.state, "done");
        assert.equal(found.counts.done, 2);
        assert.equal(typeof found.heartbeat, "number");
        assert.deepEqual((await reader.metrics(run, "a")).map((point) => point.step), [1, 2, 3]);
        const events = await reader.events(run);
        assert.deepEqual(events.map((event) => event.seq), events.map((_, i) => i + 1));
        await journal.close();
        await reader.close();
      });
    });

    await t.step("of many runners that claim one run at once, one gets it", async () => {
      const journals = Array.from({ length: 8 }, () => openJournal(server.url));
      const claims = await Promise.all(
        journals.map((journal, i) =>
          journal.claim({ newRun: `r${i}`, fingerprint: "same" }, thisOwner())
        ),
      );
      assert.equal(claims.filter((claim) => claim.state === "granted").length, 1);
      for (const claim of claims) if (claim.state === "granted") await claim.writer.close();
      for (const journal of journals) await journal.close();
    });

    await t.step("a runner whose lease was taken over can write no more", async () => {
      const journal = openJournal(server.url);
      const owner = thisOwner();
      const first = await journal.claim({ newRun: "x", fingerprint: "x" }, owner);
      assert(first.state === "granted");
      const held = await journal.claim({ newRun: "y", fingerprint: "x" }, thisOwner());
      assert(held.state === "held");
      assert.deepEqual(held.owner, owner);
      const second = await journal.claim({ newRun: "y", fingerprint: "x" }, thisOwner(), held);
      assert(second.state === "granted");
      await assert.rejects(first.writer.beat(), /another runner has taken over run x/);
      await second.writer.close();
      await journal.close();
    });

    await t.step(
      "a server that restarts is waited for, and no event is lost or doubled",
      async () => {
        const journal = openJournal(server.url);
        const claim = await journal.claim({ newRun: "z", fingerprint: "z" }, thisOwner());
        assert(claim.state === "granted");
        const { writer } = claim;
        writer.append({ type: "run.started", workflow: "w", params: {}, seed: 0, graph, out: "o" });
        await writer.flush();
        const restarted = server.restart();
        for (let step = 1; step <= 200; step++) {
          writer.append({ type: "stage.progress", stage: "a", attempt: 1, done: step, total: 200 });
          if (step % 10 === 0) await writer.flush();
        }
        await restarted;
        writer.append({ type: "run.done", seconds: 1, values: {} });
        await writer.flush();
        const events = await journal.events("z");
        assert.deepEqual(
          events.map((event) => event.seq),
          Array.from({ length: 202 }, (_, i) => i + 1),
        );
        assert.equal((await journal.run("z"))?.stages[0]?.progress?.done, 200);
        await writer.close();
        await journal.close();
      },
    );
  });
});

Deno.test("a server that is not there is told without the password", async () => {
  const journal = openJournal("postgres://me:secret@127.0.0.1:1/none");
  await assert.rejects(journal.runs(), (error) => {
    const { message } = error as Error;
    assert.match(
      message,
      /opening the journal postgres:\/\/me@127\.0\.0\.1:1\/none: .*ECONNREFUSED/,
    );
    assert(!message.includes("secret"));
    return true;
  });
});
