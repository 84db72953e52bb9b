/**
 * The OREO iteration as a graph, shared by every workflow that runs it on some task:
 *
 *     sft -> sample -> score -> train -> search -> evaluate -> report
 *
 * with rejection sampling beside it on the same samples. From the second iteration on each method
 * samples from its own policy and takes it as the new reference.
 */
import { z } from "zod";
import type { ArtifactRef, WorkflowBuilder } from "../pipeline/mod.ts";
import {
  checkpoint,
  type curves,
  dataset,
  evaluate,
  type evaluation,
  rejectionSampling,
  report,
  sample,
  score,
  search,
  sft,
  train,
} from "../stages/mod.ts";
import { type Defaults, withDefaults } from "./defaults.ts";

/** What the graph itself fills in. */
const task = { task: true, taskParams: true, chat: true } as const;
const name = { method: true, iteration: true } as const;

/** A section a stage: its own parameters, but for what the graph fills in. */
const sections = {
  sft: sft.params.omit({ ...task, label: true }),
  sample: sample.params.omit(task),
  score: score.params.omit(task),
  train: train.params.omit({ label: true }),
  rejectionSampling: rejectionSampling.params.omit({ label: true }),
  search: search.params.omit({ ...task, ...name }),
  evaluate: evaluate.params.omit({ ...task, ...name }),
};
type Sections = typeof sections;

/** A workflow's own defaults, by section; what is left out is the stage's, which is the paper's. */
export type IterationDefaults = {
  [Name in keyof Sections]?: Defaults<z.input<Sections[Name]>>;
};

/** Batches cut so that they fit most devices. */
const training = { microBatch: 8 };

/** The stages' own settings, which are the paper's. The cut changes no gradient. */
export const fromCheckpoint = {
  chat: true,
  sft: training,
  train: training,
  rejectionSampling: training,
};

/** The parameters of a workflow of OREO iterations. */
export function iterationParams(defaults: IterationDefaults) {
  return z.object({
    iterations: z.int().positive().default(1),
    /** Whether rejection sampling runs beside OREO. */
    baseline: z.boolean().default(true),
    chat: z.boolean().default(false).describe("word queries through the model's chat template"),
    model: z.object({
      path: z.string().optional().describe("checkpoint to start from; none: from scratch"),
    }).prefault({}),
    data: z.object({
      path: z.string().optional().describe("the folder with the task's files"),
    }).prefault({}),
    sft: withDefaults(sections.sft, defaults.sft).prefault({}),
    sample: withDefaults(sections.sample, defaults.sample).prefault({}),
    score: withDefaults(sections.score, defaults.score).prefault({}),
    train: withDefaults(sections.train, defaults.train).prefault({}),
    rejectionSampling: withDefaults(sections.rejectionSampling, defaults.rejectionSampling)
      .prefault({}),
    search: withDefaults(sections.search, defaults.search).prefault({}),
    evaluate: withDefaults(sections.evaluate, defaults.evaluate).prefault({}),
  });
}

export type IterationParams = z.output<ReturnType<typeof iterationParams>>;

/** A task as a workflow hands it to the stages. */
export interface IterationTask {
  name: string;
  params: Record<string, unknown>;
  /** What search does: beams, or, in tasks of turns, the best of several turns. */
  search?: "beam" | "best";
  /** Other test sets than the parameters', each under a suffix to the methods' names. */
  tests?: readonly { suffix: string; params: Record<string, unknown> }[];
}

