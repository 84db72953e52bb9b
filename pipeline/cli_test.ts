import assert from "node:assert/strict";
import { join } from "node:path";

const main = new URL("./testing/main.ts", import.meta.url).pathname;

async function pipeline(name: string, options: object, cwd: string) {
  const output = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", main, "pipeline", name, JSON.stringify(options)],
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
    assert.match(log, /error: the run was cancelled/);
    const again = await pipeline("generated", options, folder);
    assert.equal(again.code, 0, again.err);
    assert.match(again.err, /goes on/);
    assert.match(again.err, /s0: in the store/);
  });
});
