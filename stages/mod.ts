/**
 * The stages of an OREO iteration: sample, score, train, search, evaluate, with supervised fine-tuning
 * before, rejection sampling beside and the report after. Each is a job that needs nothing but its
 * inputs and can be killed and started again.
 */
import type { Stage } from "../pipeline/mod.ts";
import { evaluate } from "./evaluate.ts";
import { report } from "./report.ts";
import { sample } from "./sample.ts";
import { score } from "./score.ts";
import { search } from "./search.ts";
import { rejectionSampling, sft } from "./supervised.ts";
import { train } from "./train.ts";

export * from "./artifacts.ts";
export { chooseEngine, prepareEngine, startEngine } from "./engine.ts";
export { evaluate, rejectionSampling, report, sample, score, search, sft, train };

/** Every stage, by name: what `stage NAME` and the executors look up. */
export const stages: Readonly<Record<string, Stage>> = Object.fromEntries(
  [sft, sample, score, train, rejectionSampling, search, evaluate, report].map((
    stage,
  ) => [stage.name, stage as Stage]),
);
