/**
 * Supervised training: fine-tuning on worked solutions, and rejection sampling, the same on sampled
 * solutions that came out right. Checkpointed in the stage's scratch folder, where it resumes; defaults
 * are the paper's.
 */
import { join } from "node:path";
import { z } from "zod";
import { saveModel } from "../lm/mod.ts";
import { defineStage, optional } from "../pipeline/mod.ts";
import { readTrajectories, trainRejectionSampling, trainSft } from "../rl/mod.ts";
import { checkpoint, curves, dataset, files, trajectories } from "./artifacts.ts";
import { CurveRecorder } from "./curves.ts";
import { startEngine } from "./engine.ts";
import { loadLanguageModel } from "./language_model.ts";
import { modelFields, newModel } from "./new_model.ts";
import { OpenTask, taskFields } from "./task.ts";
import { holdOut, networksOf, sizeOf, trainerOptions, trainingFields } from "./training.ts";

export const sft = defineStage({
  name: "sft",
  version: 1,
  module: import.meta.url,
  params: z.object({
    ...taskFields,
    ...trainingFields,
    ...modelFields,
    learningRate: z.number().positive().default(2e-5),
  }),
  inputs: { base: optional(checkpoint), data: optional(dataset) },
  outputs: { policy: checkpoint, curves },
  async run({ params, inputs, outputs, scratch, seed, signal, progress, log, metric }) {
    await startEngine(log);
    const task = await OpenTask.open(params, inputs.data);
    const model = inputs.base === undefined
      ? newModel(params.shape, await task.alphabet(), seed)
      : await loadLanguageModel(inputs.base.path);
    const { maxPositions } = model.config;
    const worked = (await task.demonstrations("train")).map(({ query, solution }) => ({
      promptIds: task.prompt(query, model).ids,
      responseIds: [...model.tokenizer.encode(solution), model.tokenizer.eosId],
    }));
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
    const recorder = new CurveRecorder(params.label, scratch, metric);
    const split = holdOut(demonstrations, ({ promptIds }) => promptIds.join(" "), params, seed);
    const { policy, metrics, steps } = await trainSft(
      networksOf(params, model.config).policy,
      model.params,
      split.items,
      {
        ...trainerOptions(
          params,
          model,
          { seed, signal, scratch, progress, recorder },
          sizeOf(model.params),
        ),
        ...(split.heldOut === undefined ? {} : { heldOut: split.heldOut }),
        learningRate: params.learningRate,
      },
    );
    await saveModel(outputs.policy.path, { ...model, params: policy });
    await recorder.write(outputs.curves.path);
    return { steps, loss: metrics.loss!, demonstrations: demonstrations.length, leftOut };
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
  async run({ params, inputs, outputs, scratch, seed, signal, progress, log, metric }) {
    await startEngine(log);
    const model = await loadLanguageModel(inputs.policy.path);
    const recorder = new CurveRecorder(params.label, scratch, metric);
    const all = await readTrajectories(join(inputs.trajectories.path, files.trajectories));
    const right = all.filter(({ reward }) => reward === 1);
    if (right.length === 0) {
      // A weak start on a hard task is a result too: the method has nothing to go on, and stands still.
      log(`none of ${all.length} solutions is right: the policy stays as it is`, "warn");
      await saveModel(outputs.policy.path, model);
      await recorder.write(outputs.curves.path);
      return { steps: 0, loss: null };
    }
    const split = holdOut(right, ({ query }) => query, params, seed);
    const { policy, metrics, steps } = await trainRejectionSampling(
      networksOf(params, model.config).policy,
      model.params,
      split.items,
      {
        ...trainerOptions(
          params,
          model,
          { seed, signal, scratch, progress, recorder },
          sizeOf(model.params),
        ),
        ...(split.heldOut === undefined ? {} : { heldOut: split.heldOut }),
        learningRate: params.learningRate,
      },
    );
    await saveModel(outputs.policy.path, { ...model, params: policy });
    await recorder.write(outputs.curves.path);
    return { steps, loss: metrics.loss! };
  },
});
