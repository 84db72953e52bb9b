/** The fallback backend with a real, tiny transformer: what it computes is what xla computes. */
import assert from "node:assert/strict";
import { addValueHead, Generator, initParams, Scorer, VALUE_HEAD } from "../lm/mod.ts";
import { jit, tf, toHost, useBackend } from "../xla/mod.ts";
import { collate } from "./batches.ts";
import type { Models } from "./gradients.ts";
import { languageNetworks } from "./networks.ts";
import { assertClose, tinyConfig as config } from "./test_support.ts";
import { type BatchTensors, objectiveGradients, upload } from "./trainer_programs.ts";
import { oreoObjective } from "./oreo_objective.ts";
import { trainOreo } from "./trainer_oreo.ts";
import { trainSft } from "./trainer_sft.ts";
import type { Trajectory } from "./trajectory.ts";

const networks = languageNetworks(config);

const trajectories: Trajectory[] = [[2, 3, 4, 1], [5, 6, 1], [7, 8, 9, 10, 11, 1]].map(
  (responseIds, i) => ({
    version: 1,
    query: `q${i}`,
    prompt: "",
    promptIds: [2 + i, 5],
    responseIds,
    stepEnds: [1, responseIds.length - 1],
    reward: i % 2 === 0 ? 1 : 0,
    source: "test",
  }),
);

const training = { batchSize: 3, steps: 3, seed: 0, padId: 0, maxLength: 32, buckets: 1 };

function startingModels(): Models {
  const policy = initParams(config, 1);
  const value = { ...addValueHead(config, policy), [VALUE_HEAD]: tf.ones([1, 16]).mul(0.1) };
  return { policy, value };
}

type Numbers = Record<string, ArrayLike<number>>;

/** A model's parameters, by name, and then freed. */
async function taken(name: string, params: Record<string, tf.Tensor>): Promise<Numbers> {
  const host = await toHost(params) as Numbers;
  tf.dispose(params);
  return Object.fromEntries(Object.entries(host).map(([key, x]) => [`${name} ${key}`, x]));
}

/** All that a training iteration computes with a model, on one backend. */
const computations: Record<string, (models: Models) => Promise<Numbers>> = {
  async "OREO gradients"({ policy, value }) {
    const reference = initParams(config, 2);
    const objective = oreoObjective("oreo", networks, { level: "step", beta: 0.3, alpha: 0.1 });
    const [batch] = collate(trajectories, { padId: 0, buckets: [12], level: "step" });
    const gradients = jit(
      (models: Models, constants: Models, batch: BatchTensors) =>
        objectiveGradients(objective, { models, constants, memory: {} }, batch),
      { name: "gradients" },
    );
    // The models start with tensors in common, whose gradients would be one.
    const own = Object.fromEntries(Object.entries(value!).map(([name, x]) => [name, x.clone()]));
    const tensors = upload(batch!);
    const result = gradients({ policy: policy!, value: own }, { reference }, tensors);
    tf.dispose([own, reference, tensors]);
    return {
      ...await taken("sum", Object.fromEntries(result.sums.entries())),
      ...await taken("policy", result.grads.policy!),
      ...await taken("value", result.grads.value!),
    };
  },
  async "an SFT run"({ policy }) {
    const demonstrations = trajectories.map(({ promptIds, responseIds }) => ({
      promptIds,
      responseIds,
    }));
    const { policy: trained, metrics } = await trainSft(networks.policy, policy!, demonstrations, {
      ...training,
      learningRate: 1e-3,
    });
    return { loss: [metrics.loss!], ...await taken("policy", trained) };
  },
  async "an OREO run"({ policy, value }) {
    const result = await trainOreo(
      { networks, policy: policy!, value: value!, trajectories },
      { ...training, valueFirst: { steps: 2 }, policyLearningRate: 1e-3 },
    );
    return {
      ...await taken("policy", result.policy),
      ...await taken("value", result.value),
      losses: [result.metrics.value_loss!, result.metrics.policy_loss!, result.metrics.kl!],
    };
  },
  async scores({ policy }) {
    const scorer = new Scorer({ config, params: policy! });
    const logProbs = await scorer.responses(trajectories);
    return Object.fromEntries(logProbs.map((row, i) => [`row ${i}`, row]));
  },
  async generations({ policy, value }) {
    using generator = new Generator({ config, params: policy! }, {
      slots: 4,
      maxLength: 16,
      tokensPerDispatch: 4,
      valueModel: { config, params: value! },
    });
    const requests = [{ temperature: 0 }, { n: 3, topK: 8, topP: 0.9 }, { stopIds: [4] }];
    const results = await generator.generate(
      requests.map((request, i) => ({ promptIds: [3 + i, 6], seed: i, ...request })),
    );
    return Object.fromEntries(
      results.flat().flatMap(({ ids, logProbs, values }, i) => [
        [`ids of sample ${i}`, ids],
        [`log-probabilities of sample ${i}`, logProbs],
        [`values of sample ${i}`, values!],
      ]),
    );
  },
};

for (const [name, compute] of Object.entries(computations)) {
  Deno.test(`on wasm ${name} come out as on xla, and nothing is left behind`, async () => {
    const results: Record<string, Numbers> = {};
    for (const backend of ["wasm", "xla"]) {
      await useBackend(backend);
      const models = startingModels();
      const { numTensors } = tf.memory();
      results[backend] = await compute(models);
      assert.equal(tf.memory().numTensors, numTensors, `tensors on ${backend}`);
      tf.dispose(models);
    }
    assert.deepEqual(Object.keys(results.wasm!), Object.keys(results.xla!));
    for (const [what, expected] of Object.entries(results.xla!)) {
      assertClose(results.wasm![what]!, expected, { absolute: 1e-4, relative: 1e-4 }, what);
    }
  });
}
