/** Maximum likelihood on demonstrations, and rejection sampling: the same on what succeeded. */
import { UserError } from "../errors.ts";
import { stopGradient, type tf } from "../xla/mod.ts";
import type { Item } from "./batches.ts";
import { logProbsOf } from "./columns.ts";
import type { PolicyNetwork } from "./networks.ts";
import { klK3, sftLoss, weightedSum } from "./objectives/mod.ts";
import type { NamedTensors } from "./optimizer.ts";
import { train, type TrainingOptions } from "./trainer.ts";
import type { Objective } from "./trainer_programs.ts";
import type { Demonstration, Trajectory } from "./trajectory.ts";

/** Options of `train` but for what SFT decides itself; `learningRate` defaults to the paper's. */
export interface SftOptions
  extends Omit<TrainingOptions, "learningRates" | "level" | "evaluation"> {
  /** Peak rate; default 2e-5 (SFT), 5e-6 (rejection sampling). */
  learningRate?: number;
  /** What `params` stand on, where they are an adapter. */
  base?: NamedTensors | undefined;
  evaluation?: { every: number; score(params: NamedTensors, step: number): Promise<number> };
}

export interface SftResult {
  policy: NamedTensors;
  steps: number;
  best?: { step: number; score: number };
  /** The last step's `loss` and optimizer metrics. */
  metrics: Record<string, number>;
}

/**
 * −mean log π over action tokens (`sftLoss`), averaged over the tokens of a batch unless
 * `normalisation` says otherwise.
 *
 * @param params initial parameters; left as they are
 */
export async function trainSft(
  network: PolicyNetwork,
  params: NamedTensors,
  demonstrations: readonly Demonstration[],
  options: SftOptions,
): Promise<SftResult> {
  return await likelihood("sft", network, params, demonstrations, {
    learningRate: 2e-5,
    ...options,
  });
}

/**
 * SFT on the trajectories with reward 1.
 * @throws UserError where there is none
 */
export async function trainRejectionSampling(
  network: PolicyNetwork,
  params: NamedTensors,
  trajectories: readonly Trajectory[],
  options: SftOptions,
): Promise<SftResult> {
  const correct = trajectories.filter((t) => t.reward === 1);
  if (correct.length === 0) {
    throw new UserError(
      `cannot train rejection_sampling: none of ${trajectories.length} trajectories has reward 1. ` +
        "Sample more of them, or of easier queries",
    );
  }
  const settings = { learningRate: 5e-6, ...options };
  return await likelihood("rejection_sampling", network, params, correct, settings);
}

async function likelihood(
  name: string,
  network: PolicyNetwork,
  params: NamedTensors,
  demonstrations: readonly Demonstration[],
  { learningRate, evaluation, base, ...options }: SftOptions & { learningRate: number },
): Promise<SftResult> {
  const measured = demonstrations.every((d: Item) => d.refLogProbs !== undefined);
  const { models, ...rest } = await train(
    likelihoodObjective(name, network, measured),
    { policy: params },
    base === undefined ? {} : { policy_base: base },
    demonstrations,
    {
      normalisation: "token",
      ...options,
      learningRates: { policy: learningRate },
      ...(evaluation === undefined ? {} : {
        evaluation: {
          every: evaluation.every,
          score: (models, step) => evaluation.score(models.policy!, step),
        },
      }),
    },
  );
  return { policy: models.policy!, ...rest };
}

/** @param measured whether all data have the reference's log-probabilities, for the metric `kl_k3` */
function likelihoodObjective(
  name: string,
  network: PolicyNetwork,
  measured: boolean,
): Objective {
  return {
    name,
    settings: {},
    sums: ["loss", ...(measured ? ["kl_k3"] : [])],
    loss({ models, constants }, batch) {
      const params = { ...constants.policy_base, ...models.policy };
      const { actionWeights } = batch;
      const logProbs = logProbsOf(network, params, batch);
      const loss = sftLoss(logProbs, actionWeights, actionWeights);
      if (!measured) return { loss, kept: [loss] };
      const logRatios = stopGradient(logProbs.sub(batch.refLogProbs)) as tf.Tensor2D;
      return { loss, kept: [loss, weightedSum(klK3(logRatios), actionWeights)] };
    },
    describe: (sums) => sums,
  };
}
