import assert from "node:assert/strict";
import { join } from "node:path";
import { collectGarbage, findArtifact, listArtifacts, verifyStore } from "./store_admin.ts";
import { contents, withFixture, workflowOf } from "./testing/fixture.ts";
import { mix } from "./testing/stages.ts";

const chain = (text: string, stepMilliseconds = 0) =>
  workflowOf((w) => {
    const a = w.stage("a", mix, { params: { text: "a" }, inputs: { rest: [] } });
    const params = { text, steps: 3, stepMilliseconds };
    const b = w.stage("b", mix, { params, inputs: { rest: [a.outputs.text] } });
    w.output("b", b.outputs.text);
  });

Deno.test("collecting keeps what kept runs need and removes the rest", async () => {
  await withFixture(async ({ run, store, journal }) => {
    const first = await run(chain("one"));
    await run(chain("two"));
    const before = await listArtifacts(store);
    assert.equal(before.length, 6);
    const dry = await collectGarbage(store, journal, { keepRuns: 1, dryRun: true });
    assert.deepEqual([dry.artifacts, dry.records, dry.blobs], [2, 1, 2]);
    assert.equal((await listArtifacts(store)).length, 6);
    const collected = await collectGarbage(store, journal, { keepRuns: 1 });
    assert.deepEqual(collected, dry);
    assert.deepEqual((await verifyStore(store)).problems, []);
    assert.equal((await run(chain("two"))).ran, 0);
    const again = await run(chain("one"));
    assert.equal(again.ran, 1);
    assert.deepEqual(again.artifacts, first.artifacts);
    await collectGarbage(store, journal, { keepRuns: 0 });
    const left = await contents(store.location);
    assert.deepEqual(Object.keys(left), ["collect.lock"]);
  });
});

Deno.test("collecting all the time while a run goes on changes nothing for it", async () => {
  await withFixture(async ({ run, store, journal, folder }) => {
    await run(chain("calm"));
    const expected = await contents(join(folder, "out"));
    await Deno.remove(store.location, { recursive: true });
    await run(chain("other"));
    let going = true;
    const collecting = (async () => {
      while (going) await collectGarbage(store, journal, { keepRuns: 0 });
    })();
    const repaired = await run(chain("calm", 30));
    going = false;
    await collecting;
    assert.deepEqual(await contents(join(folder, "out")), expected);
    assert(repaired.ran <= 2);
    const [{ id }] = await journal.runs() as unknown as [{ id: string }];
    const failed = await journal.events(id, { types: ["stage.failed"] });
    assert.deepEqual(failed, []);
  });
});

Deno.test("verifying finds each damaged and missing file by name", async () => {
  await withFixture(async ({ run, store }) => {
    const result = await run(chain("one"));
    assert.deepEqual((await verifyStore(store)).problems, []);
    const { manifest } = await findArtifact(result.artifacts["b"]!.slice(0, 10), store);
    const { sha256 } = manifest.files["text"]!;
    const blob = join(store.location, "blobs", sha256.slice(0, 2), sha256.slice(2));
    await Deno.chmod(blob, 0o644);
    await Deno.writeTextFile(blob, "x");
    assert.match(
      (await verifyStore(store)).problems.join(),
      /^file text of artifact .* was damaged/,
    );
    assert.match(
      (await verifyStore(store)).problems.join(),
      /^file text of artifact .* is missing/,
    );
    assert.equal((await run(chain("one"))).ran, 1);
    assert.deepEqual((await verifyStore(store)).problems, []);
    await assert.rejects(findArtifact("zz", store), /unknown artifact 'zz'/);
    await assert.rejects(findArtifact("", store), /\d ids begin with it; give more digits/);
  });
});
