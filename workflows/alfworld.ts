/**
 * OREO on ALFWorld's household games: a small model from scratch on generated ones, in minutes and with
 * nothing to download, or a checkpoint on the official ones by the paper's settings.
 */
import { defineWorkflow } from "../pipeline/mod.ts";
import { alfworld as alfworldTask } from "../tasks/mod.ts";
import { withDefaultsByCase } from "./defaults.ts";
import { buildIterations, iterationParams } from "./oreo.ts";

const schema = iterationParams({}).extend({
  // The folder comes in as an artifact; both kinds of rooms are measured.
  task: alfworldTask.params.omit({ path: true, rooms: true }).prefault({}),
});

/** Tokens that are shown at once: longer than every small game. */
const window = 160;
/** Tokens of a turn, which is a command. */
const longest = 12;
const played = { maxNewTokens: longest, slots: 128, window };

const fromScratch = {
  chat: false,
  task: {
    protocol: "terse",
    // An expert that looks twice wins about 60 % of the games in so many turns, 96 % without it: the
    // policy inherits a habit that costs it games and that it can unlearn.
    maxTurns: 7,
    world: {
      receptacles: 3,
      objects: 3,
      types: ["pick_and_place_simple", "look_at_obj_in_light"],
      train: 8000,
      validation: 300,
      test: 400,
    },
    demonstrations: { dawdle: 0.02, doubleCheck: 0.6, maxTurns: 12 },
  },
  sft: {
    shape: {
      hidden: 96,
      layers: 3,
      heads: 4,
      keyValueHeads: 2,
      feedForward: 256,
      maxLength: window,
    },
    vocabulary: "words",
    epochs: 3,
    packing: false,
    batchSize: 16,
    buckets: 3,
    learningRate: 3e-3,
  },
  sample: { queries: 800, perQuery: 4, topP: 1, topK: 0, ...played },
  score: { batchSize: 64, balance: false },
  train: {
    epochs: 2,
    packing: false,
    batchSize: 32,
    alpha: 0.005,
    // A lost game is a long one: batches of like lengths would be all lost or all won.
    mixedLengths: true,
    buckets: 1,
    policyLearningRate: 3e-4,
    valueLearningRate: 3e-4,
    valueFirst: { epochs: 2, batchSize: 32, learningRate: 2e-3 },
  },
  rejectionSampling: { epochs: 1, packing: false, batchSize: 32, learningRate: 1e-3 },
  search: { queries: 200, beams: [1, 5], shown: 0, ...played },
  evaluate: { ...played },
} as const;

/** The paper's, with batches cut so that they fit most devices. */
const checkpoint = {
  chat: true,
  task: { protocol: "oreo" },
  sft: { epochs: 2, microBatch: 4 },
  sample: { perQuery: 5, topP: 1, topK: 0, maxNewTokens: 256, window: 4096 },
  score: { balance: false },
  train: { epochs: 3, microBatch: 2, mixedLengths: true },
  rejectionSampling: { microBatch: 4 },
  search: { beams: [1, 3, 5], shown: 0, maxNewTokens: 256, window: 4096 },
  evaluate: { maxNewTokens: 256, window: 4096 },
} as const;

const params = withDefaultsByCase(
  schema,
  { checkpoint, fromScratch } as never,
  ({ model }) => model.path === undefined ? "fromScratch" : "checkpoint" as never,
);

export const alfworld = defineWorkflow({
  name: "alfworld",
  description:
    "OREO on household games: generated ones from scratch, or --set data.path=FOLDER model.path=FOLDER",
  params,
  build(w, { task, ...params }) {
    const official = params.data.path !== undefined;
    buildIterations(w, "alfworld", {
      name: "alfworld",
      params: task,
      search: "best",
      ...(official && {
        tests: [
          { suffix: "_unseen", params: { rooms: "unseen" } },
          { suffix: "_seen", params: { rooms: "seen" } },
        ],
      }),
    }, params);
  },
});
