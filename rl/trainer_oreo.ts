/**
 * OREO: policy and value model trained together on the soft Bellman equation. A step is one program: one
 * forward pass of the policy serves both losses, the value model takes its step, then the policy, whose
 * loss uses the values from before that step and so does not depend on it. The value model may train
 * alone first, with the policy frozen: a policy that moves by a V that knows nothing yet pushes down
 * whatever wrong samples hold, right steps included.
 */
import { UserError } from "../errors.ts";
import { join } from "node:path";
import type { Networks } from "./networks.ts";
import { oreoObjective, type OreoObjectiveOptions } from "./oreo_objective.ts";
import type { Normalisation } from "./objectives/mod.ts";
import type { NamedTensors } from "./optimizer.ts";
import { disposeModels, stepPeak, train, type TrainingOptions } from "./trainer.ts";
import type { Trajectory } from "./trajectory.ts";

export interface OreoOptions
  extends
    Omit<TrainingOptions, "learningRates" | "level" | "freeze" | "actionNormalisation">,
    OreoObjectiveOptions {
  /**
   * `dqo`: one squared Bellman error for both models (arXiv 2410.09302), token level, without
   * regulariser. Default `oreo`.
   */
  method?: "oreo" | "dqo";
  /**
   * How the regulariser is averaged; default `normalisation`. The code's is `sequence` whatever the
   * losses' is.
   */
  klNormalisation?: Normalisation | undefined;
  /** Peak rate of the policy; default 5e-6. */
  policyLearningRate?: number;
  /** Peak rate of the value model; default the policy's. */
  valueLearningRate?: number;
  /**
   * The policy is frozen for this share of the steps, in which V trains on the same batches; its
   * schedule spans the rest. Default 0, as in the paper; the code counts steps (`actor_freeze_steps`)
   * and lets the policy's schedule begin with its first step, too, but never end.
   */
  policyFreeze?: number | undefined;
  /**
   * The value model's training alone, before both: its own passes or steps, schedule and, by default,
   * all of `valueTrajectories`. Left out: none.
   */
  valueFirst?: { epochs?: number; steps?: number; batchSize?: number; learningRate?: number };
}

export interface OreoInputs {
  networks: Networks;
  /** Initial policy; left as it is. */
  policy: NamedTensors;
  /** Initial value model; left as it is. */
  value: NamedTensors;
  /** π_ref; default the initial policy (with its base). */
  reference?: NamedTensors;
  /**
   * What the trained parameters stand on, where those are not whole models: the base of an adapter,
   * the trunk under a head. Left as they are, never copied, so they may be shared.
   */
  base?: { policy?: NamedTensors; value?: NamedTensors };
  /** What both train on, balanced as the caller sees fit. */
  trajectories: readonly Trajectory[];
  /** What the value model trains on alone; default `trajectories`. More is better for V. */
  valueTrajectories?: readonly Trajectory[];
}

export interface OreoResult {
  policy: NamedTensors;
  value: NamedTensors;
  steps: number;
  best?: { step: number; score: number };
  /** The last step's metrics. */
  metrics: Record<string, number>;
  /** The last step's metrics of the value model's training alone. */
  valueMetrics?: Record<string, number>;
}

/** Runs the value model's training alone, where asked for, then the joint training. */
export async function trainOreo(inputs: OreoInputs, options: OreoOptions): Promise<OreoResult> {
  const { valueFirst, ...joint } = options;
  const kl = options.kl ?? "exact";
  if (kl === "k3" && inputs.trajectories.some((t) => t.refLogProbs === undefined)) {
    throw new UserError(
      "the k3 estimator needs refLogProbs in every trajectory: score them first, or use exact",
    );
  }
  if (options.alpha !== undefined && options.klTarget !== undefined) {
    throw new UserError("give either alpha, a fixed weight, or klTarget, an adapted one");
  }
  checkLevel(options);
  const first = valueFirst === undefined ? undefined : await trainValue(inputs, {
    ...joint,
    epochs: undefined,
    steps: undefined,
    ...valueFirst,
  });
  try {
    return await trainJointly({ ...inputs, value: first?.value ?? inputs.value }, joint, first);
  } finally {
    if (first !== undefined) disposeModels({ value: first.value });
  }
}