/** Wires `params.iterations` iterations on a task and the report over all of them. */
export function buildIterations(
  w: WorkflowBuilder,
  workflow: string,
  { search: searching = "beam", tests = [{ suffix: "", params: {} }], ...task }: IterationTask,
  params: IterationParams,
): void {
  const data = params.data.path === undefined
    ? {}
    : { data: w.import("data", dataset, params.data.path) };
  const commonWith = (more: Record<string, unknown>) => ({
    task: task.name,
    taskParams: { ...task.params, ...more } as z.input<typeof sample.params>["taskParams"] & object,
    chat: params.chat,
  });
  const common = commonWith({});
  const evaluations: ArtifactRef<typeof evaluation>[] = [];
  const trained: ArtifactRef<typeof curves>[] = [];

  const evaluated = (id: string, method: string, iteration: number, policy: Policy) => {
    for (const { suffix, params: more } of tests) {
      const node = w.stage(`evaluate.${id}${suffix}`, evaluate, {
        // One seed for all: every method draws with the same random numbers.
        seed: w.seed,
        params: { ...commonWith(more), ...params.evaluate, method: method + suffix, iteration },
        inputs: { policy, ...data },
      });
      evaluations.push(node.outputs.evaluation);
      w.value(id + suffix, node, "greedy");
    }
  };

  const base = params.model.path === undefined
    ? {}
    : { base: w.import("base", checkpoint, params.model.path) };
  const start = w.stage("sft", sft, {
    params: { ...common, ...params.sft, label: "sft" },
    inputs: { ...base, ...data },
  });
  trained.push(start.outputs.curves);
  evaluated("sft", "sft", 0, start.outputs.policy);

  const drawn = (id: string, policy: Policy) => {
    const solutions = w.stage(`sample.${id}`, sample, {
      params: { ...common, ...params.sample },
      inputs: { policy, ...data },
    });
    return w.stage(`score.${id}`, score, {
      params: { ...common, ...params.score },
      inputs: { reference: policy, samples: solutions.outputs.samples, ...data },
    }).outputs;
  };

  let policy: Policy = start.outputs.policy;
  let value: Policy | undefined;
  let rejected: Policy = start.outputs.policy;
  for (let iteration = 1; iteration <= params.iterations; iteration++) {
    const scored = drawn(`${iteration}`, policy);
    const oreo = w.stage(`train.${iteration}`, train, {
      params: { ...params.train, label: `oreo.${iteration}` },
      inputs: { policy, balanced: scored.balanced, all: scored.all, ...(value && { value }) },
    });
    trained.push(oreo.outputs.curves);
    if (params.baseline) {
      const own = iteration === 1 ? scored : drawn(`rejection_sampling.${iteration}`, rejected);
      const baseline = w.stage(`rejection_sampling.${iteration}`, rejectionSampling, {
        params: { ...params.rejectionSampling, label: `rejection_sampling.${iteration}` },
        inputs: { policy: rejected, trajectories: own.all },
      });
      rejected = baseline.outputs.policy;
      trained.push(baseline.outputs.curves);
      evaluated(`rejection_sampling.${iteration}`, "rejection_sampling", iteration, rejected);
    }
    evaluated(`oreo.${iteration}`, "oreo", iteration, oreo.outputs.policy);
    // A job a width, the widest and longest first; it also brings the solutions to look at.
    const widths = [...params.search.beams].sort((a, b) => b - a);
    for (const [i, width] of widths.entries()) {
      for (const { suffix, params: more } of tests) {
        const searched = w.stage(`search.${iteration}.${searching}${width}${suffix}`, search, {
          seed: w.seed,
          params: {
            ...commonWith(more),
            ...params.search,
            beams: [width],
            shown: i === 0 ? params.search.shown : 0,
            method: `oreo${suffix}`,
            iteration,
          },
          inputs: {
            policy: oreo.outputs.policy,
            value: oreo.outputs.value,
            reference: policy,
            ...data,
          },
        });
        evaluations.push(searched.outputs.evaluation);
      }
    }
    ({ policy, value } = oreo.outputs);
  }

  const settings = JSON.parse(JSON.stringify({ task, ...params }));
  const page = w.stage("report", report, {
    params: { workflow, seed: w.seed, settings },
    inputs: { evaluations, curves: trained },
  });
  w.output(".", page.outputs.report);
  w.output("policy", policy);
  if (value !== undefined) w.output("value", value);
}

type Policy = ArtifactRef<typeof checkpoint>;
