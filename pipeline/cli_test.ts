import assert from "node:assert/strict";
import { join } from "node:path";

const main = new URL("./testing/main.ts", import.meta.url).pathname;

function pipeline(name: string, options: object, cwd: string) {
  return command(["pipeline", name, JSON.stringify(options)], cwd);
}

async function command(args: string[], cwd: string) {
  const output = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", main, ...args],
    cwd,
    stdin: "null",
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code: output.code, out: text(output.stdout), err: text(output.stderr) };
}

async function inFolder(body: (folder: string) => Promise<void>) {
  const folder = await Deno.makeTempDir();
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("wrong use is refused with the way out, before anything is written", async () => {
  await inFolder(async (folder) => {
    const cases: [string, object, RegExp][] = [
      ["generatd", {}, /unknown workflow 'generatd': did you mean 'generated'\?/],
      ["generated", { set: ["shap=1"] }, /unknown parameter 'shap': did you mean 'shape'\?/],
      ["generated", { set: ["shape"] }, /expected path=value/],
      ["generated", { set: ["shape=x"] }, /expected a value of type integer, got 'x'/],
      ["generated", { executor: "proces" }, /unknown executor 'proces': did you mean 'process'\?/],
      ["generated", { graph: "mermade" }, /unknown graph form 'mermade': did you mean 'mermaid'\?/],
      ["generated", { only: "s00" }, /unknown stage of workflow .* did you mean .s0.\?/],
      ["generated", { slots: 0 }, /--slots: expected 1 or more, got 0/],
      ["generated", { seed: -1 }, /--seed: expected a whole number, 0 or more, got -1/],
    ];
    for (const [name, options, message] of cases) {
      const { code, err } = await pipeline(name, options, folder);
      assert.equal(code, 2, err);
      assert.match(err, message);
    }
    assert.deepEqual(await Array.fromAsync(Deno.readDir(folder)), []);
  });
});

Deno.test("a dry run writes nothing; a run in JSON tells every event", async () => {
  await inFolder(async (folder) => {
    const plan = await pipeline("generated", { dryRun: true }, folder);
    assert.equal(plan.code, 0, plan.err);
    assert.match(plan.out, /workflow generated: \d+ stages, 0 in the store\n {2}shape = 1/);
    assert.match(plan.out, /s0 +to run +it has not run yet/);
    assert.deepEqual(await Array.fromAsync(Deno.readDir(folder)), []);
    const graph = await pipeline("generated", { graph: "mermaid" }, folder);
    assert.match(graph.out, /^flowchart LR\n {2}n0\["s0/);

    const run = await pipeline("generated", { json: true, executor: "inline" }, folder);
    assert.equal(run.code, 0, run.err);
    const types = run.out.trim().split("\n").map((line) => JSON.parse(line).type as string);
    assert.equal(types[0], "run.started");
    assert.equal(types.at(-1), "run.done");
    const again = await pipeline("generated", { dryRun: true, json: true }, folder);
    const stages = JSON.parse(again.out).stages as { state: string }[];
    assert(stages.every((stage) => stage.state === "cached"));
  });
});

Deno.test("Ctrl-C ends a run cleanly, and it can be taken up again", async () => {
  await inFolder(async (folder) => {
    const options = { set: ["stepMilliseconds=30"], out: join(folder, "out") };
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", main, "pipeline", "generated", JSON.stringify(options)],
      cwd: folder,
      stderr: "piped",
      stdin: "null",
    }).spawn();
    let log = "";
    for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) {
      log += chunk;
      if (/s0: done/.test(chunk)) child.kill("SIGINT");
    }
    assert.equal((await child.status).code, 1);
    assert.match(log, /stages are asked to stop; a second Ctrl-C ends them at once/);
    assert.match(log, /error: the run was cancelled\ngo on with: pipeline resume generated-/);
    const again = await pipeline("generated", options, folder);
    assert.equal(again.code, 0, again.err);
    assert.match(again.err, /goes on/);
    assert.match(again.err, /s0: in the store/);
  });
});

