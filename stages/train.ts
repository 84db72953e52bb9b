/**
 * Train: supervised fine-tuning on worked solutions, rejection sampling, and OREO. All three are
 * checkpointed in the stage's scratch folder and resume there; defaults are the paper's.
 */
import { z } from "zod";
import { saveModel } from "../lm/mod.ts";
import { defineStage, optional } from "../pipeline/mod.ts";
import {
  languageNetworks,
  readTrajectories,
  trainOreo,
  trainRejectionSampling,
  trainSft,
} from "../rl/mod.ts";
import { join } from "node:path";
import { checkpoint, curves, dataset, files, trajectories } from "./artifacts.ts";
import { CurveRecorder } from "./curves.ts";
import { startEngine } from "./engine.ts";
import { type LanguageModel, loadLanguageModel } from "./language_model.ts";
import { modelFields, newModel } from "./new_model.ts";
import { OpenTask, taskFields } from "./task.ts";
import { valueModelOf } from "./value_model.ts";

/** What every training takes. */
export const trainingFields = {
  epochs: z.number().positive().default(1),
  batchSize: z.int().positive().default(128),
  /** Sequences per program run; all of a batch where left out. */
  microBatch: z.int().positive().optional(),
  weightDecay: z.number().nonnegative().default(0),
  /** Padded lengths that programs are compiled for. */
  buckets: z.int().positive().default(2),
  checkpointEvery: z.int().positive().default(200).describe("steps"),
  /** The name under which the report shows the curves. */
  label: z.string(),
};

type TrainingFields = z.output<z.ZodObject<typeof trainingFields>>;

/** The trainer's options that follow from a stage's parameters and context. */
function trainerOptions(
  params: TrainingFields,
  model: LanguageModel,
  { seed, signal, scratch, progress, recorder }: {
    seed: number;
    signal: AbortSignal;
    scratch: string;
    progress: (done: number, total: number) => void;
    recorder: CurveRecorder;
  },
) {
  return {
    epochs: params.epochs,
    batchSize: params.batchSize,
    ...(params.microBatch === undefined ? {} : { microBatch: params.microBatch }),
    adam: { weightDecay: params.weightDecay },
    buckets: params.buckets,
    seed,
    padId: model.tokenizer.padId,
    maxLength: model.config.maxPositions,
    signal,
    checkpoints: { folder: scratch, every: params.checkpointEvery },
    onMetrics: (step: number, values: Record<string, number>, total: number) => {
      recorder.add(step, values);
      progress(step, total);
    },
  };
}

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
    const { policy, metrics, steps } = await trainSft(
      languageNetworks(model.config).policy,
      model.params,
      demonstrations,
      {
        ...trainerOptions(params, model, { seed, signal, scratch, progress, recorder }),
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
    if (!all.some(({ reward }) => reward === 1)) {
      // A weak start on a hard task is a result too: the method has nothing to go on, and stands still.
      log(`none of ${all.length} solutions is right: the policy stays as it is`, "warn");
      await saveModel(outputs.policy.path, model);
      await recorder.write(outputs.curves.path);
      return { steps: 0, loss: null };
    }
    const { policy, metrics, steps } = await trainRejectionSampling(
      languageNetworks(model.config).policy,
      model.params,
      all,
      {
        ...trainerOptions(params, model, { seed, signal, scratch, progress, recorder }),
        learningRate: params.learningRate,
      },
    );
    await saveModel(outputs.policy.path, { ...model, params: policy });
    await recorder.write(outputs.curves.path);
    return { steps, loss: metrics.loss! };
  },
});

export const train = defineStage({
  name: "train",
  version: 1,
  module: import.meta.url,
  params: z.object({
    ...trainingFields,
    level: z.enum(["token", "step", "response"]).default("token"),
    /** β: how dear it is to leave the reference. */
    beta: z.number().positive().default(0.03),
    /** Weight of the KL regulariser; the paper's for the level where left out. */
    alpha: z.number().nonnegative().optional(),
    policyLearningRate: z.number().positive().default(5e-6),
    valueLearningRate: z.number().positive().default(5e-6),
    /** Training of V alone, on all trajectories, before the policy moves; 0 epochs: none. */
    valueFirst: z.object({
      epochs: z.number().nonnegative().default(0),
      batchSize: z.int().positive().default(128),
      learningRate: z.number().positive().default(5e-6),
    }).prefault({}),
  }),
  inputs: {
    policy: checkpoint,
    value: optional(checkpoint),
    balanced: trajectories,
    all: trajectories,
  },
  outputs: { policy: checkpoint, value: checkpoint, curves },
  async run({ params, inputs, outputs, scratch, seed, signal, progress, log, metric }) {
    await startEngine(log);
    const model = await loadLanguageModel(inputs.policy.path);
    const critic = await valueModelOf(model, inputs.value?.path);
    const recorder = new CurveRecorder(params.label, scratch, metric);
    const { valueFirst } = params;
    const { policy, value, metrics, valueMetrics, steps } = await trainOreo({
      networks: languageNetworks(model.config),
      policy: model.params,
      value: critic.params,
      trajectories: await readTrajectories(join(inputs.balanced.path, files.trajectories)),
      valueTrajectories: await readTrajectories(join(inputs.all.path, files.trajectories)),
    }, {
      ...trainerOptions(params, model, { seed, signal, scratch, progress, recorder }),
      level: params.level,
      beta: params.beta,
      ...(params.alpha === undefined ? {} : { alpha: params.alpha }),
      policyLearningRate: params.policyLearningRate,
      valueLearningRate: params.valueLearningRate,
      ...(valueFirst.epochs === 0 ? {} : { valueFirst }),
    });
    await saveModel(outputs.policy.path, { ...model, params: policy });
    await saveModel(outputs.value.path, { ...critic, params: value });
    await recorder.write(outputs.curves.path);
    return {
      steps,
      valueLoss: metrics.value_loss!,
      policyLoss: metrics.policy_loss!,
      kl: metrics.kl!,
      ...(valueMetrics?.value_auc === undefined ? {} : { valueFirstAuc: valueMetrics.value_auc }),
    };
  },
});
