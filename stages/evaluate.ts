/** Evaluate: how many test queries a policy answers right, greedily and drawn at temperature 1. */
import { z } from "zod";
import { Generator } from "../lm/mod.ts";
import { defineStage, optional } from "../pipeline/mod.ts";
import { type MethodResult, wilson } from "../report/mod.ts";
import { tf } from "../xla/mod.ts";
import { checkpoint, dataset, type Evaluation, evaluation, files, writeJson } from "./artifacts.ts";
import { startEngine } from "./engine.ts";
import { loadLanguageModel } from "./language_model.ts";
import { answerLimits, OpenTask, taskFields } from "./task.ts";

/** Which queries figures are reported on, and the name they stand under. */
export const evaluationFields = {
  /** `sft`, `oreo`, ...; with `iteration` the name of the result. */
  method: z.string(),
  iteration: z.int().nonnegative(),
  split: z.enum(["validation", "test"]).default("test"),
  queries: z.int().positive().optional(),
  maxNewTokens: z.int().positive().default(2048),
};

export const evaluate = defineStage({
  name: "evaluate",
  version: 1,
  module: import.meta.url,
  params: z.object({
    ...taskFields,
    ...evaluationFields,
    /** Solutions drawn a query at temperature 1, all tokens allowed; 0: greedy only. */
    draws: z.int().nonnegative().default(1),
    slots: z.int().positive().default(64),
  }),
  inputs: { policy: checkpoint, data: optional(dataset) },
  outputs: { evaluation },
  async run({ params, inputs, outputs, seed, signal, progress, log }) {
    await startEngine(log);
    const model = await loadLanguageModel(inputs.policy.path);
    const task = await OpenTask.open(params, inputs.data);
    const queries = await task.queries(params.split, 0, params.queries);
    const prompts = queries.map((query) => task.prompt(query, model));
    const { limits, maxLength } = answerLimits(model, queries, prompts, params.maxNewTokens);
    using generator = new Generator(model, { slots: params.slots, maxLength });
    tf.dispose(model.params);
    const rounds = params.draws > 0 ? ["greedy", "sampled"] as const : ["greedy"] as const;
    const results: MethodResult[] = [];
    for (const [round, decoding] of rounds.entries()) {
      const n = decoding === "greedy" ? 1 : params.draws;
      const answers = await generator.generate(
        prompts.map(({ ids }, i) => ({
          promptIds: ids,
          n,
          seed: seed + i,
          temperature: decoding === "greedy" ? 0 : 1,
          maxNewTokens: limits[i]!,
        })),
        { signal },
      );
      let correct = 0;
      for (const [i, drawn] of answers.entries()) {
        for (const { text, finish } of drawn) {
          const grade = await task.grade(queries[i]!, text);
          if (grade.correct && finish === "stop") correct++;
        }
      }
      const { method: name, iteration } = params;
      results.push({ name, iteration, decoding, correct, n: queries.length * n });
      progress(round + 1, rounds.length, "decodings");
    }
    const found: Evaluation = { results, samples: [] };
    await writeJson(outputs.evaluation.path, files.evaluation, found);
    return Object.fromEntries(results.map(({ decoding, correct, n }) => {
      const { low, high } = wilson(correct, n);
      log(
        `${params.method}, ${decoding}: ${correct} of ${n} (${low.toFixed(3)} to ${
          high.toFixed(3)
        })`,
      );
      return [decoding, correct / n];
    }));
  },
});
