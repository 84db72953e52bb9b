/**
 * The engine against JAX and tfjs's wasm backend, in one run: matrix product, dispatch, a whole train
 * step and a decode loop. Peer and project take turns, so that a busy moment hits both; each figure is
 * the median over the rounds, the ratio is speed against JAX (above 1: we are faster).
 */
import { join } from "node:path";
import { jit, tf, useBackend } from "../xla/mod.ts";
import { Generator, hiddenStates, initParams, logits, parseConfig } from "../lm/mod.ts";
import { adamInit, type AdamState, adamStep, adamUpdate } from "../rl/mod.ts";
import { median, type Peer, pythonEnvironment, startPeer } from "./peer.ts";
import { printTable, type Row } from "./table.ts";

const model = { hidden: 256, layers: 4, heads: 8, kvHeads: 4, ffn: 704, vocab: 512 };
const trainShape = { batch: 16, length: 256 };
const decodeShape = { batch: 16, newTokens: 128 };

const config = parseConfig({
  model_type: "qwen2",
  vocab_size: model.vocab,
  hidden_size: model.hidden,
  intermediate_size: model.ffn,
  num_hidden_layers: model.layers,
  num_attention_heads: model.heads,
  num_key_value_heads: model.kvHeads,
  max_position_embeddings: 512,
  rms_norm_eps: 1e-6,
  rope_theta: 10000,
  tie_word_embeddings: true,
});

/** Runs `ours` and the peer's `requests` (the best of them counts) in turns; seconds of one unit. */
async function takeTurns(
  ours: () => Promise<number>,
  peer: Peer,
  requests: Record<string, unknown>[],
  rounds: number,
): Promise<{ ours: number; peer: number }> {
  const mine: number[] = [];
  const theirs: number[][] = requests.map(() => []);
  await ours();
  for (const request of requests) await peer.seconds({ ...request, repeats: 1 });
  for (let round = 0; round < rounds; round++) {
    mine.push(await ours());
    for (const [i, request] of requests.entries()) {
      theirs[i]!.push(await peer.seconds({ ...request, repeats: 1 }));
    }
  }
  return { ours: median(mine), peer: Math.min(...theirs.map(median)) };
}

async function seconds(run: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await run();
  return (performance.now() - start) / 1000;
}

/** Waits until `x` is computed, reading one element only. */
async function ready(x: tf.Tensor): Promise<void> {
  const first = tf.tidy(() => x.flatten().slice([0], [1]));
  await first.data();
  first.dispose();
}

/** Seconds of one `n` × `n` product, `inner` of them in a row. */
function matmul(n: number, inner: number): () => Promise<number> {
  const multiply = jit((x: tf.Tensor2D) => tf.matMul(x, x), { name: `matmul${n}` });
  const x = tf.randomNormal<tf.Rank.R2>([n, n]);
  return async () =>
    await seconds(async () => {
      let y: tf.Tensor | undefined;
      for (let i = 0; i < inner; i++) {
        y?.dispose();
        y = multiply(x);
      }
      await ready(y!);
      y!.dispose();
    }) / inner;
}

/** Seconds of one call of a compiled program that does next to nothing. */
function dispatch(inner: number): () => Promise<number> {
  const twice = jit((x: tf.Tensor1D) => tf.add(x, x), { name: "dispatch" });
  const x = tf.zeros<tf.Rank.R1>([8]);
  return async () =>
    await seconds(async () => {
      let y: tf.Tensor | undefined;
      for (let i = 0; i < inner; i++) {
        y?.dispose();
        y = twice(x);
      }
      await ready(y!);
      y!.dispose();
    }) / inner;
}

type Params = ReturnType<typeof initParams>;

/** One optimizer step on next-token cross-entropy: forward, backward, clip, AdamW. */
function lossOf(params: Params, ids: tf.Tensor2D): tf.Scalar {
  const [, length] = ids.shape;
  const hidden = hiddenStates(config, params, ids).slice([0, 0, 0], [-1, length - 1, -1]);
  const logProbs = tf.logSoftmax(logits(config, params, hidden));
  const targets = ids.slice([0, 1], [-1, -1]);
  return tf.mul(tf.oneHot(targets, config.vocabSize), logProbs).sum().neg()
    .div(targets.size) as tf.Scalar;
}

