import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { processExecutor } from "./executors/process.ts";
import { planGraph } from "./plan.ts";
import { RunCancelledError } from "./run_options.ts";
import { FolderStore } from "./store_folder.ts";
import { contents, withFixture, workflowOf } from "./testing/fixture.ts";
import { misbehave, mix, pass, text, who } from "./testing/stages.ts";
import type { Values } from "./events.ts";
import { type ArtifactRef, buildGraph, type NodeHandle } from "./workflow.ts";

const diamond = (params: { text?: string } = {}) =>
  workflowOf((w) => {
    const a = w.stage("a", mix, { params: { text: "a" }, inputs: { rest: [] } });
    const b = w.stage("b", mix, { params, inputs: { first: a.outputs.text, rest: [] } });
    const c = w.stage("c", mix, { inputs: { first: a.outputs.text, rest: [] } });
    const rest = [b.outputs.text, c.outputs.text];
    const d = w.stage("d", mix, { inputs: { rest } });
    w.output("result", d.outputs.text);
    w.output(".", d.outputs.log);
    w.value("length", d, "length");
  });

const main = new URL("./testing/main.ts", import.meta.url).href;

async function onlyFile(folder: string): Promise<string> {
  const files = Object.keys(await contents(folder));
  assert.equal(files.length, 1);
  return join(folder, files[0]!);
}

Deno.test("a run makes its results; a second one does nothing and makes the same", async () => {
  await withFixture(async ({ run, folder, store, journal }) => {
    const first = await run(diamond());
    assert.equal(first.ran, 4);
    assert.deepEqual(first.values, { length: 4 });
    const made = await contents(join(folder, "out"));
    assert.deepEqual(Object.keys(made), ["deep/text", "result/text"]);
    const second = await run(diamond());
    assert.notEqual(second.run, first.run);
    assert.equal(second.ran, 0);
    assert.equal(second.cached, 4);
    assert.deepEqual(await contents(join(folder, "out")), made);
    assert.deepEqual(second.artifacts, first.artifacts);
    const detail = await journal.run(second.run);
    assert.equal(detail?.state, "done");
    assert.equal(detail.counts.cached, 4);
    const left = [];
    for (const name of ["tmp", "work", "scratch"]) {
      for await (const entry of Deno.readDir(join(store.location, name))) left.push(entry.name);
    }
    assert.deepEqual(left, []);
  });
});

Deno.test("the next stage runs while the result of one is kept", async () => {
  await withFixture(async ({ run, store, folder }) => {
    const started: string[] = [];
    let next = () => {};
    const bothStarted = new Promise<void>((resolve) => next = resolve);
    const slow = new FolderStore(join(folder, "store"));
    slow.putRecord = async (record) => {
      await bothStarted;
      return await store.putRecord(record);
    };
    const two = workflowOf((w) => {
      for (const id of ["a", "b"]) w.stage(id, mix, { inputs: { rest: [] } });
    });
    const result = await run(two, {
      store: slow,
      capacity: { slots: 1 },
      onEvent: (event) => {
        if (event.type === "stage.started" && started.push(event.stage) === 2) next();
      },
    });
    assert.deepEqual(started, ["a", "b"]);
    assert.equal(result.ran, 2);
  });
});

Deno.test("only what a changed parameter affects runs again, and the plan says so", async () => {
  await withFixture(async ({ run, store, journal }) => {
    await run(diamond());
    const plan = await planGraph(buildGraph(diamond({ text: "new" }), {}, 0), { store, journal });
    assert.deepEqual(plan.map((stage) => [stage.id, stage.state]), [
      ["a", "cached"],
      ["b", "run"],
      ["c", "cached"],
      ["d", "unknown"],
    ]);
    assert.deepEqual(plan[1]!.reasons, ['parameter text: "" -> "new"']);
    assert.deepEqual(plan[3]!.reasons, ["input 'rest' comes from b, yet to run"]);
    assert.equal((await run(diamond({ text: "new" }))).ran, 2);
  });
});

