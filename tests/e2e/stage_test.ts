/**
 * One stage by itself as its users run it: parameters from a file, a model and a data file in, a folder
 * out, and a process that is killed outright while it trains.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { charTokenizer, initParams, parseConfig, saveModel } from "../../lm/mod.ts";
import { type Trajectory, writeTrajectories } from "../../rl/mod.ts";
import { startEngine } from "../../stages/mod.ts";
import { commandLine, filesBelow, inFolder, run, told } from "./program.ts";

/** A model of two thousand parameters and 24 short trajectories of it. */
async function prepare(folder: string): Promise<void> {
  await startEngine(() => {});
  const tokenizer = charTokenizer("0123456789+= ");
  const config = parseConfig({
    model_type: "qwen2",
    architectures: ["Qwen2ForCausalLM"],
    vocab_size: tokenizer.vocabSize,
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    max_position_embeddings: 16,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: true,
    initializer_range: 0.02,
    bos_token_id: null,
    eos_token_id: tokenizer.eosId,
    pad_token_id: tokenizer.padId,
  });
  await saveModel(join(folder, "model"), { config, params: initParams(config, 1), tokenizer });
  const trajectories = Array.from({ length: 24 }, (_, i): Trajectory => ({
    version: 1,
    query: `q${i % 8}`,
    prompt: `${i % 8}+1=`,
    promptIds: tokenizer.encode(`${i % 8}+1=`),
    responseIds: [...tokenizer.encode(`${i}`), tokenizer.eosId],
    stepEnds: [0],
    reward: i % 3 === 0 ? 1 : 0,
    source: "test",
  }));
  await writeTrajectories(join(folder, "solutions.jsonl"), trajectories);
  await Deno.writeTextFile(
    join(folder, "train.yaml"),
    `inputs:
  policy: model
  balanced: solutions.jsonl
batchSize: 8
buckets: 1
epochs: 130
policyLearningRate: 1e-3
valueLearningRate: 1e-3
checkpointEvery: 20
heldOut: { share: 0.25, every: 100 }
`,
  );
}

const training = ["stage", "train", "--params", "train.yaml", "--set", "level=step", "--seed", "3"];

async function hashes(folder: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const file of await filesBelow(folder)) {
    const bytes = await Deno.readFile(join(folder, file));
    found[file] = createHash("sha256").update(bytes).digest("hex");
  }
  return found;
}

/** The highest step of which the scratch folder has a checkpoint; 0 where there is none. */
async function lastCheckpoint(store: string): Promise<number> {
  const files = await filesBelow(join(store, "scratch")).catch(() => []);
  return Math.max(
    0,
    ...files.map((file) => Number(/checkpoint-(\d+)\.safetensors$/.exec(file)?.[1] ?? 0)),
  );
}

/** Runs the training until it has checkpoint `step` and `delay` ms have passed, and kills it. */
async function killed(folder: string, step: number, delay: number): Promise<void> {
  const [file, ...args] = commandLine([...training, "--out", "resumed"]);
  const child = new Deno.Command(file!, {
    args,
    cwd: folder,
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let ended = false;
  const output = child.output().finally(() => ended = true);
  while (!ended && await lastCheckpoint(join(folder, ".oreo/store")) < step) {
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await new Promise((resolve) => setTimeout(resolve, delay));
  if (!ended) child.kill("SIGKILL");
  const { signal } = await output;
  assert.equal(signal, "SIGKILL", `it ended before it was killed: ${told(await output).stderr}`);
}

Deno.test("training killed twice ends with the bytes of training never stopped", async () => {
  await inFolder(async (folder) => {
    await prepare(folder);
    const delays = [Math.random() * 60, Math.random() * 60];
    const elsewhere = ["--store", "other", "--journal", "other.sqlite"];
    const whole = run([...training, ...elsewhere, "--out", "whole"], { cwd: folder });
    await killed(folder, 20, delays[0]!);
    const first = await lastCheckpoint(join(folder, ".oreo/store"));
    await killed(folder, first + 20, delays[1]!);
    assert.ok(!(await filesBelow(folder)).some((file) => file.startsWith("resumed")), "no results");
    const second = await lastCheckpoint(join(folder, ".oreo/store"));
    assert.ok(second > first && first > 0);

    const [stopped] = JSON.parse(
      (await run(["pipeline", "runs", "--json"], { cwd: folder })).stdout,
    );
    const last = await run(["pipeline", "resume", stopped.id, "--json"], { cwd: folder });
    assert.equal(last.code, 0, last.stderr);
    const events = last.stdout.trim().split("\n").map((line) => JSON.parse(line));
    assert.equal(events[0].type, "run.resumed");
    const steps = events.filter(({ type }) => type === "stage.metric").map(({ step }) => step);
    assert.ok(steps[0] > second, `step ${steps[0]} after checkpoint ${second}`);

    assert.equal((await whole).code, 0, (await whole).stderr);
    const [expected, found] = [
      await hashes(join(folder, "whole")),
      await hashes(join(folder, "resumed")),
    ];
    assert.ok("policy/model.safetensors" in expected && "curves/curves.json" in expected);
    assert.deepEqual(found, expected, `killed ${delays} ms after checkpoints ${first}, ${second}`);
  });
});
