import assert from "node:assert/strict";
import { jit, random, tf, useBackend } from "../xla/mod.ts";
import {
  chooseTokens,
  drawIndex,
  GREEDY,
  type SamplingSettings,
  warpedWeights,
} from "./sampling.ts";
import { maxDifference } from "./test_support.ts";

await useBackend();

const all = { ...GREEDY, random: true, topK: true, topP: true };
const drawn = jit(drawIndex, { name: "draw" });

function settings(temperature: number[], topK: number[], topP: number[]): SamplingSettings {
  return {
    temperature: tf.tensor1d(temperature),
    topK: tf.tensor1d(topK),
    topP: tf.tensor1d(topP),
    minP: tf.zeros([topP.length]),
    repetitionPenalty: tf.ones([topP.length]),
  };
}

/** Probabilities by the definition, with a full sort. */
function reference(logits: number[], temperature: number, topK: number, topP: number): number[] {
  const order = logits.map((_, i) => i).sort((a, b) => logits[b]! - logits[a]!);
  const kept = order.slice(0, topK > 0 ? topK : logits.length);
  const weight = (i: number) => Math.exp((logits[i]! - logits[order[0]!]!) / temperature);
  const total = kept.reduce((sum, i) => sum + weight(i), 0);
  const out = new Array<number>(logits.length).fill(0);
  let mass = 0;
  for (const i of kept) {
    if (topP < 1 && mass >= topP) break;
    out[i] = weight(i) / total;
    mass += out[i]!;
  }
  const left = out.reduce((a, b) => a + b, 0);
  return out.map((p) => p / left);
}

Deno.test("temperature, top-k and top-p keep what a full sort keeps", async () => {
  const rows = 60;
  for (const size of [19, 700]) {
    const logits = tf.mul(random.normal(random.key(size), [rows, size]), 3) as tf.Tensor2D;
    const temperature = Array.from({ length: rows }, (_, i) => [0.3, 1, 2][i % 3]!);
    const topK = Array.from({ length: rows }, (_, i) => [0, 1, 5, 16, 1000][i % 5]!);
    const topP = Array.from({ length: rows }, (_, i) => [1, 0.9, 0.5, 0.05][i % 4]!);
    const weights = jit((x: tf.Tensor2D, s: { [key in keyof SamplingSettings]: tf.Tensor1D }) =>
      warpedWeights(x, s, all)
    )(logits, settings(temperature, topK, topP));
    const got = await weights.array();
    const given = await logits.array();
    for (let row = 0; row < rows; row++) {
      const want = reference(given[row]!, temperature[row]!, topK[row]!, topP[row]!);
      const total = got[row]!.reduce((a, b) => a + b, 0);
      const difference = maxDifference(got[row]!.map((w) => w / total), want);
      assert.ok(difference < 1e-5, `row ${row} of size ${size} differs by ${difference}`);
    }
  }
});

Deno.test("draws fall where the uniform number says, in vocabularies of one and of many blocks", async () => {
  for (const size of [7, 128, 129, 1000, 10_000]) {
    const rows = 64;
    const weights = tf.relu(tf.sub(random.uniform(random.key(size), [rows, size]), 0.5));
    const uniforms = random.uniform<tf.Rank.R1>(random.key(size + 1), [rows]);
    const got = await drawn(weights as tf.Tensor2D, uniforms).data();
    const w = await (weights as tf.Tensor2D).array();
    const u = await uniforms.data();
    for (let row = 0; row < rows; row++) {
      const total = w[row]!.reduce((a, b) => a + b, 0);
      const index = got[row]!;
      assert.ok(w[row]![index]! > 0);
      const before = w[row]!.slice(0, index).reduce((a, b) => a + b, 0) / total;
      const after = before + w[row]![index]! / total;
      const slack = 1e-5;
      assert.ok(before - slack <= u[row]! && u[row]! <= after + slack, `${u[row]} in row ${row}`);
    }
  }
});

Deno.test("a draw never takes a token of probability 0, not even at the ends", async () => {
  for (const size of [5, 300]) {
    const hot = size - 2;
    const rows = [0, 0.5, 1 - 2 ** -23];
    const weights = tf.tensor2d(
      rows.map(() => Array.from({ length: size }, (_, i) => +(i === hot))),
    );
    const got = await drawn(weights, tf.tensor1d(rows)).data();
    assert.deepEqual(Array.from(got), rows.map(() => hot));
  }
});

Deno.test("frequencies of draws follow the probabilities", async () => {
  const draws = 20_000;
  const logits = [0.5, -1, 2, 0, 1.2];
  const rows = tf.tile(tf.tensor2d([logits]), [draws, 1]);
  const kind = { ...GREEDY, random: true };
  const choose = jit((x: tf.Tensor2D, u: tf.Tensor1D, s: { [key: string]: tf.Tensor1D }) =>
    chooseTokens(x, s as unknown as SamplingSettings, u, kind)
  );
  const uniforms = random.uniform<tf.Rank.R1>(random.key(3), [draws]);
  const fill = (value: number) => new Array<number>(draws).fill(value);
  const { tokens, logProbs } = choose(rows, uniforms, { ...settings(fill(1), fill(0), fill(1)) });
  const want = reference(logits, 1, 0, 1);
  const counts = new Array<number>(logits.length).fill(0);
  const got = await tokens.data();
  const p = await logProbs.data();
  got.forEach((token, i) => {
    counts[token]!++;
    assert.ok(Math.abs(p[i]! - Math.log(want[token]!)) < 1e-5);
  });
  for (const [i, count] of counts.entries()) {
    const deviation = Math.sqrt(want[i]! * (1 - want[i]!) / draws);
    assert.ok(Math.abs(count / draws - want[i]!) < 5 * deviation, `token ${i}: ${count}`);
  }
});