Deno.test("another seed changes the work of every stage", async () => {
  await withFixture(async ({ run, store, journal }) => {
    await run(diamond());
    const plan = await planGraph(buildGraph(diamond(), {}, 7), { store, journal });
    assert.match(plan[0]!.reasons[0]!, /^seed \d+ -> \d+$/);
    assert.equal((await run(diamond(), { seed: 7 })).ran, 4);
  });
});

Deno.test("a flipped bit is found before a stage uses the artifact, which is made again", async () => {
  await withFixture(async ({ run, folder, store }) => {
    const first = await run(diamond());
    const made = await contents(join(folder, "out"));
    const a = (await run(diamond())).artifacts; // the same artifacts, from the store
    assert.deepEqual(a, first.artifacts);
    // Every blob is damaged, keeping its size; then one parameter makes b and d run again.
    for (const path of Object.keys(await contents(join(store.location, "blobs")))) {
      const blob = join(store.location, "blobs", path);
      const bytes = await Deno.readFile(blob);
      bytes[0]! ^= 1;
      await Deno.chmod(blob, 0o644);
      await Deno.writeFile(blob, bytes);
    }
    const again = await run(diamond({ text: "new" }));
    assert.notDeepEqual(again.artifacts, first.artifacts);
    const third = await run(diamond());
    assert.deepEqual(third.artifacts, first.artifacts);
    assert.deepEqual(await contents(join(folder, "out")), made);
    assert(Object.keys(await contents(join(store.location, "corrupt"))).length > 0);
  });
});

Deno.test("a missing blob or a torn manifest or record is work to be done again", async () => {
  await withFixture(async ({ run, store }) => {
    const one = workflowOf((w) => {
      const a = w.stage("a", mix, { inputs: { rest: [] } });
      w.output("a", a.outputs.text);
    });
    const first = await run(one);
    const manifest = await store.manifest(first.artifacts["a"]!);
    const { sha256 } = manifest.files["text"]!;
    await Deno.remove(join(store.location, "blobs", sha256.slice(0, 2), sha256.slice(2)));
    assert.equal((await run(one)).ran, 1);
    const id = first.artifacts["a"]!;
    const path = join(store.location, "artifacts", id.slice(0, 2), `${id.slice(2)}.json`);
    await Deno.writeTextFile(path, (await Deno.readTextFile(path)).slice(0, 40));
    assert.equal((await run(one)).ran, 1);
    const record = await onlyFile(join(store.location, "records"));
    await Deno.writeTextFile(record, "{");
    const last = await run(one);
    assert.equal(last.ran, 1);
    assert.deepEqual(last.artifacts, first.artifacts);
  });
});

Deno.test("a user's files are taken in by content", async () => {
  await withFixture(async ({ run, folder, store }) => {
    const file = join(folder, "data.txt");
    await Deno.mkdir(join(folder, "data"));
    await Deno.writeTextFile(join(folder, "data", "text"), "one");
    await Deno.writeTextFile(file, "file");
    const workflow = workflowOf((w) => {
      const data = w.import("data", text, join(folder, "data"));
      w.import("file", text, file);
      w.stage("a", mix, { inputs: { first: data, rest: [] } });
    });
    assert.equal((await run(workflow)).ran, 1);
    assert.equal((await run(workflow)).ran, 0);
    await Deno.writeTextFile(join(folder, "data", "text"), "two");
    const plan = await planGraph(buildGraph(workflow, {}, 0), { store });
    assert.deepEqual(plan.map((stage) => stage.state), ["run", "cached", "run"]);
    assert.equal((await run(workflow)).ran, 1);
    await Deno.remove(file);
    await assert.rejects(run(workflow), /stage 'file' reads .*data.txt: there is no such file/);
  });
});

