/**
 * Score: grades every sampled solution, marks its reasoning steps, computes the reference policy's
 * log-probabilities once, and picks a balanced part for training the policy.
 */
import { z } from "zod";
import { Scorer } from "../lm/mod.ts";
import { defineStage, optional } from "../pipeline/mod.ts";
import { balance, deduplicate, statistics, type Trajectory, writeTrajectories } from "../rl/mod.ts";
import { stepEnds } from "../tasks/mod.ts";
import { join } from "node:path";
import {
  checkpoint,
  dataset,
  files,
  readJsonLines,
  SampleRecord,
  samples,
  trajectories,
} from "./artifacts.ts";
import { startEngine } from "./engine.ts";
import { loadLanguageModel, tokenTexts } from "./language_model.ts";
import { OpenTask, taskFields } from "./task.ts";

const params = z.object({
  ...taskFields,
  /** Whether the policy trains on a balanced part, or on everything that is not a duplicate. */
  balance: z.boolean().default(true),
  /** Per query at most so many correct and wrong solutions, correct ≤ wrong but ≥ 1 where any. */
  maxCorrect: z.int().positive().default(4),
  maxWrong: z.int().positive().default(4),
  /** Sequences scored in one program run. */
  batchSize: z.int().positive().default(64),
});

export const score = defineStage({
  name: "score",
  version: 1,
  module: import.meta.url,
  params,
  inputs: { reference: checkpoint, samples, data: optional(dataset) },
  outputs: { all: trajectories, balanced: trajectories },
  async run({ params, inputs, outputs, seed, signal, progress, log }) {
    await startEngine(log);
    const task = await OpenTask.open(params, inputs.data);
    const records = await readJsonLines(SampleRecord, inputs.samples.path, files.samples);
    const model = await loadLanguageModel(inputs.reference.path);
    // What the reference drew itself came with its log-probabilities; only other samples cost a pass.
    const foreign = records.filter(({ policy }) => policy !== inputs.reference.id);
    const scored = await new Scorer(model, { batchSize: params.batchSize }).responses(foreign, {
      signal,
      onProgress: (done, total) => progress(done, total, "solutions"),
    });
    const refLogProbs = new Map(foreign.map((record, i) => [record, scored[i]!]));
    const graded: Trajectory[] = [];
    for (const record of records) {
      const { query, question, gold, prompt, promptIds, responseIds, text, logProbs } = record;
      const { actionMask, reward } = record;
      const ends = record.stepEnds ??
        stepEnds(tokenTexts(model.tokenizer, responseIds), task.task.stepDelimiters);
      // A solution that was cut off is wrong: it never came to its answer.
      const outcome = reward ?? (record.finish === "stop" &&
          (await task.grade({ id: query, question, gold }, text)).correct
        ? 1
        : 0);
      graded.push({
        version: 1,
        query,
        prompt,
        promptIds,
        responseIds,
        ...(actionMask === undefined ? {} : { actionMask }),
        stepEnds: ends,
        reward: outcome,
        refLogProbs: refLogProbs.get(record) ?? logProbs,
        source: inputs.samples.id,
      });
    }
    const distinct = deduplicate(graded);
    const balanced = params.balance
      ? balance(distinct, { maxCorrect: params.maxCorrect, maxWrong: params.maxWrong, seed })
      : distinct;
    await writeTrajectories(join(outputs.all.path, files.trajectories), graded);
    await writeTrajectories(join(outputs.balanced.path, files.trajectories), balanced);
    const [all, kept] = [statistics(graded), statistics(balanced)];
    for (const [what, found] of [["sampled", all], ["balanced", kept]] as const) {
      log(
        `${what}: ${found.trajectories} solutions (${found.correct} right, ${found.wrong} wrong) to ` +
          `${found.queries} queries, ${found.unsolved} never solved, ${found.mastered} always`,
      );
    }
    return {
      accuracy: all.correct / all.trajectories,
      unsolved: all.unsolved,
      mastered: all.mastered,
      balanced: kept.trajectories,
      balancedCorrect: kept.correct,
    };
  },
});
