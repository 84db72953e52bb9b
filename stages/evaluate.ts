/** Evaluate: how many test queries a policy answers right, greedily and drawn at temperature 1. */
import { z } from "zod";
import { Generator } from "../lm/mod.ts";
import { defineStage, optional } from "../pipeline/mod.ts";
import { type MethodResult, wilson } from "../report/mod.ts";
import type { Query } from "../tasks/mod.ts";
import { tf } from "../xla/mod.ts";
import { checkpoint, dataset, type Evaluation, evaluation, files, writeJson } from "./artifacts.ts";
import { startEngine } from "./engine.ts";
import { type LanguageModel, loadLanguageModel } from "./language_model.ts";
import { play, tally } from "./play.ts";
import { playFields } from "./sample.ts";
import { answerLimits, OpenTask, taskFields } from "./task.ts";
import { Wording } from "./transcript.ts";

/** Which queries figures are reported on, and the name they stand under. */
export const evaluationFields = {
  /** `sft`, `oreo`, ...; with `iteration` the name of the result. */
  method: z.string(),
  iteration: z.int().nonnegative(),
  split: z.enum(["validation", "test"]).default("test"),
  queries: z.int().positive().optional(),
  maxNewTokens: z.int().positive().default(2048),
};

const params = z.object({
  ...taskFields,
  ...evaluationFields,
  /** Solutions drawn a query at temperature 1, all tokens allowed; 0: greedy only. */
  draws: z.int().nonnegative().default(1),
  slots: z.int().positive().default(64),
  ...playFields,
});

export const evaluate = defineStage({
  name: "evaluate",
  version: 1,
  module: import.meta.url,
  params,
  inputs: { policy: checkpoint, data: optional(dataset) },
  outputs: { evaluation },
  async run({ params, inputs, outputs, seed, signal, progress, log }) {
    await startEngine(log);
    const model = await loadLanguageModel(inputs.policy.path);
    const task = await OpenTask.open(params, inputs.data);
    const queries = await task.queries(params.split, 0, params.queries);
    if (task.task.agent !== undefined) {
      const results = await playedResults({ params, task, model, queries, seed, signal, progress });
      return await publish(results);
    }
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
    return await publish(results);

    async function publish(results: MethodResult[]) {
      const found: Evaluation = { results, samples: [] };
      await writeJson(outputs.evaluation.path, files.evaluation, found);
      return Object.fromEntries(results.map(({ decoding, correct, n }) => {
        const { low, high } = wilson(correct, n);
        const interval = `${low.toFixed(3)} to ${high.toFixed(3)}`;
        log(`${params.method}, ${decoding}: ${correct} of ${n} (${interval})`);
        return [decoding, correct / n];
      }));
    }
  },
});

/** Episodes of a task of turns, greedily and drawn. */
async function playedResults(
  { params: p, task, model, queries, seed, signal, progress }: {
    params: z.output<typeof params>;
    task: OpenTask;
    model: LanguageModel;
    queries: readonly Query[];
    seed: number;
    signal: AbortSignal;
    progress(done: number, total: number, unit?: string): void;
  },
): Promise<MethodResult[]> {
  const maxLength = Math.min(model.config.maxPositions, p.window ?? Infinity);
  using generator = new Generator(model, {
    slots: p.slots,
    maxLength,
    tokensPerDispatch: p.tokensPerDispatch,
    whole: true,
  });
  tf.dispose(model.params);
  const wording = new Wording(model, p.chat);
  const results: MethodResult[] = [];
  const total = queries.length * (1 + p.draws);
  for (const decoding of p.draws > 0 ? ["greedy", "sampled"] as const : ["greedy"] as const) {
    const n = decoding === "greedy" ? 1 : p.draws;
    const attempts = queries.flatMap((query, i) =>
      Array.from({ length: n }, (_, draw) => ({ query, seed: seed + i * n + draw }))
    );
    const played = await play(generator, task, wording, attempts, {
      temperature: decoding === "greedy" ? 0 : 1,
      maxNewTokens: Math.min(p.maxNewTokens, maxLength >> 2),
      signal,
      onProgress: (done) =>
        progress(decoding === "greedy" ? done : queries.length + done, total, "episodes"),
    });
    results.push({ name: p.method, iteration: p.iteration, decoding, ...tally(played) });
  }
  return results;
}