Deno.test("conditions skip stages and those that need them", async () => {
  await withFixture(async ({ run, events }) => {
    await run(workflowOf((w) => {
      const a = w.stage("a", mix, { inputs: { rest: [] } });
      const when = {
        of: [a],
        test: (values: Record<string, unknown>) => values["length"] === 99,
        otherwise: "too short",
      };
      const b = w.stage("b", mix, { inputs: { rest: [] }, when });
      const rest = [a.outputs.text, b.outputs.text];
      w.stage("c", pass, { inputs: { text: b.outputs.text } });
      w.stage("d", mix, { params: { text: "d" }, inputs: { rest, first: b.outputs.text } });
    }));
    const seen = (await events()).flatMap((event) =>
      event.type === "stage.skipped"
        ? [`${event.stage}: ${event.reason}`]
        : event.type === "stage.done"
        ? [`${event.stage} done: ${event.values["length"]} parts`]
        : []
    );
    assert.deepEqual(seen.sort(), [
      "a done: 2 parts",
      "b: too short",
      "c: 'b' was skipped",
      "d done: 3 parts",
    ]);
  });
});

Deno.test("iterations stop when a metric gets no better, and what came before stands", async () => {
  await withFixture(async ({ run, folder, journal }) => {
    // `mix` returns the number of its parts; the third iteration has no more than the second.
    const parts = [1, 2, 2, 9];
    const workflow = workflowOf((w) => {
      const made: ArtifactRef<typeof text>[] = [];
      const nodes: NodeHandle[] = [];
      for (const [i, count] of parts.entries()) {
        const rest = Array.from(
          { length: count },
          (_, n) =>
            w.stage(`part-${i}-${n}`, mix, { params: { text: `${i} ${n}` }, inputs: { rest: [] } })
              .outputs.text,
        );
        const [last, before] = [nodes.at(-1), nodes.at(-2)];
        const when = last === undefined ? {} : {
          when: {
            of: before === undefined ? [last] : [last, before],
            test: (now: Values, then?: Values) =>
              Number(now["length"]) > Number(then?.["length"] ?? 0),
            otherwise: "no better",
          },
        };
        const node = w.stage(`iteration-${i}`, mix, { inputs: { rest }, ...when });
        nodes.push(node);
        made.push(node.outputs.text);
      }
      w.output("all", w.stage("all", mix, { inputs: { rest: made } }).outputs.text);
      w.output("last", made.at(-1)!);
    });
    const { artifacts, ran } = await run(workflow);
    assert.equal(ran, 14 + 3 + 1);
    assert.deepEqual(Object.keys(artifacts), ["all"]);
    assert.deepEqual(Object.keys(await contents(join(folder, "out"))), ["all/text"]);
    const stages = (await journal.run((await journal.runs())[0]!.id))!.stages;
    const skipped = stages.filter((stage) => stage.state === "skipped");
    assert.deepEqual(skipped.map(({ id, message }) => [id, message]), [[
      "iteration-3",
      "no better",
    ]]);
  });
});

const single = (how: string, times = 1, timeLimitSeconds?: number) =>
  workflowOf((w) => {
    w.stage("m", misbehave, {
      params: { how, times },
      inputs: {},
      resources: timeLimitSeconds === undefined ? {} : { timeLimitSeconds },
    });
  });

Deno.test("what may pass is tried again; what will not is not", async () => {
  await withFixture(async ({ run, events, journal }) => {
    await run(single("fail for now", 2));
    const types = (await events()).map((event) => event.type);
    assert.equal(types.filter((type) => type === "stage.failed").length, 2);
    const stage = (await journal.run((await journal.runs())[0]!.id))?.stages[0];
    assert.equal(stage?.attempt, 3);
    assert.deepEqual(stage.values, { times: 3, gap: null });
    await assert.rejects(run(single("fail for now", 9)), /stage 'm' failed: the server is busy/);
    await assert.rejects(run(single("fail", 1)), (error) => {
      assert(error instanceof UserError);
      assert.equal(error.message, "stage 'm' failed: it went wrong");
      return true;
    });
    assert.equal((await journal.runs())[0]!.state, "failed");
    assert.equal((await journal.runs())[0]!.message, "stage 'm' failed: it went wrong");
    assert.equal((await run(single("fail", 1))).ran, 1); // the same run goes on, from its scratch
    await assert.rejects(run(single("leave nothing")), /it wrote no file to its output 'text'/);
  });
});

