/**
 * Search: test queries answered by step-level beam search that the value model guides, for several
 * widths, and a page of plain solutions with V and the implicit advantage of every token. Tasks of turns
 * are played with the best of K turns at each point instead.
 */
import { z } from "zod";
import { Generator, Scorer } from "../lm/mod.ts";
import { defineStage, optional } from "../pipeline/mod.ts";
import { beamSearch, type SearchProblem } from "../rl/mod.ts";
import type { MethodResult, Sample } from "../report/mod.ts";
import type { Query } from "../tasks/mod.ts";
import { tf } from "../xla/mod.ts";
import { checkpoint, dataset, type Evaluation, evaluation, files, writeJson } from "./artifacts.ts";
import { startEngine } from "./engine.ts";
import { evaluationFields } from "./evaluate.ts";
import { type LanguageModel, loadLanguageModel, tokenTexts } from "./language_model.ts";
import { play, tally } from "./play.ts";
import { playFields } from "./sample.ts";
import { answerLimits, OpenTask, taskFields } from "./task.ts";
import { Wording } from "./transcript.ts";

const params = z.object({
  ...taskFields,
  ...evaluationFields,
  /** Beams; in a task of turns, candidates for each turn. */
  beams: z.array(z.int().positive()).default([1, 3, 5, 7]),
  ...playFields,
  temperature: z.number().positive().default(1),
  topP: z.number().gt(0).max(1).default(1),
  topK: z.int().nonnegative().default(0),
  slots: z.int().positive().default(64),
  /** Solutions to look at in the report. */
  shown: z.int().nonnegative().default(24),
  /** β of the implicit advantage β·(log π − log π_ref); the training's. */
  beta: z.number().positive().default(0.03),
});

export const search = defineStage({
  name: "search",
  version: 1,
  module: import.meta.url,
  params,
  inputs: {
    policy: checkpoint,
    value: checkpoint,
    reference: checkpoint,
    data: optional(dataset),
  },
  outputs: { evaluation },
  async run({ params, inputs, outputs, seed, signal, progress, log }) {
    await startEngine(log);
    const policy = await loadLanguageModel(inputs.policy.path);
    const value = await loadLanguageModel(inputs.value.path);
    const task = await OpenTask.open(params, inputs.data);
    const queries = await task.queries(params.split, 0, params.queries);
    if (task.task.agent !== undefined) return await bestTurns();
    const prompts = queries.map((query) => task.prompt(query, policy));
    const { limits, maxLength } = answerLimits(policy, queries, prompts, params.maxNewTokens);
    using generator = new Generator(policy, { slots: params.slots, maxLength, valueModel: value });
    tf.dispose([policy.params, value.params]);
    const problems = prompts.map(({ ids }, i) => ({ promptIds: ids, seed: seed + i }));
    const results: MethodResult[] = [];
    for (const [i, beams] of params.beams.entries()) {
      const answers = await beamSearch(generator, problems, {
        beams,
        temperature: params.temperature,
        topK: params.topK,
        topP: params.topP,
        maxNewTokens: params.maxNewTokens,
        stepEnds: task.task.stepDelimiters,
        endIds: [policy.tokenizer.eosId],
        signal,
        onProgress: (done, total) =>
          progress(i * total + done, params.beams.length * total, "searches"),
      });
      let correct = 0;
      for (const [q, { ids, finish }] of answers.entries()) {
        const text = policy.tokenizer.decode(ids, { skipSpecialTokens: true });
        if (finish === "stop" && (await task.grade(queries[q]!, text)).correct) correct++;
      }
      const { method: name, iteration } = params;
      results.push({ name, iteration, decoding: "beam", beam: beams, correct, n: queries.length });
      log(`beam ${beams}: ${correct} of ${queries.length}`);
    }
    const samples = await shownSamples();
    const found: Evaluation = { results, samples };
    await writeJson(outputs.evaluation.path, files.evaluation, found);
    return Object.fromEntries(results.map(({ beam, correct, n }) => [`beam${beam}`, correct / n]));

    /** A task of turns: of K drawn at each point the one that V thinks most of. */
    async function bestTurns() {
      const maxLength = Math.min(policy.config.maxPositions, params.window ?? Infinity);
      using generator = new Generator(policy, {
        slots: params.slots,
        maxLength,
        valueModel: value,
        tokensPerDispatch: params.tokensPerDispatch,
        whole: true,
      });
      tf.dispose([policy.params, value.params]);
      const wording = new Wording(policy, params.chat);
      const attempts = queries.map((query, i) => ({ query, seed: seed + i }));
      const results: MethodResult[] = [];
      for (const [i, candidates] of params.beams.entries()) {
        const played = await play(generator, task, wording, attempts, {
          candidates,
          temperature: params.temperature,
          topK: params.topK,
          topP: params.topP,
          maxNewTokens: Math.min(params.maxNewTokens, maxLength >> 2),
          signal,
          onProgress: (done, total) =>
            progress(i * total + done, params.beams.length * total, "episodes"),
        });
        const { method: name, iteration } = params;
        const counted = tally(played);
        results.push({ name, iteration, decoding: "best_of", candidates, ...counted });
        log(`best of ${candidates}: ${counted.correct} of ${counted.n}`);
      }
      await writeJson(outputs.evaluation.path, files.evaluation, { results, samples: [] });
      return Object.fromEntries(
        results.map(({ candidates, correct, n }) => [`best${candidates}`, correct / n]),
      );
    }

    /** Plain solutions of the first queries, each token with V after it and its advantage. */
    async function shownSamples(): Promise<Sample[]> {
      const shown = Math.min(params.shown, queries.length);
      if (shown === 0) return [];
      const drawn = await generator.generate(
        problems.slice(0, shown).map((problem: SearchProblem, i) => ({
          ...problem,
          temperature: params.temperature,
          maxNewTokens: limits[i]!,
        })),
        { signal },
      );
      const solutions = drawn.map(([first]) => first!);
      const reference = new Scorer(await loadLanguageModel(inputs.reference.path));
      const refLogProbs = await reference.responses(
        solutions.map(({ ids }, i) => ({ promptIds: prompts[i]!.ids, responseIds: ids })),
        { signal },
      );
      return await Promise.all(solutions.map(async ({ ids, text, logProbs, values, finish }, i) => {
        const { correct, extracted } = await task.grade(queries[i]!, text);
        return shownSample(queries[i]!, prompts[i]!.text, policy, {
          ids,
          values: values!,
          advantages: logProbs.map((l, t) => params.beta * (l - refLogProbs[i]![t]!)),
          correct: correct && finish === "stop",
          answer: extracted,
          method: params.method,
          iteration: params.iteration,
        });
      }));
    }
  },
});

/** One solution for the report; the end token has no text and is left out. */
function shownSample(
  query: Query,
  prompt: string,
  { tokenizer }: LanguageModel,
  solution: Omit<Sample, "query" | "prompt" | "tokens" | "gold"> & {
    ids: number[];
    advantages: number[];
  },
): Sample {
  const { ids, values, advantages, ...rest } = solution;
  const end = ids.at(-1) === tokenizer.eosId ? ids.length - 1 : ids.length;
  return {
    ...rest,
    query: query.id,
    prompt,
    gold: query.gold,
    tokens: tokenTexts(tokenizer, ids.slice(0, end)),
    promptValue: values[0]!,
    values: values.slice(1, end + 1),
    advantages: advantages.slice(0, end),
  };
}
