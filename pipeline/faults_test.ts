/**
 * Runs of generated graphs on a disk that fails and on a clock that jumps: whatever happens on the way,
 * the bytes at the end are those of an undisturbed run. FAULT_RUNS sets how many graphs (default 6).
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openJournal } from "./journal_open.ts";
import { collectGarbage, verifyStore } from "./store_admin.ts";
import { FolderStore } from "./store_folder.ts";
import { failingDisk } from "./testing/faults.ts";
import { contents, withFixture } from "./testing/fixture.ts";
import { generated, generator } from "./testing/generated.ts";
import { inlineExecutor } from "./executors/inline.ts";
import { stages } from "./testing/stages.ts";
import type { Workflow } from "./workflow.ts";

const runs = Number(Deno.env.get("FAULT_RUNS") ?? 6);

function workflowOfShape(shape: number): Workflow {
  const build: typeof generated.build = (w) => generated.build(w, { shape, stepMilliseconds: 0 });
  return { ...generated, build } as unknown as Workflow;
}

for (let i = 0; i < runs; i++) {
  const shape = 50_000 + i;
  Deno.test(`a run of graph ${shape} on a failing disk and a jumping clock ends the same`, async () => {
    await withFixture(async ({ run, folder }) => {
      const workflow = workflowOfShape(shape);
      await run(workflow, { out: join(folder, "calm") });
      const expected = await contents(join(folder, "calm"));

      const random = generator(shape);
      const realNow = Date.now;
      let offset = 0;
      Date.now = () => realNow() + offset;
      const journal = openJournal(join(folder, "journal2.sqlite"));
      try {
        let failures = 0;
        for (let done = false; !done;) {
          // The disk gets better in the end; the clock does not.
          const share = 0.06 * Math.max(0, 1 - failures / 60);
          const store = new FolderStore(
            join(folder, "store2"),
            failingDisk(random, share),
          );
          try {
            await run(workflow, {
              store,
              journal,
              executor: inlineExecutor(stages, store),
              out: join(folder, "out"),
              capacity: { slots: 2 },
              onEvent: () => offset = Math.floor((random() - 0.5) * 2 * 86_400_000),
            });
            done = true;
          } catch (error) {
            assert.match(String(error), /the disk is full|Input\/output error/);
            failures++;
          }
        }
        assert(failures > 0, "the disk never failed");
        assert.deepEqual(await contents(join(folder, "out")), expected);
        const sound = new FolderStore(join(folder, "store2"));
        assert.equal((await journal.runs())[0]?.state, "done");
        assert.equal((await journal.runs()).length, 1);
        await collectGarbage(sound, journal, { keepRuns: 1 });
        assert.deepEqual((await verifyStore(sound)).problems, []);
        for (const place of ["tmp", "work", "scratch"]) {
          assert.deepEqual(
            await contents(join(sound.location, place)).catch(() => ({})),
            {},
            place,
          );
        }
      } finally {
        Date.now = realNow;
        await journal.close();
      }
    });
  });
}
