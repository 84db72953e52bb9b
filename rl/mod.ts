/**
 * Reinforcement learning: trajectories and their balancing, the objectives of OREO and its baselines,
 * AdamW, the trainers with their checkpoints, and value-guided search. Models come in as pure functions
 * (`languageNetworks` makes them of a language model); tasks and stages are not known here.
 */
export * from "./balance.ts";
export { type Batch, bucketLengths, type Item, planEpoch } from "./batches.ts";
export { pack, type PackShapes, packShapes } from "./packing.ts";
export type { Models } from "./gradients.ts";
export {
  languageNetworks,
  type Networks,
  type PolicyNetwork,
  type ValueNetwork,
} from "./networks.ts";
export * from "./objectives/mod.ts";
export {
  adamInit,
  type AdamOptions,
  type AdamState,
  adamStep,
  adamUpdate,
  cosineRate,
  decaysByName,
  defaultWarmup,
  type NamedTensors,
} from "./optimizer.ts";
export {
  type BeamOptions,
  beamSearch,
  bestOfK,
  type BestOfOptions,
  type BestOfResult,
  type SearchProblem,
  type SearchResult,
  type ValuedGenerator,
} from "./search.ts";
export { shuffled, uniforms } from "./shuffle.ts";
export { type Pair, type PairOptions, preferencePairs } from "./pairs.ts";
export { EventFile } from "./tensorboard.ts";
export { disposeModels, type TrainingOptions } from "./trainer.ts";
export {
  type DpoOptions,
  type KtoOptions,
  type PreferenceOptions,
  trainDpo,
  trainKto,
} from "./trainer_preference.ts";
export type { KlTarget } from "./oreo_memory.ts";
export {
  type OreoInputs,
  type OreoOptions,
  type OreoResult,
  oreoStepPeak,
  trainOreo,
} from "./trainer_oreo.ts";
export {
  type SftOptions,
  type SftResult,
  trainRejectionSampling,
  trainSft,
} from "./trainer_sft.ts";
export {
  type Demonstration,
  parseTrajectory,
  readTrajectories,
  type Trajectory,
  trajectorySchema,
  trajectoryVersion,
  writeTrajectories,
} from "./trajectory.ts";
