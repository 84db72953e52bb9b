/**
 * OREO on GSM8K: from a checkpoint with `model.path`, by the paper's settings, or a small model from
 * scratch, which has not a chance and scores near zero: that run shows the graph, not the method.
 */
import { UserError } from "../errors.ts";
import { defineWorkflow } from "../pipeline/mod.ts";
import { gsm8k as gsm8kTask } from "../tasks/mod.ts";
import { withDefaultsByCase } from "./defaults.ts";
import { buildIterations, fromCheckpoint, iterationParams } from "./oreo.ts";

const schema = iterationParams({}).extend({
  // The folder comes in as an artifact, so that its content counts.
  task: gsm8kTask.params.omit({ path: true }).prefault({}),
});

/** Characters: longer than nearly every worked solution. */
const longest = 320;
const training = { epochs: 1, batchSize: 16, microBatch: 4, packing: false };

/** From scratch a token is a character, and the whole has to end in minutes on two cores. */
const fromScratch = {
  chat: false,
  task: { train: 1000 },
  sft: {
    ...training,
    // Room for every problem with its solution.
    shape: {
      hidden: 96,
      layers: 2,
      heads: 2,
      keyValueHeads: 1,
      feedForward: 256,
      maxLength: 1792,
    },
    buckets: 3,
    learningRate: 3e-3,
  },
  sample: { queries: 50, perQuery: 4, maxNewTokens: longest },
  score: { batchSize: 32 },
  train: {
    ...training,
    policyLearningRate: 3e-4,
    valueLearningRate: 3e-4,
    valueFirst: { epochs: 1, batchSize: training.batchSize, learningRate: 1e-3 },
  },
  rejectionSampling: { ...training, learningRate: 3e-4 },
  search: { queries: 20, beams: [1, 3, 5], maxNewTokens: longest, shown: 8 },
  evaluate: { queries: 100, maxNewTokens: longest },
};

const params = withDefaultsByCase(
  schema,
  { fromScratch, checkpoint: fromCheckpoint },
  ({ model }) => model.path === undefined ? "fromScratch" : "checkpoint",
);

export const gsm8k = defineWorkflow({
  name: "gsm8k",
  description: "OREO on GSM8K's published files: --set data.path=FOLDER [--set model.path=FOLDER]",
  params,
  build(w, { task, ...params }) {
    if (params.data.path === undefined) {
      throw new UserError(
        "workflow 'gsm8k' needs the folder with GSM8K's train and test files: --set data.path=FOLDER",
        { exitCode: 2 },
      );
    }
    buildIterations(w, "gsm8k", { name: "gsm8k", params: task }, params);
  },
});
