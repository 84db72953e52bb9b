/**
 * Train: OREO, and by the parameter `method` DQO, DPO and KTO on the same trajectories. Checkpointed in
 * the stage's scratch folder, where it resumes; defaults are the paper's.
 */
import { z } from "zod";
import { saveModel } from "../lm/mod.ts";
import { defineStage, optional } from "../pipeline/mod.ts";
import {
  type DpoOptions,
  statistics,
  trainDpo,
  trainKto,
  trainOreo,
  type Trajectory,
} from "../rl/mod.ts";
import { checkpoint, curves, trajectories } from "./artifacts.ts";
import { CurveRecorder } from "./curves.ts";
import { startEngine } from "./engine.ts";
import { type LanguageModel, loadLanguageModel } from "./language_model.ts";
import { readSolutions } from "./solutions.ts";
import { saveTrained, trainablePolicy, trainableValue } from "./trainable.ts";
import {
  adapterFields,
  holdOut,
  networksOf,
  sizeOf,
  trainerOptions,
  type TrainingContext,
  trainingFields,
} from "./training.ts";
import { valueModelOf } from "./value_model.ts";

const params = z.object({
  ...trainingFields,
  method: z.enum(["oreo", "dqo", "dpo", "kto"]).default("oreo"),
  level: z.enum(["token", "step", "response"]).default("token"),
  beta: z.number().positive().default(0.03).describe("how dear it is to leave the reference"),
  alpha: z.number().nonnegative().optional()
    .describe("weight of the KL regulariser; 0.01, by step 0.1, by response 0.3 where left out"),
  policyLearningRate: z.number().positive().default(5e-6),
  valueLearningRate: z.number().positive().optional()
    .describe("5e-6, or 1e-4 for a critic by LoRA, where left out"),
  /** Training of V alone before the policy moves. */
  valueFirst: z.object({
    epochs: z.number().nonnegative().default(0)
      .describe("of V alone, on all trajectories, before both; 0: none"),
    batchSize: z.int().positive().default(128),
    learningRate: z.number().positive().optional().describe("valueLearningRate where left out"),
  }).prefault({}),
  // What follows is off, or a choice that is the paper's, where left out.
  kl: z.enum(["exact", "exactReverse", "k3"]).optional()
    .describe("the regulariser: exact over the vocabulary, its reverse, or estimated on the data"),
  klTarget: z.object({
    target: z.number().positive().describe("nats a token"),
    initial: z.number().positive().optional(),
    learningRate: z.number().positive().optional(),
  }).optional().describe("adapt the regulariser's weight until the divergence is this"),
  normalisation: z.enum(["sequence", "token"]).optional()
    .describe("mean over each sequence and then over sequences (the paper's), or over all tokens"),
  klNormalisation: z.enum(["sequence", "token"]).optional()
    .describe("of the regulariser; as normalisation where left out"),
  policyFreeze: z.number().min(0).max(1).optional()
    .describe("share of the steps in which V trains and the policy is frozen"),
  emaDecay: z.number().min(0).lt(1).optional()
    .describe("V's targets from a moving average of the policy"),
  clipLogRatios: z.number().positive().optional()
    .describe("limit, in nats, of the summed log-ratios in V's targets"),
  importanceSampling: z.boolean().optional().describe("weigh sequences as the paper's code can"),
  oneStep: z.boolean().optional()
    .describe("the policy's loss is the one-step Bellman residual (levels token and step)"),
  hinge: z.number().positive().optional()
    .describe("weight of a hinge that keeps successes likely (level response)"),
  reward: z.object({
    scale: z.number().positive().default(1),
    offset: z.number().default(0),
  }).optional().describe(
    "R = scale · outcome + offset: 1 and 0; the paper's code can have 2 and -1",
  ),
  critic: z.enum(["separate", "lora", "head"]).default("separate")
    .describe("V as a model of its own, an adapter on the policy's start, or a head on its trunk"),
  criticLora: adapterFields.prefault({}),
  /** What DPO and KTO take in place of β and the rates above. */
  preference: z.object({
    beta: z.number().positive().default(0.1).describe("of DPO and KTO"),
    learningRate: z.number().positive().optional()
      .describe(
        "5e-7 for dpo, 5e-8 for kto where left out (the paper's; 1e-7 for kto of DeepSeek)",
      ),
    labelSmoothing: z.number().min(0).lt(0.5).default(0),
    ipo: z.boolean().default(false).describe("IPO's loss in place of DPO's"),
    maxPairs: z.int().positive().default(4).describe("pairs of a query"),
    desirableWeight: z.number().positive().default(1),
    undesirableWeight: z.number().positive().default(1),
  }).prefault({}),
});

type Params = z.output<typeof params>;

export const train = defineStage({
  name: "train",
  version: 1,
  module: import.meta.url,
  params,
  inputs: {
    policy: checkpoint,
    value: optional(checkpoint),
    /** What both models train on. */
    balanced: trajectories,
    /** What V trains on alone before that; the same where left out. */
    all: optional(trajectories),
  },
  outputs: { policy: checkpoint, value: checkpoint, curves },
  async run({ params, inputs, outputs, scratch, seed, signal, progress, log, metric }) {
    await startEngine(log);
    const recorder = new CurveRecorder(params.label, scratch, metric);
    const context = { seed, signal, scratch, progress, recorder };
    const model = await loadLanguageModel(inputs.policy.path);
    // Loaded where it is needed: DPO and KTO do without it until the end.
    const critic = () => valueModelOf(model, inputs.value?.path);
    const balanced = await readSolutions(inputs.balanced.path, model);
    let result;
    if (params.method === "dpo" || params.method === "kto") {
      log(`${params.method} trains no value model: the output 'value' is the one it began with`);
      result = await preference(params, { model, critic, balanced }, context, outputs, log);
    } else {
      const all = inputs.all === undefined ? balanced : await readSolutions(inputs.all.path, model);
      result = await bellman(params, { model, critic, balanced, all }, context, outputs);
    }
    await recorder.write(outputs.curves.path);
    return result;
  },
});

