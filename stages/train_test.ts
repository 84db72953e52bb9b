/** The train stage with each method and each kind of trained part, on a model of a few parameters. */
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { charTokenizer, loadModel, saveModel, VALUE_HEAD } from "../lm/mod.ts";
import { type Trajectory, writeTrajectories } from "../rl/mod.ts";
import { files } from "./artifacts.ts";
import { startEngine } from "./engine.ts";
import { modelFields, newModel } from "./new_model.ts";
import { train } from "./train.ts";

await startEngine(() => {});

const shape = { hidden: 16, layers: 1, heads: 2, keyValueHeads: 1, feedForward: 24, maxLength: 32 };

Deno.test("every method and kind of critic ends with whole models that other stages can load", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const model = newModel(modelFields.shape.parse(shape), charTokenizer("0123456789+= "), 1);
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
    }
  } finally {
    Deno.env.delete("OREO_TENSORBOARD");
    await Deno.remove(folder, { recursive: true });
  }
});
