import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { resumeRunCommand } from "./cli.ts";
import { onlyNode } from "./only.ts";
import { planGraph } from "./plan.ts";
import type { RunOptions } from "./run_options.ts";
import { runGraph } from "./runner.ts";
import { inlineExecutor } from "./executors/inline.ts";
import { contents, type Fixture, withFixture, workflowOf } from "./testing/fixture.ts";
import { misbehave, mix, pass, stages, text } from "./testing/stages.ts";
import { type ArtifactRef, buildGraph, type Workflow } from "./workflow.ts";

/** a, then b and c from it, then d from both; d's output is the result. */
const diamond = workflowOf((w) => {
  const a = w.stage("a", mix, { params: { text: "a" }, inputs: { rest: [] } });
  const b = w.stage("b", mix, { inputs: { first: a.outputs.text, rest: [] } });
  const c = w.stage("c", mix, { inputs: { first: a.outputs.text, rest: [] } });
  const d = w.stage("d", mix, { inputs: { rest: [b.outputs.text, c.outputs.text] } });
  w.output("result", d.outputs.text);
  w.value("length", d, "length");
  w.value("length of a", a, "length");
});

function alone(
  { store, journal, folder }: Fixture,
  workflow: Workflow,
  id: string,
  options: Partial<RunOptions> = {},
) {
  return runGraph(onlyNode(buildGraph(workflow, {}, 0), id), {
    store,
    journal,
    executor: inlineExecutor(stages, store),
    out: join(folder, "out"),
    backoff: () => 1,
    ...options,
  });
}

const refused = (message: RegExp) => (error: Error) => {
  assert(error instanceof UserError);
  assert.equal(error.exitCode, 2);
  assert.match(error.message, message);
  return true;
};

Deno.test("stages run one by one make what the whole workflow makes, and then it has nothing to do", async () => {
  let whole: Record<string, string> = {};
  await withFixture(async ({ run, folder }) => {
    await run(diamond);
    whole = await contents(join(folder, "out"));
  });
  await withFixture(async (fixture) => {
    const out = join(fixture.folder, "out");
    for (const [id, cached] of [["a", 0], ["b", 1], ["c", 1]] as const) {
      const result = await alone(fixture, diamond, id);
      assert.equal(result.ran, 1);
      assert.equal(result.cached, cached);
      assert.deepEqual(result.artifacts, {});
      assert.deepEqual(Object.keys(result.values), ["length of a"]);
      await assert.rejects(Deno.stat(out), Deno.errors.NotFound);
    }
    const last = await alone(fixture, diamond, "d");
    assert.equal(last.ran, 1);
    assert.deepEqual(last.values, { length: 4, "length of a": 2 });
    assert.deepEqual(await contents(out), whole);
    const all = await fixture.run(diamond);
    assert.equal(all.ran, 0);
    assert.deepEqual(await contents(out), whole);
  });
});

Deno.test("a stage that the store has does nothing", async () => {
  await withFixture(async (fixture) => {
    await fixture.run(diamond);
    const again = await alone(fixture, diamond, "b");
    assert.equal(again.ran, 0);
    assert.deepEqual((await fixture.events()).map((event) => event.type), [
      "run.started",
      "stage.cached",
      "stage.cached",
      "run.done",
    ]);
  });
});

