/**
 * The demo: one OREO iteration on arithmetic problems made on the spot, with a model of under a million
 * parameters trained from scratch.
 */
import { defineWorkflow } from "../pipeline/mod.ts";
import { arithmetic } from "../tasks/mod.ts";
import { withDefaults } from "./defaults.ts";
import { buildIterations, iterationParams } from "./oreo.ts";

const longest = 64;
/** The problems' solutions are of like lengths. */
const padded = { packing: false };

const params = iterationParams({
  sft: {
    shape: { hidden: 96, layers: 3, heads: 4, keyValueHeads: 2, feedForward: 256, maxLength: 128 },
    epochs: 2,
    ...padded,
    batchSize: 32,
    learningRate: 3e-3,
  },
  sample: { queries: 2000, perQuery: 10, topP: 1, topK: 0, maxNewTokens: longest, slots: 256 },
  score: { batchSize: 256 },
  train: {
    epochs: 2,
    ...padded,
    batchSize: 64,
    alpha: 0.012,
    policyLearningRate: 3e-4,
    valueLearningRate: 3e-4,
    valueFirst: { epochs: 1.5, batchSize: 32, learningRate: 2e-3 },
  },
  rejectionSampling: { epochs: 1, ...padded, batchSize: 32, learningRate: 1e-3 },
  search: { queries: 300, maxNewTokens: longest, slots: 256 },
  evaluate: { maxNewTokens: longest, slots: 256 },
}).extend({
  task: withDefaults(arithmetic.params, { train: 18_000 }).prefault({}),
});

export const demo = defineWorkflow({
  name: "demo",
  description: "one OREO iteration on generated arithmetic, trained from scratch in minutes",
  params,
  build: (w, { task, ...params }) =>
    buildIterations(w, "demo", { name: "arithmetic", params: task }, params),
});
