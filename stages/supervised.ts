/**
 * Supervised training: fine-tuning on worked solutions, and rejection sampling, the same on sampled
 * solutions that came out right. Checkpointed in the stage's scratch folder, where it resumes; defaults
 * are the paper's.
 */
import { z } from "zod";
import { UserError } from "../errors.ts";
import { type Params, saveModel } from "../lm/mod.ts";
import { defineStage, optional, type StageContext } from "../pipeline/mod.ts";
import {
  type Demonstration,
  type PolicyNetwork,
  type SftOptions,
  type SftResult,
  trainRejectionSampling,
  trainSft,
} from "../rl/mod.ts";
import { checkpoint, curves, dataset, trajectories } from "./artifacts.ts";
import { CurveRecorder } from "./curves.ts";
import { startEngine } from "./engine.ts";
import { type LanguageModel, loadLanguageModel } from "./language_model.ts";
import { modelFields, newModel, newTokenizer } from "./new_model.ts";
import { readSolutions } from "./solutions.ts";
import { OpenTask, taskFields } from "./task.ts";
import { saveTrained, trainablePolicy } from "./trainable.ts";
import {
  holdOut,
  networksOf,
  sizeOf,
  trainerOptions,
  type TrainingFields,
  trainingFields,
} from "./training.ts";

export const sft = defineStage({
  name: "sft",
  version: 1,
  module: import.meta.url,
  params: z.object({
    ...taskFields,
    ...trainingFields,
    ...modelFields,
    epochs: z.number().positive().default(3)
      .describe("passes over the data; the paper's code's for mathematics, 2 for ALFWorld"),
    learningRate: z.number().positive().default(2e-5),
  }),
  inputs: { base: optional(checkpoint), data: optional(dataset) },
  outputs: { policy: checkpoint, curves },
  async run({ params, inputs, outputs, ...context }) {
    const { seed, log } = context;
    await startEngine(log);
    if (inputs.base === undefined && params.lora !== undefined) {
      throw new UserError("lora adapts a model that is there: give the input 'base', or no lora");
    }
    const task = await OpenTask.open(params, inputs.data);
    const model = inputs.base === undefined
      ? newModel(
        params.shape,
        newTokenizer(
          params.vocabulary,
          await task.alphabet(),
          params.vocabulary === "words" ? await task.texts("train") : [],
        ),
        seed,
      )
      : await loadLanguageModel(inputs.base.path);
    const { maxPositions } = model.config;
    const worked = await task.worked("train", model);
    const demonstrations = worked.filter(({ promptIds, responseIds }) =>
      promptIds.length + responseIds.length <= maxPositions
    );
    const leftOut = worked.length - demonstrations.length;
    if (leftOut > 0) {
      log(
        `${leftOut} of ${worked.length} demonstrations are left out: they are longer than the ` +
          `${maxPositions} tokens that the model sees`,
        "warn",
      );
    }
    const queryOf = ({ promptIds }: Demonstration) => promptIds.join(" ");
    const split = holdOut(demonstrations, queryOf, params, seed);
    const { steps, loss } = await supervise(trainSft, model, split, params, context, outputs);
    return { steps, loss, demonstrations: demonstrations.length, leftOut };
  },
});

export const rejectionSampling = defineStage({
  name: "rejection_sampling",
  version: 1,
  module: import.meta.url,
  params: z.object({
    ...trainingFields,
    learningRate: z.number().positive().default(5e-6),
  }),
  inputs: { policy: checkpoint, trajectories },
  outputs: { policy: checkpoint, curves },
  async run({ params, inputs, outputs, ...context }) {
    const { scratch, seed, metric, log } = context;
    await startEngine(log);
    const model = await loadLanguageModel(inputs.policy.path);
    const all = await readSolutions(inputs.trajectories.path, model);
    const right = all.filter(({ reward }) => reward === 1);
    if (right.length === 0) {
      // A weak start on a hard task is a result too: the method has nothing to go on, and stands still.
      log(`none of ${all.length} solutions is right: the policy stays as it is`, "warn");
      await saveModel(outputs.policy.path, model);
      await new CurveRecorder(params.label, scratch, metric).write(outputs.curves.path);
      return { steps: 0, loss: null };
    }
    const split = holdOut(right, ({ query }) => query, params, seed);
    return await supervise(trainRejectionSampling, model, split, params, context, outputs);
  },
});

/** Trains on the items and writes policy and curves. */
async function supervise<Item extends Demonstration>(
  trainer: (
    network: PolicyNetwork,
    params: Params,
    items: readonly Item[],
    options: SftOptions,
  ) => Promise<SftResult>,
  model: LanguageModel,
  { items, heldOut }: ReturnType<typeof holdOut<Item>>,
  params: TrainingFields & { learningRate: number },
  { metric, ...context }: Pick<StageContext, "metric" | "scratch" | "seed" | "signal" | "progress">,
  outputs: { policy: { path: string }; curves: { path: string } },
): Promise<{ steps: number; loss: number }> {
  const recorder = new CurveRecorder(params.label, context.scratch, metric);
  const trainable = trainablePolicy(params, model, context.seed);
  const { policy, metrics, steps } = await trainer(
    networksOf(params, trainable.config).policy,
    trainable.params,
    items,
    {
      ...trainerOptions(params, model, { ...context, recorder }, sizeOf(model.params)),
      ...(heldOut === undefined ? {} : { heldOut }),
      learningRate: params.learningRate,
      base: trainable.base,
    },
  );
  await saveTrained(outputs.policy.path, model, trainable, policy);
  await recorder.write(outputs.curves.path);
  return { steps, loss: metrics.loss! };
}