/** V's peak rate: as given, else the paper's for a critic of that kind. */
export function valueRate(
  { valueLearningRate, critic }: Pick<Params, "valueLearningRate" | "critic">,
): number {
  return valueLearningRate ?? (critic === "lora" ? 1e-4 : 5e-6);
}

/** What a training is given. */
interface Given {
  model: LanguageModel;
  critic: () => Promise<LanguageModel>;
  balanced: Trajectory[];
}

interface Outputs {
  policy: { path: string };
  value: { path: string };
}

/** OREO and DQO. */
async function bellman(
  params: Params,
  { model, balanced, all, ...given }: Given & { all: Trajectory[] },
  context: TrainingContext,
  outputs: Outputs,
) {
  const critic = await given.critic();
  const policy = trainablePolicy(params, model, context.seed);
  const value = trainableValue(params, critic, context.seed);
  const split = holdOut(balanced, ({ query }) => query, params, context.seed);
  const kept = new Set(split.heldOut?.items.map(({ query }) => query));
  const { method } = params;
  const valueLearningRate = valueRate(params);
  const { learningRate = valueLearningRate, ...alone } = params.valueFirst;
  const size = sizeOf(model.params);
  // Policy and value model both ways, and the reference forward.
  const passes = size * (1 + 1 / 3) +
    sizeOf(critic.params) * (params.critic === "head" ? 1 / 3 : 1);
  const result = await trainOreo({
    networks: {
      policy: networksOf(params, policy.config).policy,
      value: networksOf(params, value.config).value,
    },
    policy: policy.params,
    value: value.params,
    base: {
      ...(policy.base === undefined ? {} : { policy: policy.base }),
      ...(value.base === undefined ? {} : { value: value.base }),
    },
    trajectories: split.items,
    valueTrajectories: all.filter(({ query }) => !kept.has(query)),
  }, {
    ...trainerOptions(params, model, context, passes),
    ...(split.heldOut === undefined ? {} : { heldOut: split.heldOut }),
    method: method === "dqo" ? "dqo" : "oreo",
    level: params.level,
    beta: params.beta,
    ...(params.alpha === undefined ? {} : { alpha: params.alpha }),
    ...(params.kl === undefined ? {} : { kl: params.kl }),
    ...(params.normalisation === undefined ? {} : { normalisation: params.normalisation }),
    klTarget: params.klTarget,
    policyFreeze: params.policyFreeze,
    emaDecay: params.emaDecay,
    clipLogRatios: params.clipLogRatios,
    importanceSampling: params.importanceSampling,
    klNormalisation: params.klNormalisation,
    oneStep: params.oneStep,
    hinge: params.hinge,
    reward: params.reward,
    policyLearningRate: params.policyLearningRate,
    valueLearningRate,
    ...(alone.epochs === 0 ? {} : { valueFirst: { ...alone, learningRate } }),
  });
  await saveTrained(outputs.policy.path, model, policy, result.policy);
  await saveTrained(outputs.value.path, critic, value, result.value);
  const { metrics, valueMetrics, steps, best } = result;
  return {
    steps,
    valueLoss: metrics.value_loss!,
    policyLoss: metrics.policy_loss!,
    kl: metrics.kl!,
    ...(valueMetrics?.value_auc === undefined ? {} : { valueFirstAuc: valueMetrics.value_auc }),
    ...(best === undefined ? {} : { bestStep: best.step, heldOutLoss: -best.score }),
  };
}

/** DPO and KTO. */
async function preference(
  params: Params,
  { model, critic, balanced }: Given,
  context: TrainingContext,
  outputs: Outputs,
  log: (line: string) => void,
) {
  const policy = trainablePolicy(params, model, context.seed);
  const { learningRate, ...chosen } = params.preference;
  const split = holdOut(balanced, ({ query }) => query, params, context.seed);
  const onPairs: DpoOptions["onPairs"] = (pairs) => {
    const queries = new Set(pairs.map(({ chosen }) => chosen.query)).size;
    const { queries: all } = statistics(split.items);
    log(
      `${pairs.length} pairs of ${split.items.length} solutions; ${queries} of ${all} queries have ` +
        `right and wrong ones, at most ${chosen.maxPairs} pairs each`,
    );
  };
  const { policy: trained, steps, metrics, best } = await (
    params.method === "dpo" ? trainDpo : trainKto
  )(networksOf(params, policy.config).policy, policy.params, split.items, {
    ...trainerOptions(params, model, context, sizeOf(model.params)),
    ...(split.heldOut === undefined ? {} : { heldOut: split.heldOut }),
    ...chosen,
    ...(params.method === "dpo" ? { onPairs } : {}),
    ...(learningRate === undefined ? {} : { learningRate }),
    base: policy.base,
  });
  await saveTrained(outputs.policy.path, model, policy, trained);
  await saveModel(outputs.value.path, await critic());
  return {
    steps,
    loss: metrics.loss!,
    ...(best === undefined ? {} : { bestStep: best.step, heldOutLoss: -best.score }),
  };
}
