/**
 * Wrong use of the command line: exit code 2, one message with what was found and the way out, no stack
 * trace, and a folder that is as it was.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { filesBelow, inFolder, linesOf, run, start } from "./program.ts";

interface Case {
  readonly args: readonly string[];
  readonly says: RegExp;
  readonly env?: Readonly<Record<string, string>>;
}

const cases: Readonly<Record<string, Case>> = {
  "an unknown command": {
    args: ["pipelin"],
    says: /unknown command 'pipelin'\s*\(Did you mean pipeline\?\)/,
  },
  "an unknown workflow": {
    args: ["pipeline", "dmo"],
    says: /unknown workflow 'dmo': did you mean 'demo'\? Known: .*gsm8k/,
  },
  "a misspelt subcommand": {
    args: ["pipeline", "rnus"],
    says: /unknown workflow or subcommand 'rnus': did you mean 'runs'\?/,
  },
  "a misspelt subcommand with arguments": {
    args: ["pipeline", "cancle", "demo-20260102-030405"],
    says: /unknown workflow or subcommand 'cancle': did you mean 'cancel'\?/,
  },
  "an argument too many": {
    args: ["pipeline", "demo", "again"],
    says: /pipeline demo: unexpected argument 'again'/,
  },
  "an unknown parameter": {
    args: ["pipeline", "demo", "--set", "sft.epoch=1"],
    says: /unknown parameter 'sft\.epoch': did you mean 'sft\.epochs'\?/,
  },
  "a parameter of the wrong type": {
    args: ["pipeline", "demo", "--set", "sft.epochs=many"],
    says: /sft\.epochs=many: expected a value of type number, got 'many'/,
  },
  "a parameter out of its range": {
    args: ["pipeline", "demo", "--set", "task.difficulty=9"],
    says: /parameter 'task\.difficulty': .*1\|2\|3\|4\|5, got 9/,
  },
  "a setting without a value": {
    args: ["pipeline", "demo", "--set", "sft"],
    says: /--set sft: expected path=value/,
  },
  "an unknown option": {
    args: ["pipeline", "demo", "--sed", "1"],
    says: /unknown option '--sed'\s*\(Did you mean one of --seed, --set\?\)/,
  },
  "an option that is no number": {
    args: ["pipeline", "demo", "--seed", "x"],
    says: /'--seed <number>' argument 'x' is invalid. It must be a whole number/,
  },
  "an unknown executor": {
    args: ["pipeline", "demo", "--executor", "proces"],
    says: /unknown executor 'proces': did you mean 'process'\?/,
  },
  "an unknown graph form": {
    args: ["pipeline", "demo", "--graph", "mermade"],
    says: /unknown graph form 'mermade': did you mean 'mermaid'\?/,
  },
  "an unknown backend": {
    args: ["pipeline", "demo", "--backend", "wsm"],
    says: /unknown backend 'wsm': did you mean 'wasm'\? Known: .*or a path to a PJRT plugin/,
  },
  "an unknown backend in the environment": {
    args: ["pipeline", "demo"],
    env: { OREO_BACKEND: "cuda" },
    says: /unknown backend 'cuda'/,
  },
  "a plugin that is not there": {
    args: ["pipeline", "demo", "--backend", "./nothing.so"],
    says: /opening the PJRT plugin '\.\/nothing\.so': there is no such file/,
  },
  "a plugin that is not a library": {
    args: ["pipeline", "demo", "--backend", "./text.so"],
    says: /opening the PJRT plugin '.*text\.so': it does not load as a library/,
  },
  "a plugin in the environment that is not one": {
    args: ["stage", "sft", "--spec", "job.json"],
    env: { OREO_BACKEND: "./text.so" },
    says: /opening the PJRT plugin '.*text\.so': it does not load as a library/,
  },
  "results below a file": {
    args: ["pipeline", "demo", "--out", "file/results"],
    says: /writing the results to file\/results: .*file is not a folder; .*--out/,
  },
  "results where nothing can be made": {
    args: ["pipeline", "demo", "--out", "/proc/results"],
    says: /writing the results to \/proc\/results: nothing can be made in \/proc .*--out/,
  },
  "a store that is a file": {
    args: ["pipeline", "demo", "--store", "file"],
    says: /opening the store file: it is not a folder; .*--store/,
  },
  "gsm8k without its data": {
    args: ["pipeline", "gsm8k"],
    says: /workflow 'gsm8k' needs .*train and test files: --set data\.path=FOLDER/,
  },
  "data that are not there": {
    args: ["pipeline", "gsm8k", "--set", "data.path=nowhere"],
    says: /stage 'data' reads nowhere: there is no such file or folder/,
  },
  "a model that is not there": {
    args: ["pipeline", "demo", "--set", "model.path=nowhere"],
    says: /stage 'base' reads nowhere: there is no such file or folder/,
  },
  "a stage of a workflow that is not in it": {
    args: ["pipeline", "demo", "--only", "trian.1"],
    says: /unknown stage of workflow 'demo' 'trian\.1': did you mean 'train\.1'\?/,
  },
  "a stage before those that it needs": {
    args: ["pipeline", "demo", "--only", "sample.1"],
    says: /running only 'sample\.1': what 'sft' makes is not in the store .*; run 'sft' first/,
  },
  "an option before the subcommand": {
    args: ["pipeline", "--json", "runs"],
    says: /pipeline: put --json after the subcommand/,
  },
  "a budget of money without a price": {
    args: ["pipeline", "demo", "--budget-money", "3"],
    says: /--budget-money: say with --gpu-hour-price what a GPU costs an hour/,
  },
  "a run to cancel that is not there": {
    args: ["pipeline", "cancel", "demo-1"],
    says: /unknown run 'demo-1': there are none/,
  },
  "an unknown stage": {
    args: ["stage", "trian", "--spec", "job.json"],
    says: /unknown stage 'trian': did you mean 'train'\?/,
  },
  "a job that is not there": {
    args: ["stage", "train", "--spec", "job.json"],
    says: /reading the job of stage 'train': no file job\.json/,
  },
  "a stage by hand without its inputs": {
    args: ["stage", "train", "--set", "level=step"],
    says: /needs input 'policy' \(checkpoint\): give its file or folder with --input policy=PATH/,
  },
  "an input that a stage has not": {
    args: ["stage", "train", "--input", "polcy=file"],
    says: /unknown input of stage 'train' 'polcy': did you mean 'policy'\?/,
  },
  "a parameter that a stage has not": {
    args: ["stage", "train", "--set", "levl=step"],
    says: /--set levl=step: unknown parameter 'levl': did you mean 'level'\?/,
  },
  "data of a stage that are not there": {
    args: ["stage", "train", "--input", "policy=file", "--input", "balanced=nowhere"],
    says: /stage 'inputs\.balanced' reads nowhere: there is no such file or folder/,
  },
  "results where an input is": {
    args: ["stage", "train", "--input", "policy=out/policy", "--input", "balanced=file"]
      .concat("--out", "out"),
    says: /--out out: .*out\/policy, where the input 'policy' .*choose another folder/,
  },
  "an option beside a job": {
    args: ["stage", "train", "--spec", "job.json", "--seed", "1"],
    says: /stage: --seed has no place beside --spec/,
  },
  "an unknown run": {
    args: ["pipeline", "show", "demo-1"],
    says: /unknown run 'demo-1': there are none/,
  },
  "a port that is none": {
    args: ["status", "--port", "99999"],
    says: /127\.0\.0\.1:99999: a port is a whole number from 0 to 65535/,
  },
};

for (const [name, { args, says, env }] of Object.entries(cases)) {
  Deno.test({
    name: `${name} is refused before anything is done`,
    ignore: name === "results where nothing can be made" && Deno.build.os !== "linux",
    fn: () =>
      inFolder(async (folder) => {
        await Deno.writeTextFile(join(folder, "file"), "");
        await Deno.writeTextFile(join(folder, "text.so"), "no library");
        const { code, stdout, stderr } = await run(args, { cwd: folder, env: env ?? {} });
        assert.match(stderr, says);
        assert.equal(code, 2);
        assert.equal(stdout, "");
        assert.doesNotMatch(stderr, /^\s+at |--debug/m, "no stack trace");
        assert.deepEqual(await filesBelow(folder), ["file", "text.so"]);
      }),
  });
}

Deno.test("a port that another program uses is refused with the way out", async () => {
  using other = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = other.addr;
  await inFolder(async (folder) => {
    const { code, stderr } = await run(["status", "--port", `${port}`], { cwd: folder });
    assert.match(
      stderr,
      new RegExp(`127\\.0\\.0\\.1:${port}: another program uses this port.*--port`),
    );
    assert.equal(code, 1);
    assert.doesNotMatch(stderr, /^\s+at /m);
    assert.deepEqual(await filesBelow(folder), []);
  });
});

Deno.test("two iterations are planned: the second starts from the first's policies", async () => {
  await inFolder(async (folder) => {
    const set = ["--set", "iterations=2"];
    const { code, stdout, stderr } = await run(["pipeline", "demo", ...set, "--dry-run"], {
      cwd: folder,
    });
    assert.equal(code, 0, stderr);
    assert.match(stdout, /workflow demo: 25 stages, 0 in the store/);
    assert.match(stdout, /^ {2}sample\.2 .*'policy' comes from train\.1/m);
    assert.match(stdout, /^ {2}train\.2 .*'value' comes from train\.1/m);
    assert.match(stdout, /^ {2}search\.2\.beam1 .*'reference' comes from train\.1/m);
    assert.match(stdout, /^ {2}sample\.rejection_sampling\.2 .*comes from rejection_sampling\.1/m);
    assert.deepEqual(await filesBelow(folder), [], "a plan writes nothing");
  });
});

Deno.test("the graph prints as text, Mermaid and JSON", async () => {
  await inFolder(async (folder) => {
    const print = async (form: string) => {
      const args = ["pipeline", "demo", "--graph", form];
      const { code, stdout, stderr } = await run(args, { cwd: folder });
      assert.equal(code, 0, stderr);
      return stdout;
    };
    assert.match(await print("text"), /train\.1/);
    assert.match(await print("mermaid"), /^(?:flowchart|graph) /);
    const { nodes } = JSON.parse(await print("json")) as { nodes: { id: string }[] };
    assert.equal(nodes.length, 13);
    assert.deepEqual(nodes[0]?.id, "sft");
    assert.deepEqual(await filesBelow(folder), []);
  });
});

Deno.test("reading the status needs the token where one is set", async () => {
  await inFolder(async (folder) => {
    const server = start(["status", "--port", "0"], {
      cwd: folder,
      env: { OREO_STATUS_TOKEN: "let me in" },
    });
    const errors = new Response(server.stderr).text();
    const lines = linesOf(server.stdout);
    const url = /http:\/\/\S+/.exec((await lines.next()).value ?? await errors)![0];
    const ask = async (path: string, headers: HeadersInit = {}) => {
      const response = await fetch(new URL(path, url), { headers });
      await response.body?.cancel();
      return response.status;
    };
    try {
      assert.equal(await ask("/api/runs"), 401);
      assert.equal(await ask("/"), 401);
      assert.equal(await ask("/api/runs", { authorization: "Bearer let me in" }), 200);
      assert.equal(await ask("/healthz"), 200);
    } finally {
      server.kill("SIGINT");
      for await (const _ of lines);
      await server.status;
      await errors;
    }
  });
});