Deno.test("a failed stage lets those that run finish and starts no more", async () => {
  await withFixture(async ({ run, journal }) => {
    await assert.rejects(
      run(
        workflowOf((w) => {
          w.stage("bad", misbehave, { params: { how: "fail" }, inputs: {} });
          const slow = w.stage("slow", mix, {
            params: { stepMilliseconds: 50 },
            inputs: { rest: [] },
          });
          w.stage("after", mix, { inputs: { rest: [slow.outputs.text] } });
        }),
        { capacity: { slots: 2 } },
      ),
      /stage 'bad' failed/,
    );
    const { id } = (await journal.runs())[0]!;
    const states = (await journal.run(id))!.stages.map((stage) => stage.state);
    assert.deepEqual(states, ["failed", "done", "waiting"]);
  });
});

Deno.test("a stage process reports, logs and is one with its runner's results", async () => {
  await withFixture(async ({ run, events, folder }) => {
    const executor = processExecutor({ main });
    const result = await run(diamond(), { executor, capacity: { slots: 2 } });
    const made = await contents(join(folder, "out"));
    assert.equal((await run(diamond())).ran, 0);
    assert.deepEqual(await contents(join(folder, "out")), made);
    assert.equal(result.ran, 4);
    await run(single("-"), { executor });
    const logs = (await events()).flatMap((e) => e.type === "stage.log" ? [[e.level, e.text]] : []);
    assert.deepEqual(logs.sort(), [
      ["info", "said on the console"],
      ["warn", "said in the log"],
      ["warn", "the value 'result.gap' is NaN; it is kept as null"],
    ]);
  });
});

Deno.test("a stage process that dies is tried again; one that ends too early is told so", async () => {
  await withFixture(async ({ run, events }) => {
    const executor = processExecutor({ main });
    await run(single("die"), { executor });
    const failed = (await events()).find((event) => event.type === "stage.failed");
    assert.match(failed?.message ?? "", /its process was ended by SIGKILL/);
    await assert.rejects(run(single("exit"), { executor }), /ended with code 0 before it was done/);
  });
});

Deno.test("a stage over its time limit is stopped and tried again", async () => {
  await withFixture(async ({ run, events }) => {
    const executor = processExecutor({ main, graceMilliseconds: 50 });
    // On a busy machine the limit may be over before the process has begun to spin.
    await run(single("spin", 1, 1), { executor, maxAttempts: 30 });
    const failed = (await events()).find((event) => event.type === "stage.failed");
    assert.equal(failed?.message, "it ran longer than its time limit of 1 s");
  });
});

Deno.test("cancelling ends the run cleanly; starting it again goes on where it was", async () => {
  await withFixture(async ({ run, journal, folder }) => {
    const steps = workflowOf((w) => {
      const params = { steps: 6, stepMilliseconds: 20 };
      const a = w.stage("a", mix, { params, inputs: { rest: [] } });
      w.output("a", a.outputs.text);
    });
    const cancel = new AbortController();
    let seen = 0;
    const stopped = run(steps, {
      cancel: cancel.signal,
      onEvent: (event) => {
        if (event.type === "stage.metric" && ++seen === 3) cancel.abort();
      },
    });
    await assert.rejects(stopped, RunCancelledError);
    const [summary] = await journal.runs();
    assert.equal(summary?.state, "cancelled");
    const metrics: number[] = [];
    const result = await run(steps, {
      onEvent: (event) => event.type === "stage.metric" && metrics.push(event.step),
    });
    assert.equal(result.run, summary.id);
    assert.deepEqual(metrics, [4, 5, 6]);
    const resumed = await contents(join(folder, "out"));
    await Deno.remove(join(folder, "store"), { recursive: true });
    await run(steps);
    assert.deepEqual(await contents(join(folder, "out")), resumed);
  });
});

