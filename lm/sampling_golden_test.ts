/** Temperature, top-k, top-p, min-p and the repetition penalty against transformers' processors (`$SHARED/golden/sampling`). */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { jit, tf, useBackend } from "../xla/mod.ts";
import { penalised, type SamplingSettings, warpedWeights } from "./sampling.ts";
import { maxDifference, sharedFolder } from "./test_support.ts";

interface Warpers {
  logits: number[][];
  input_ids: number[][];
  cases: { processors_in_order: [string, number][]; kept: number[][]; probs: number[][] }[];
}

await useBackend();

const folder = sharedFolder("golden/sampling");
if (folder !== undefined) {
  const { logits, input_ids: inputIds, cases } = JSON.parse(
    readFileSync(join(folder, "warpers.json"), "utf8"),
  ) as Warpers;
  for (const { processors_in_order: processors, kept, probs } of cases) {
    const title = processors.map(([name, value]) => `${name} ${value}`).join(", ");
    Deno.test(`processors as transformers has them: ${title}`, async () => {
      const value = Object.fromEntries(processors);
      const rows = logits.length;
      const fill = (x: number) => tf.fill<tf.Rank.R1>([rows], x);
      const settings = {
        temperature: fill(value.temperature ?? 1),
        topK: fill(value.top_k ?? 0),
        topP: fill(value.top_p ?? 1),
        minP: fill(value.min_p ?? 0),
        repetitionPenalty: fill(value.repetition_penalty ?? 1),
      };
      const kind = {
        random: true,
        topK: "top_k" in value,
        topP: "top_p" in value,
        minP: "min_p" in value,
        repetition: "repetition_penalty" in value,
      };
      const known = ["temperature", "top_k", "top_p", "min_p", "repetition_penalty"];
      assert.deepEqual(Object.keys(value).filter((name) => !known.includes(name)), []);
      const seen = tf.tensor2d(
        inputIds.map((ids) => logits[0]!.map((_, id) => +ids.includes(id))),
        undefined,
        "bool",
      );
      const warped = jit(
        (
          x: tf.Tensor2D,
          seen: tf.Tensor2D,
          s: { [key in keyof SamplingSettings]: tf.Tensor1D },
        ) => {
          const weights = warpedWeights(penalised(x, seen, s.repetitionPenalty), s, kind);
          return tf.div(weights, tf.sum(weights, 1, true));
        },
      )(tf.tensor2d(logits), seen, settings);
      const got = await warped.array() as number[][];
      assert.deepEqual(got.map((row) => row.map((p) => +(p > 0))), kept);
      for (const [row, want] of probs.entries()) {
        assert.ok(maxDifference(got[row]!, want) < 1e-6, `row ${row}`);
      }
    });
  }
}
