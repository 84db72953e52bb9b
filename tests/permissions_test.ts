/** The tasks that users run name their permissions, and those are enough. */
import assert from "node:assert/strict";
import { generateGame } from "../tasks/alfworld/mod.ts";
import { root } from "../tools/repository.ts";

const config = JSON.parse(await Deno.readTextFile(`${root}/deno.json`)) as {
  tasks: Record<string, { command: string }>;
};

/** `deno run` with the permissions of a task, and other arguments; nothing is asked at a prompt. */
async function runTask(task: string, args: string[], env: Record<string, string> = {}) {
  const [deno, run, ...flags] = config.tasks[task]!.command.split(" ");
  assert.deepEqual([deno, run], ["deno", "run"]);
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", ...flags, ...args],
    cwd: root,
    env,
    stdin: "null",
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, output: text(stdout), errors: text(stderr) };
}

Deno.test("only tasks that drive runs and their processes ask for all permissions", () => {
  for (const task of ["doctor", "generate", "grade", "logprobs", "play", "serve"]) {
    assert.doesNotMatch(config.tasks[task]!.command, /(^| )(-A|--allow-all)( |$)/, task);
  }
});

Deno.test("doctor, store and a dry run work with their tasks' permissions", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const doctor = await runTask("doctor", ["--json"]);
    assert.equal(doctor.code, 0, doctor.errors);
    const { findings } = JSON.parse(doctor.output) as { findings: { found: string }[] };
    for (const { found } of findings) assert.doesNotMatch(found, /Requires \w+ access/);
    const store = await runTask("store", ["ls", "--store", folder]);
    assert.equal(store.code, 0, store.errors);
    const places = ["--store", folder, "--journal", `${folder}/journal.sqlite`];
    const plan = await runTask("pipeline", ["demo", "--dry-run", ...places]);
    assert.equal(plan.code, 0, plan.errors);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("grade and play work with their tasks' permissions", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const cases = `${folder}/cases.jsonl`;
    await Deno.writeTextFile(
      cases,
      '{"id": 1, "gold": "1/2", "prediction": "so \\\\boxed{0.5}", "task": "math"}\n',
    );
    const grade = await runTask("grade", [cases]);
    assert.equal(grade.code, 0, grade.errors);
    assert.equal(JSON.parse(grade.output).correct, true);
    const [game, commands] = [`${folder}/game.tw-pddl`, `${folder}/commands.txt`];
    await Deno.writeTextFile(game, generateGame("permissions").text);
    await Deno.writeTextFile(commands, "look\n");
    const play = await runTask("play", [game, "--commands", commands]);
    assert.equal(play.code, 0, play.errors);
    assert.equal(play.output.trimEnd().split("\n").length, 2);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("without the permission for foreign functions, tensors fall back and say why", async () => {
  const command = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-prompt",
      "--allow-read",
      "--allow-env",
      "--allow-sys",
      "tools/tensor_backend.ts",
    ],
    cwd: root,
    stdin: "null",
  });
  const { code, stdout, stderr } = await command.output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  assert.match(new TextDecoder().decode(stdout), /tensor backend: wasm/);
  assert.match(new TextDecoder().decode(stderr), /using tfjs's wasm backend.*--allow-ffi/);
});