Deno.test("an input that is not in the store names the stage to run first, and nothing is written", async () => {
  await withFixture(async (fixture) => {
    await assert.rejects(
      alone(fixture, diamond, "d"),
      refused(/only 'd': what 'a' makes is not in the store .*; run 'a' first, then 'b', 'c' \(--/),
    );
    await alone(fixture, diamond, "a");
    await alone(fixture, diamond, "b");
    await assert.rejects(
      alone(fixture, diamond, "d"),
      refused(/what 'c' makes is not in the store .*; run 'c' first \(--/),
    );
    assert.equal((await fixture.journal.runs()).length, 2);
  });
});

Deno.test("an unknown stage gets the nearest right name", () => {
  const graph = buildGraph(
    workflowOf((w) => {
      for (const id of ["train.1", "train.2", "sample.1"]) {
        w.stage(id, mix, { inputs: { rest: [] } });
      }
    }),
    {},
    0,
  );
  assert.throws(
    () => onlyNode(graph, "trian.2"),
    refused(/unknown stage of workflow 'w' 'trian.2': did you mean 'train.2'\? Known: train.1, /),
  );
});

Deno.test("imported files are taken in where they are needed, and only there", async () => {
  await withFixture(async (fixture) => {
    const file = join(fixture.folder, "text");
    await Deno.writeTextFile(file, "mine");
    const workflow = workflowOf((w) => {
      const input: ArtifactRef<typeof text> = w.import("file", text, file);
      w.import("other", text, join(fixture.folder, "not there"));
      const copy = w.stage("copy", pass, { inputs: { text: input } });
      w.stage("again", pass, { inputs: { text: copy.outputs.text } });
    });
    await assert.rejects(alone(fixture, workflow, "again"), refused(/run 'copy' first/));
    assert.equal((await alone(fixture, workflow, "copy")).ran, 1);
    await assert.rejects(alone(fixture, workflow, "other"), refused(/no such file or folder/));
    await Deno.writeTextFile(file, "changed");
    await assert.rejects(alone(fixture, workflow, "again"), refused(/run 'copy' first/));
    await alone(fixture, workflow, "copy");
    assert.equal((await alone(fixture, workflow, "again")).ran, 1);
  });
});

Deno.test("a condition looks at stages run earlier, and its stage may be skipped", async () => {
  await withFixture(async (fixture) => {
    const workflow = workflowOf((w) => {
      const a = w.stage("a", mix, { inputs: { rest: [] } });
      const when = { of: [a], test: () => false, otherwise: "not worth it" };
      const b = w.stage("b", mix, { inputs: { rest: [] }, when });
      w.stage("c", pass, { inputs: { text: b.outputs.text } });
    });
    await assert.rejects(alone(fixture, workflow, "c"), refused(/run 'a' first/));
    await alone(fixture, workflow, "a");
    const { ran } = await alone(fixture, workflow, "c");
    assert.equal(ran, 0);
    const skipped = (await fixture.events()).filter((event) => event.type === "stage.skipped");
    assert.deepEqual(skipped.map((event) => "stage" in event && event.stage), ["b", "c"]);
  });
});

Deno.test("a failed stage goes on in a run of its own, apart from that of the whole workflow", async () => {
  await withFixture(async (fixture) => {
    const workflow = workflowOf((w) => {
      const a = w.stage("a", mix, { inputs: { rest: [] } });
      w.stage("m", misbehave, { params: { how: "fail" }, inputs: { first: a.outputs.text } });
    });
    await assert.rejects(fixture.run(workflow), /stage 'm' failed/);
    const first = await alone(fixture, workflow, "m");
    const runs = await fixture.journal.runs();
    assert.equal(runs.length, 2);
    const [part, whole] = runs[0]!.id === first.run ? runs : [runs[1], runs[0]];
    assert.equal(part?.only, "m");
    assert.equal(whole?.only, undefined);
    assert.equal(whole?.state, "failed");
  });
});

Deno.test("a resumed run of one stage is still of that stage", async () => {
  await withFixture(async (fixture) => {
    const w = workflowOf((w) => {
      const m = w.stage("m", misbehave, { params: { how: "fail" } });
      const last = w.stage("last", pass, { inputs: { text: m.outputs.text } });
      w.output("result", last.outputs.text);
    });
    await assert.rejects(alone(fixture, w, "m"), /it went wrong/);
    const [failed] = await fixture.journal.runs();
    const place = {
      store: fixture.store.location,
      journal: join(fixture.folder, "journal.sqlite"),
      executor: "inline",
    };
    const program = { workflows: { w }, stages, main: import.meta.url };
    const resumed = await resumeRunCommand(failed!.id, place, program);
    assert.equal(resumed.ran, 1);
    assert.deepEqual((await fixture.journal.run(failed!.id))?.stages.map(({ id }) => id), ["m"]);
  });
});

Deno.test("an input found damaged is made again", async () => {
  await withFixture(async (fixture) => {
    await alone(fixture, diamond, "a");
    for await (const entry of Deno.readDir(join(fixture.store.location, "blobs"))) {
      const folder = join(fixture.store.location, "blobs", entry.name);
      for (const [name, content] of Object.entries(await contents(folder))) {
        await Deno.chmod(join(folder, name), 0o644);
        await Deno.writeTextFile(join(folder, name), content.replaceAll(/./g, "x"));
      }
    }
    const result = await alone(fixture, diamond, "b");
    assert.equal(result.ran, 2);
    assert.deepEqual(Object.keys(result.values), ["length of a"]);
  });
});

Deno.test("a plan of one stage tells of no others", async () => {
  await withFixture(async ({ store }) => {
    const plan = await planGraph(onlyNode(buildGraph(diamond, {}, 0), "b"), { store });
    assert.deepEqual(plan.map(({ id, state }) => [id, state]), [["a", "run"], ["b", "unknown"]]);
  });
});