Deno.test("runs are listed, shown, and their logs read", async () => {
  await inFolder(async (folder) => {
    assert.match((await command(["runs", "{}"], folder)).out, /no runs yet/);
    assert.match((await command(["cancel", "none", "{}"], folder)).err, /unknown run 'none'/);
    assert.deepEqual(await Array.fromAsync(Deno.readDir(folder)), []);
    const failed = await pipeline("misbehaving", { set: ["how=fail"] }, folder);
    assert.equal(failed.code, 1);
    assert.match(failed.err, /stage 'm' failed: it went wrong/);
    const [{ id }] = JSON.parse((await command(["runs", '{"json":true}'], folder)).out);
    const runs = await command(["runs", "{}"], folder);
    assert.match(runs.out, /^misbehaving-\S+ {2}failed +0\/1 stages {2}stage 'm' failed/);
    assert.match((await command(["show", id, "{}"], folder)).out, /m {2}failed +it went wrong/);
    const near = await command(["show", `${id}x`, "{}"], folder);
    assert.equal(near.code, 2);
    assert.match(near.err, /unknown run '.*x': did you mean 'misbehaving-/);
    const resumed = await command(["resume", id, "{}"], folder);
    assert.equal(resumed.code, 0, resumed.err);
    const logs = await command(["logs", id, "m", "{}"], folder);
    assert.match(logs.out, /-- attempt 1 started\n.*error: Error: it went wrong/);
    assert.match(
      logs.out,
      /-- attempt 2 started\n(.*\n)*.*said on the console\n(.*\n)*.*-- done in/,
    );
    const none = await command(["logs", id, "n", "{}"], folder);
    assert.match(none.err, /unknown stage of run .* 'n': did you mean 'm'\?/);
    const all = await command(["logs", id, "{}"], folder);
    assert.match(all.out, /^m \| .*-- attempt 1 started\n(m \| .*\n)*m \| .*-- done in/);
    const followed = await command(["logs", id, "m", '{"follow":true}'], folder);
    assert.equal(followed.out, logs.out);
    const ended = await command(["cancel", id, "{}"], folder);
    assert.equal(ended.code, 1);
    assert.match(ended.err, /has ended already: it is done/);
  });
});

Deno.test("what two runs differ in is told: parameters, values and stages", async () => {
  await inFolder(async (folder) => {
    for (const set of [["how=no"], ["how=nothing", "times=2"]]) {
      assert.equal((await pipeline("misbehaving", { set }, folder)).code, 0);
    }
    const runs: { id: string; params: unknown }[] = JSON.parse(
      (await command(["runs", '{"json":true}'], folder)).out,
    );
    const [second, first] = runs.map((run) => run.id) as [string, string];
    const shown = await command(["show", first, "{}"], folder);
    assert.match(shown.out, /\nseed {6}0\nparam {5}how = "no"\nparam {5}times = 1\n/);
    const told = await command(["diff", first, second, "{}"], folder);
    assert.deepEqual(told.out.trimEnd().split(/ *\n/).map((line) => line.split(/ {2,}/)), [
      ["parameter how", '"no" -> "nothing"'],
      ["parameter times", "1 -> 2"],
      ["stage m: how", '"no" -> "nothing"'],
      ["stage m: times", "1 -> 2"],
    ]);
    const same = await command(["diff", first, first, "{}"], folder);
    assert.equal(same.out, "they do not differ\n");
    assert.equal((await command(["diff", first, "none", "{}"], folder)).code, 2);
  });
});

Deno.test("a run is cancelled from another process, and a dead one is marked", async () => {
  await inFolder(async (folder) => {
    const start = () =>
      new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", main, "pipeline", "misbehaving", '{"set":["how=hang","times=9"]}'],
        cwd: folder,
        stderr: "null",
        stdin: "null",
      }).spawn();
    const started = async () => {
      for (;;) {
        const [run] = JSON.parse((await command(["runs", '{"json":true}'], folder)).out);
        if (run?.state === "running" && run.counts.running === 1) return run.id as string;
      }
    };
    const alive = start();
    const id = await started();
    const cancelled = await command(["cancel", id, "{}"], folder);
    assert.equal(cancelled.code, 0, cancelled.err);
    assert.match(cancelled.out, /^run misbehaving-\S+ is cancelled\n$/);
    assert.equal((await alive.status).code, 1);

    const killed = start();
    assert.equal(await started(), id);
    killed.kill("SIGKILL");
    await killed.status;
    assert.match((await command(["runs", "{}"], folder)).out, /interrupted/);
    assert.match((await command(["cancel", id, "{}"], folder)).out, /is cancelled/);
  });
});

Deno.test({
  name: "a stage deep in a computation ends with its runner",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    await inFolder(async (folder) => {
      const runner = new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", main, "pipeline", "misbehaving", '{"set":["how=spin"]}'],
        cwd: folder,
        stderr: "null",
        stdin: "null",
      }).spawn();
      const counter = async () => {
        for await (
          const { name, isDirectory } of Deno.readDir(join(folder, ".oreo/store/scratch"))
        ) {
          if (isDirectory) {
            return Deno.readTextFile(join(folder, ".oreo/store/scratch", name, "times"));
          }
        }
      };
      while (await counter().catch(() => undefined) !== "1") {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      const children = await Deno.readTextFile(`/proc/${runner.pid}/task/${runner.pid}/children`);
      const child = children.trim().split(" ")[0]!;
      runner.kill("SIGKILL");
      await runner.status;
      const gone = async () => {
        const stat = await Deno.readTextFile(`/proc/${child}/stat`).catch(() => ") Z");
        return stat.includes(") Z");
      };
      const end = performance.now() + 5_000;
      while (!await gone() && performance.now() < end) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      assert(await gone(), "the stage outlived its runner");
    });
  },
});

Deno.test("the store is listed, shown, checked, cleared and exported from", async () => {
  await inFolder(async (folder) => {
    const store = (action: string, options: object, ...more: string[]) =>
      command(["store", action, JSON.stringify(options), ...more], folder);
    assert.equal((await store("ls", {})).out, "the store is empty\n");
    await pipeline("misbehaving", { set: ["how=-"], executor: "inline" }, folder);
    const [listed] = JSON.parse((await store("ls", { json: true })).out);
    assert.match((await store("ls", {})).out, /4 B {2}text of misbehave\n$/);
    const id = listed.id.slice(0, 8);
    assert.equal(JSON.parse((await store("show", {}, id)).out).lineage.params.how, "-");
    assert.match((await store("export", { to: "there" }, id)).out, /1 files of text in there/);
    assert.equal(await Deno.readTextFile(join(folder, "there", "text")), "done");
    assert.match((await store("export", { to: "there" }, id)).err, /it is not empty/);
    assert.match((await store("verify", {})).out, /checked 1 artifacts, 1 files/);
    assert.match(
      (await store("gc", { keepRuns: 0 })).out,
      /removed 1 artifacts, 1 records and 1 fil/,
    );
    assert.equal((await store("ls", {})).out, "the store is empty\n");
  });
});
