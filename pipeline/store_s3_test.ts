import assert from "node:assert/strict";
import { join } from "node:path";
import { z } from "zod";
import { processExecutor } from "./executors/process.ts";
import { inlineExecutor } from "./executors/inline.ts";
import { filesBelow } from "./files.ts";
import { openStore } from "./store_open.ts";
import { defineStage } from "./stage.ts";
import {
  CorruptArtifactError,
  type PublishOptions,
  type Store,
  STORE_SCHEMA,
  type WorkRecord,
} from "./store.ts";
import { collectGarbage, verifyStore } from "./store_admin.ts";
import { contents, withFixture, workflowOf } from "./testing/fixture.ts";
import { withS3 } from "./testing/s3.ts";
import { generated } from "./testing/generated.ts";
import { mix, stages, text } from "./testing/stages.ts";
import { openJournal } from "./journal_open.ts";
import type { WorkflowBuilder } from "./workflow.ts";

const RACES = 50;
const SHAPE = { shape: 8, stepMilliseconds: 0 };

const options: PublishOptions = {
  kind: "text",
  version: 1,
  lineage: { stage: "s", stageVersion: 1, key: "k", params: {}, seed: 0, parents: {}, code: "" },
  values: {},
  consume: false,
};

const main = new URL("./testing/main.ts", import.meta.url).href;