Deno.test("two runners started on one run: one drives it, the other is told who", async () => {
  await withFixture(async ({ run, journal, folder }) => {
    for (let i = 0; i < 5; i++) {
      const workflow = workflowOf((w) => {
        w.stage("a", mix, { params: { text: `${i}`, stepMilliseconds: 20 }, inputs: { rest: [] } });
      });
      const both = await Promise.allSettled([run(workflow), run(workflow)]);
      const failures = both.filter((one) => one.status === "rejected");
      assert.equal(failures.length, 1);
      assert.match(
        String(failures[0]!.reason),
        /of the same workflow and parameters is being run by/,
      );
    }
    for (const { id } of await journal.runs()) {
      const done = await journal.events(id, { types: ["stage.done"] });
      assert.equal(done.length, 1);
    }
    assert.equal((await journal.runs()).length, 5);
    assert.equal(Object.keys(await contents(join(folder, "store", "records"))).length, 5);
  });
});

Deno.test("runs that share work do it once", async () => {
  await withFixture(async ({ run }) => {
    const shared = (name: string) => ({
      ...workflowOf((w) => {
        w.stage("a", mix, { params: { stepMilliseconds: 60 }, inputs: { rest: [] } });
      }),
      name,
    });
    const both = await Promise.all([run(shared("v")), run(shared("w"))]);
    assert.deepEqual(both.map((one) => one.ran).sort(), [0, 1]);
  });
});

Deno.test("a spent budget ends the run cleanly, and counts over its resumptions", async () => {
  await withFixture(async ({ run, journal }) => {
    const workflow = workflowOf((w) => {
      const params = { steps: 40, stepMilliseconds: 50 };
      w.stage("a", mix, { params, inputs: { rest: [] }, resources: { gpus: 2 } });
    });
    const capacity = { gpus: 2 };
    const budget = { gpuSeconds: 1 };
    const spent = /its stages have used \d\.\d of 1 GPU-seconds.*--budget-gpu-seconds/;
    await assert.rejects(run(workflow, { capacity, budget }), spent);
    const [first] = await journal.runs();
    assert.equal(first?.state, "failed");
    assert(first.gpuSeconds! >= 1);
    assert.equal((await journal.run(first.id))!.stages[0]!.state, "cancelled");
    await assert.rejects(run(workflow, { capacity, budget }), spent);
    const money = { money: 0.01, gpuHourPrice: 36 };
    await assert.rejects(
      run(workflow, { capacity, budget: money }),
      /cost .* of 0.01.*--budget-money/,
    );
    const steps: number[] = [];
    await run(workflow, {
      capacity,
      onEvent: (event) => event.type === "stage.metric" && steps.push(event.step),
    });
    assert(steps[0]! > 5, "it went on from its scratch folder");
    // Where there is no GPU, none is used up.
    await run(workflow, { seed: 1, budget });
  });
});

Deno.test("stages that share a process do so one after another, and start anew after a failure", async () => {
  await withFixture(async ({ run, journal }) => {
    const result = await run(
      workflowOf((w) => {
        let before: ArtifactRef<typeof text>[] = [];
        for (let number = 0; number < 6; number++) {
          const params = { number, fails: number === 3 };
          const node = w.stage(`w${number}`, who, { params, inputs: { before } });
          before = [node.outputs.text];
          w.value(`pid${number}`, node, "pid");
        }
      }),
      { executor: processExecutor({ main }) },
    );
    const pids = Object.values(result.values);
    assert.equal(new Set(pids.slice(0, 3)).size, 1);
    assert.equal(new Set(pids.slice(3)).size, 1);
    assert.notEqual(pids[2], pids[3]);
    const [summary] = await journal.runs();
    const logs = await journal.events(summary!.id, { types: ["stage.log"] });
    assert.deepEqual(
      logs.flatMap((e) =>
        e.type === "stage.log" && e.level === "info" ? [`${e.stage}: ${e.text}`] : []
      ),
      [
        "w0: number 0",
        "w1: number 1",
        "w2: number 2",
        "w3: number 3",
        "w3: number 3",
        "w4: number 4",
        "w5: number 5",
      ],
    );
  });
});