/** Options that belong to one level or method and mean nothing at another. */
function checkLevel({ method = "oreo", level = "token", oneStep, hinge }: OreoOptions): void {
  const of = method === "dqo" ? "method dqo" : `level ${level}`;
  if (hinge !== undefined && (level !== "response" || method === "dqo" || oneStep)) {
    throw new UserError(`hinge adds to the response-level loss of oreo, this run has ${of}`);
  }
  if (oneStep && (level === "response" || method === "dqo")) {
    throw new UserError(`oneStep is a loss of oreo at level token or step, this run has ${of}`);
  }
}

/** π_ref as a whole model. */
function referenceOf({ policy, reference, base }: OreoInputs): NamedTensors {
  return reference ?? { ...base?.policy, ...policy };
}

/** Where the policy starts as its own reference, all log-ratios are zero and need no forward pass. */
function startsAtReference({ policy, reference }: OreoInputs): boolean {
  return reference === undefined || reference === policy;
}

/** Metrics of the two phases have the prefix `value_first/` and none. */
async function trainValue(
  inputs: OreoInputs,
  options: Omit<OreoOptions, "valueFirst"> & { learningRate?: number },
): Promise<{ value: NamedTensors; metrics: Record<string, number> }> {
  const { base } = inputs;
  const { onMetrics, checkpoints, evaluation: _joint, epochs, steps, ...rest } = options;
  const { models, metrics } = await train(
    oreoObjective("oreo.value", inputs.networks, options),
    { value: inputs.value },
    {
      ...(base?.value === undefined ? {} : { value_base: base.value }),
      ...(startsAtReference(inputs) ? {} : {
        policy: { ...base?.policy, ...inputs.policy },
        reference: inputs.reference!,
      }),
    },
    inputs.valueTrajectories ?? inputs.trajectories,
    {
      ...rest,
      ...(steps === undefined ? { epochs: epochs ?? 1 } : { steps }),
      level: options.level === "step" ? "step" : "token",
      learningRates: { value: options.learningRate ?? valueRate(options) },
      ...(checkpoints === undefined ? {} : {
        checkpoints: { ...checkpoints, folder: join(checkpoints.folder, "value_first") },
      }),
      ...(onMetrics === undefined ? {} : {
        onMetrics: (step, values, total) =>
          onMetrics(
            step,
            Object.fromEntries(
              Object.entries(values).map(([name, value]) => [`value_first/${name}`, value]),
            ),
            total,
          ),
      }),
    },
  );
  return { value: models.value!, metrics };
}

function valueRate(options: OreoOptions): number {
  return options.valueLearningRate ?? options.policyLearningRate ?? 5e-6;
}

/** What `train` is told for both models together. */
function jointTraining(
  inputs: OreoInputs,
  options: Omit<OreoOptions, "valueFirst">,
): Parameters<typeof train> {
  const { policy, value, base, trajectories } = inputs;
  const { checkpoints, policyFreeze, method = "oreo" } = options;
  const onData = options.kl === "k3" ||
    (method === "dqo" && trajectories.every((t) => t.refLogProbs !== undefined));
  return [
    oreoObjective(method, inputs.networks, options),
    { policy, value },
    {
      ...(base?.policy === undefined ? {} : { policy_base: base.policy }),
      ...(base?.value === undefined ? {} : { value_base: base.value }),
      ...(onData ? {} : { reference: referenceOf(inputs) }),
    },
    trajectories,
    {
      ...options,
      level: options.level === "step" && method === "oreo" ? "step" : "token",
      ...(policyFreeze === undefined || policyFreeze === 0
        ? {}
        : { freeze: { model: "policy", share: policyFreeze } }),
      actionNormalisation: options.klNormalisation,
      learningRates: { policy: options.policyLearningRate ?? 5e-6, value: valueRate(options) },
      ...(checkpoints === undefined ? {} : {
        checkpoints: { ...checkpoints, folder: join(checkpoints.folder, "joint") },
      }),
    },
  ];
}

async function trainJointly(
  inputs: OreoInputs,
  options: Omit<OreoOptions, "valueFirst">,
  first: { metrics: Record<string, number> } | undefined,
): Promise<OreoResult> {
  const { models, ...rest } = await train(...jointTraining(inputs, options));
  return {
    policy: models.policy!,
    value: models.value!,
    ...rest,
    ...(first === undefined ? {} : { valueMetrics: first.metrics }),
  };
}

/**
 * The most bytes that a step of such a training has on one device at a time, by the plans of its compiled
 * programs; undefined where the backend makes none. Trains nothing.
 */
export function oreoStepPeak(
  inputs: OreoInputs,
  { valueFirst: _, ...options }: OreoOptions,
): number | undefined {
  return stepPeak(...jointTraining(inputs, options));
}