Deno.test({
  name: "a store in S3 does what one in a folder does",
  // The client keeps connections open for its next request.
  sanitizeResources: false,
  sanitizeOps: false,
  fn: async (t) => {
    await withS3(async (server) => {
      const folder = await Deno.makeTempDir();
      let machines = 0;
      /** The store as another machine sees it, with a cache of its own. */
      const machine = (): Store =>
        openStore(`${server.location}&cache=${join(folder, `m${machines++}`)}`);

      await t.step(
        "a large artifact goes there in parts and comes back on another machine",
        async () => {
          const source = join(folder, "large");
          await Deno.mkdir(source);
          const large = crypto.getRandomValues(new Uint8Array(1 << 16));
          const file = await Deno.open(join(source, "weights"), { write: true, create: true });
          for (let i = 0; i < 640; i++) await file.write(large);
          file.close();
          await Deno.writeTextFile(join(source, "empty"), "");
          const files = await filesBelow(source);
          const id = await machine().publish(files, options);
          assert.equal(await machine().publish(files, options), id);
          await machine().materialise(id, join(folder, "back"));
          const equal = await new Deno.Command("cmp", {
            args: [join(source, "weights"), join(folder, "back", "weights")],
          }).output();
          assert.equal(equal.code, 0);
          assert.equal(await machine().has(id), true);
        },
      );

      await t.step("a damaged object is found, set aside and mended", async () => {
        const source = join(folder, "small");
        await Deno.mkdir(source);
        await Deno.writeTextFile(join(source, "a"), "12345");
        const files = await filesBelow(source);
        const id = await machine().publish(files, options);
        const { sha256 } = (await machine().manifest(id)).files["a"]!;
        const object = join(server.objects, "blobs", sha256.slice(0, 2), sha256.slice(2));
        await Deno.writeTextFile(object, "12346");
        const bad = machine().materialise(id, join(folder, "bad"));
        await assert.rejects(bad, CorruptArtifactError);
        assert.equal(await machine().has(id), false);
        assert.equal(await machine().publish(files, options), id);
        await machine().materialise(id, join(folder, "good"));
        assert.deepEqual(await contents(join(folder, "good")), { a: "12345" });
      });

      await t.step("what is missing is told as such", async () => {
        const none = "0".repeat(64);
        assert.equal(await machine().has(none), false);
        assert.equal(await machine().record(none, ""), undefined);
        assert.equal(await machine().record(none, undefined), undefined);
        await assert.rejects(machine().manifest(none), CorruptArtifactError);
        const wrong = openStore(server.location.replace("s3://store", "s3://elsewhere"));
        await assert.rejects(wrong.publish(new Map(), options), /there is no bucket 'elsewhere'/);
      });

      await t.step(
        "a run uses it, in stage processes too, and another machine has it all",
        async () => {
          await withFixture(async ({ run, folder: place, journal }) => {
            const workflow = workflowOf((w) => {
              const a = w.stage("a", mix, { inputs: { rest: [] } });
              const b = w.stage("b", mix, { inputs: { first: a.outputs.text, rest: [] } });
              w.output("b", b.outputs.text);
            });
            const store = machine();
            const first = await run(workflow, { store, executor: processExecutor({ main }) });
            assert.equal(first.ran, 2);
            const made = await contents(join(place, "out"));
            const other = machine();
            const executor = inlineExecutor(stages, other);
            const second = await run(workflow, { store: other, executor });
            assert.equal(second.ran, 0);
            assert.deepEqual(await contents(join(place, "out")), made);
            await collectGarbage(other, journal, { keepRuns: 1 });
            assert.equal((await run(workflow, { store: other, executor })).ran, 0);
            assert.deepEqual((await verifyStore(machine())).problems, []);
            const gone = await collectGarbage(other, journal, { keepRuns: 0 });
            assert.equal(gone.artifacts, 4);
            assert.equal((await verifyStore(machine())).blobs, 0);
          });
        },
      );

      await t.step("of two who put a record at once, both are told the same one", async () => {
        const publishText = async (store: Store, text: string) => {
          const source = join(folder, "said");
          await Deno.mkdir(source, { recursive: true });
          await Deno.writeTextFile(join(source, "text"), text);
          return await store.publish(await filesBelow(source), options);
        };
        const [first, second] = [machine(), machine()];
        const ids = [await publishText(first, "one"), await publishText(first, "two")] as const;
        const recordOf = (key: string, id: string): WorkRecord => {
          const outputs = { text: id };
          return {
            schema: STORE_SCHEMA,
            key,
            ingredients: {},
            code: "c",
            outputs,
            values: {},
            seconds: 1,
          };
        };
        const race = async (key: string, a: string, b: string) => {
          const kept = await Promise.all([
            first.putRecord(recordOf(key, a)),
            second.putRecord(recordOf(key, b)),
          ]);
          assert.deepEqual(kept[0], kept[1]);
          assert.deepEqual(await machine().record(key, "c"), kept[0]);
          return kept[0].outputs["text"]!;
        };
        const winners = new Set<string>();
        for (let i = 0; i < RACES; i++) {
          const key = i.toString(16).padStart(64, "0");
          const won = await race(key, ...ids);
          winners.add(won);
          assert.equal((await second.putRecord(recordOf(key, ids[0]))).outputs["text"], won);
        }
        // A record whose artifact is gone counts no more: of two who mend it, one does.
        const lost = "f".repeat(64);
        const gone = recordOf(lost, "0".repeat(64));
        assert.deepEqual(await first.putRecord(gone), gone);
        winners.add(await race(lost, ...ids));
        assert([...winners].every((id) => (ids as readonly string[]).includes(id)));
      });

      await t.step(
        "two runs on two machines that do the same work end with the same result",
        async () => {
          await withFixture(async ({ run, folder: place }) => {
            let here = 0;
            let open = () => {};
            const both = new Promise<void>((resolve) => open = resolve);
            const differs = defineStage({
              name: "differs",
              version: 1,
              params: z.object({}),
              inputs: {},
              outputs: { text },
              async run(ctx) {
                if (++here === 2) open();
                await both; // neither is done before the other has begun
                await Deno.writeTextFile(join(ctx.outputs.text.path, "a"), crypto.randomUUID());
              },
            });
            const workflow = workflowOf((w) => {
              w.output("o", w.stage("d", differs, { inputs: {} }).outputs.text);
            });
            const outs = await Promise.all([1, 2].map(async (n) => {
              const journal = openJournal(join(place, `journal${n}.sqlite`));
              const store = machine();
              const executor = inlineExecutor({ differs }, store);
              const out = join(place, `out${n}`);
              const { ran } = await run(workflow, { store, executor, journal, out });
              assert.equal(ran, 1);
              const [known] = await journal.runs();
              assert.equal(known!.state, "done");
              await journal.close();
              return await contents(join(out, "o"));
            }));
            assert.equal(here, 2);
            assert.deepEqual(outs[0], outs[1]);
          });
        },
      );

      await t.step("connections that break lose and damage nothing", async () => {
        const flaky = (): Store =>
          openStore(`${server.flaky}&cache=${join(folder, `m${machines++}`)}`);
        await withFixture(async ({ run, folder: place, journal }) => {
          const workflow = {
            ...generated,
            build: (w: WorkflowBuilder) => generated.build(w, SHAPE),
          };
          await run(workflow as never, { out: join(place, "calm") });
          const expected = await contents(join(place, "calm"));
          const remote = openJournal(join(place, "remote.sqlite"));
          let failures = 0;
          for (let done = false; !done;) {
            const store = flaky();
            const executor = inlineExecutor(stages, store);
            try {
              await run(workflow as never, { store, executor, journal: remote, maxAttempts: 10 });
              done = true;
            } catch (error) {
              assert.match(String(error), /in the store s3:/);
              assert(++failures < 50, String(error));
            }
          }
          assert.deepEqual(await contents(join(place, "out")), expected);
          assert(server.breaks() > 10, `it broke ${server.breaks()} times`);
          await remote.close();
          const direct = openStore(
            server.flaky.replace(/endpoint=.*/, server.location.replace(/.*\?/, "")) +
              `&cache=${join(folder, "direct")}`,
          );
          const { problems, artifacts } = await verifyStore(direct);
          assert.deepEqual(problems, []);
          assert(artifacts > 0);
          await collectGarbage(direct, journal, { keepRuns: 0 });
        });
      });
      await Deno.remove(folder, { recursive: true });
    });
  },
});
