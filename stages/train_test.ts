/** The train stage with each method and each kind of trained part, on a model of a few parameters. */
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import {
  hiddenStates,
  loadLora,
  loadModel,
  logits,
  type ModelConfig,
  type Params,
  saveModel,
  VALUE_HEAD,
  withLora,
} from "../lm/mod.ts";
import { type Trajectory, writeTrajectories } from "../rl/mod.ts";
import { files } from "./artifacts.ts";
import { startEngine } from "./engine.ts";
import { modelFields, newModel } from "./new_model.ts";
import { train } from "./train.ts";
import { jit, tf } from "../xla/mod.ts";

await startEngine(() => {});

/** Logits of a sequence, [1, time, vocab]. */
function scores(config: ModelConfig, params: Params): tf.Tensor {
  const ids = tf.tensor2d([[3, 5, 7, 2, 9, 11, 4, 8]], undefined, "int32");
  return jit((params: Params, ids: tf.Tensor2D) =>
    logits(config, params, hiddenStates(config, params, ids))
  )(params, ids);
}

const shape = { hidden: 16, layers: 1, heads: 2, keyValueHeads: 1, feedForward: 24, maxLength: 32 };

Deno.test("every method and kind of critic ends with whole models that other stages can load", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const model = newModel(modelFields.shape.parse(shape), "0123456789+= ", 1);
    await saveModel(join(folder, "policy"), model);
    const trajectories = Array.from({ length: 12 }, (_, i): Trajectory => ({
      version: 1,
      query: `q${i % 4}`,
      prompt: "1+1=",
      promptIds: model.tokenizer.encode(`${i % 4}+1=`),
      responseIds: [...model.tokenizer.encode(`${i}`), model.tokenizer.eosId],
      stepEnds: [0],
      reward: i < 4 ? 1 : 0,
      source: "test",
    }));
    const data = join(folder, "data");
    await Deno.mkdir(data);
    await writeTrajectories(join(data, files.trajectories), trajectories);
    const lora = { rank: 2, alpha: 2 };
    const cases = {
      dpo: { method: "dpo" },
      kto: { method: "kto", lora },
      dqo: { method: "dqo", heldOut: { share: 0.25, every: 1 } },
      adapters: { lora, critic: "lora", criticLora: lora, rematerialise: true },
      head: { critic: "head", computeType: "bfloat16", microBatch: 3, policyFreeze: 0.5 },
    };
    for (const [name, given] of Object.entries(cases)) {
      const at = (part: string) => join(folder, name, part);
      for (const part of ["policy", "value", "curves", "scratch"]) {
        await Deno.mkdir(at(part), { recursive: true });
      }
      Deno.env.set("OREO_TENSORBOARD", at("events"));
      const result = await train.run(
        {
          params: train.params.parse({
            label: name,
            epochs: 3,
            batchSize: 6,
            policyLearningRate: 1e-2,
            valueLearningRate: 1e-2,
            preference: { learningRate: 1e-2 },
            ...given,
          }),
          inputs: {
            policy: { path: join(folder, "policy"), id: "p" },
            balanced: { path: data, id: "b" },
            all: { path: data, id: "a" },
          },
          outputs: {
            policy: { path: at("policy") },
            value: { path: at("value") },
            curves: { path: at("curves") },
          },
          scratch: at("scratch"),
          seed: 0,
          signal: new AbortController().signal,
          progress: () => {},
          log: () => {},
          metric: () => {},
        } as unknown as Parameters<typeof train.run>[0],
      );
      assert.ok((result as { steps: number }).steps > 0, name);
      const [policy, value] = [await loadModel(at("policy")), await loadModel(at("value"))];
      assert.deepEqual(Object.keys(policy.params).sort(), Object.keys(model.params).sort());
      assert.ok(VALUE_HEAD in value.params, name);
      const before = await model.params["model.layers.0.self_attn.q_proj.weight"]!.data();
      const after = await policy.params["model.layers.0.self_attn.q_proj.weight"]!.data();
      // The best on held-out queries may be the first step, whose rate is 0.
      if ("heldOut" in given) assert.ok("bestStep" in (result as object));
      else assert.notDeepEqual(after, before, `${name}: the policy moved`);
      assert.equal((await readdir(join(at("events"), name))).length, 1, name);
      const adapted = [
        ..."lora" in given ? [{ part: "policy", merged: policy }] : [],
        ..."criticLora" in given ? [{ part: "value", merged: value }] : [],
      ];
      for (const { part, merged } of adapted) {
        const adapter = join(at(part), "adapter");
        assert.deepEqual(
          (await readdir(adapter)).sort(),
          ["adapter_config.json", "adapter_model.safetensors"],
        );
        const own = await loadLora(adapter, model.config);
        const beside = { ...model.params, ...own.params };
        const [base, apart, together] = await Promise.all([
          scores(model.config, model.params).data(),
          scores(withLora(model.config, own), beside).data(),
          scores(merged.config, merged.params).data(),
        ]);
        const furthest = (from: tf.TypedArray) =>
          Math.max(...from.map((x, i) => Math.abs(x - together[i]!)));
        assert.ok(furthest(base) > 1e-3, `${name}: the adapter of ${part} does something`);
        assert.ok(furthest(apart) < 1e-5, `${name}: base and adapter are not the ${part}`);
      }
      const parts = adapted.map(({ part }) => part);
      for (const part of ["policy", "value"].filter((part) => !parts.includes(part))) {
        assert.ok(!(await readdir(at(part))).includes("adapter"), `${name}: ${part}`);
      }
    }
  } finally {
    Deno.env.delete("OREO_TENSORBOARD");
    await Deno.remove(folder, { recursive: true });
  }
});