function step(params: Params, state: AdamState, at: tf.Tensor1D, ids: tf.Tensor2D) {
  const names = Object.keys(params);
  const loss = (...leaves: tf.Tensor[]) =>
    lossOf(Object.fromEntries(names.map((name, i) => [name, leaves[i]!])), ids);
  const { value, grads } = tf.valueAndGrads(loss)(names.map((name) => params[name]!));
  const byName = Object.fromEntries(names.map((name, i) => [name, grads[i]!]));
  const next = adamUpdate(params, byName, state, at);
  return { params: next.params, state: next.state, loss: value };
}

function trainStep(): () => Promise<number> {
  const compiled = jit(step, { name: "train_step", donate: [0, 1] });
  const { batch, length } = trainShape;
  const ids = tf.randomUniform<tf.Rank.R2>([batch, length], 0, model.vocab, "int32", 0);
  let params = initParams(config, 0);
  let state = adamInit(params);
  let count = 0;
  return () =>
    seconds(async () => {
      const at = adamStep(++count, 1e-3);
      const next = compiled(params, state, at, ids);
      at.dispose();
      await next.loss.data();
      next.loss.dispose();
      ({ params, state } = next);
    });
}

function decode(): () => Promise<number> {
  const { batch, newTokens } = decodeShape;
  const generator = new Generator({ config, params: initParams(config, 0) }, {
    slots: batch,
    maxLength: newTokens + 1,
    tokensPerDispatch: newTokens,
  });
  const requests = Array.from({ length: batch }, (_, i) => ({
    promptIds: [i],
    seed: i,
    temperature: 0,
    maxNewTokens: newTokens,
  }));
  return () => seconds(async () => void await generator.generate(requests));
}

export async function benchEngine(): Promise<void> {
  const environment = await pythonEnvironment("bench-jax", ["jax==0.10.2", "numpy"]);
  const peer = await startPeer(join(environment, "bin", "python"), "jax_peer.py");
  const rows: Row[] = [];
  const backend = await useBackend();
  const against = async (
    name: string,
    unit: string,
    ours: () => Promise<number>,
    requests: Record<string, unknown>[],
    figure: (seconds: number) => number,
    rounds = 5,
  ) => {
    const result = await takeTurns(ours, peer, requests, rounds);
    rows.push({
      name,
      unit,
      peer: figure(result.peer),
      ours: figure(result.ours),
      ratio: result.peer / result.ours,
    });
  };
  for (const [n, inner] of [[128, 400], [256, 200], [512, 40], [1024, 10], [2048, 3]] as const) {
    const gflops = (s: number) => 2 * n ** 3 / s / 1e9;
    const request = { case: "matmul", n, inner };
    await against(`matmul ${n}`, "GFLOP/s", matmul(n, inner), [request], gflops, 9);
  }
  const microseconds = (s: number) => s * 1e6;
  await against(
    "dispatch",
    "µs",
    dispatch(2000),
    [{ case: "dispatch", inner: 2000 }],
    microseconds,
  );
  const trained = trainShape.batch * trainShape.length;
  await against(
    "train step",
    "tokens/s",
    trainStep(),
    [{ case: "train", config: { ...model, ...trainShape } }],
    (s) => trained / s,
    7,
  );
  const { batch, newTokens } = decodeShape;
  await against(
    "decode",
    "tokens/s",
    decode(),
    ["einsum", "reduce"].map((style) => ({
      case: "decode",
      style,
      newTokens,
      config: { ...model, batch },
    })),
    (s) => batch * newTokens / s,
  );
  await peer.close();
  printTable(`engine (${backend.name}:${backend.platform}) against ${peer.name}`, peer.name, rows);
  await againstWasm();
}

/** tfjs's wasm backend on the same functions, called plainly: what one leaves behind. */
async function againstWasm(): Promise<void> {
  const cases = [
    { name: "matmul 512", make: () => matmul(512, 3) },
    { name: "train step", make: trainStep },
  ];
  const measure = async (spec: string) => {
    await useBackend(spec);
    const times: number[] = [];
    for (const { make } of cases) {
      const run = make();
      await run();
      times.push(await run());
    }
    return times;
  };
  const [wasm, xla] = [await measure("wasm"), await measure("xla")];
  const rows = cases.map(({ name }, i) => ({
    name,
    unit: "ms",
    peer: wasm[i]! * 1000,
    ours: xla[i]! * 1000,
    ratio: wasm[i]! / xla[i]!,
  }));
  printTable("engine against tfjs wasm", "tfjs wasm", rows);
}
