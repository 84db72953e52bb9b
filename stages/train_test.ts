/** The train stage with each method and each kind of trained part, on a model of a few parameters. */
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { loadLora, loadModel, saveModel, VALUE_HEAD, withLora } from "../lm/mod.ts";
import { startEngine } from "./engine.ts";
import { rejectionSampling, sft } from "./supervised.ts";
import { logitsOf, runStage, tinyModel, writeSolutions } from "./test_support.ts";
import { train, valueRate } from "./train.ts";

await startEngine(() => {});

Deno.test("the defaults are the paper's: batch, rates, levels, the critic by LoRA", () => {
  const given = train.params.parse({});
  assert.equal(given.batchSize, 128);
  assert.deepEqual([given.method, given.level, given.beta], ["oreo", "token", 0.03]);
  assert.equal(given.policyLearningRate, 5e-6);
  assert.equal(valueRate(given), 5e-6);
  assert.equal(valueRate({ ...given, critic: "lora" }), 1e-4);
  assert.equal(valueRate({ ...given, critic: "lora", valueLearningRate: 3e-5 }), 3e-5);
  assert.deepEqual([given.criticLora.rank, given.criticLora.alpha], [64, 64]);
  assert.equal(given.preference.beta, 0.1);
  assert.equal(given.packing, true);
  const tuning = sft.params.parse({ task: "gsm8k" });
  assert.deepEqual([tuning.learningRate, tuning.epochs, tuning.batchSize], [2e-5, 3, 128]);
  assert.equal(rejectionSampling.params.parse({}).learningRate, 5e-6);
  // Left out, these are the trainers' own, which their tests hold to be the paper's.
  const left = [given.alpha, given.kl, given.normalisation, given.warmupSteps, given.maxGradNorm];
  assert.deepEqual([...left, given.preference.learningRate], Array(6).fill(undefined));
});

Deno.test("every method and kind of critic ends with whole models that other stages can load", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const model = tinyModel();
    await saveModel(join(folder, "policy"), model);
    const data = join(folder, "data");
    await writeSolutions(data, model);
    const lora = { rank: 2, alpha: 2 };
    const cases = {
      dpo: { method: "dpo" },
      kto: { method: "kto", lora },
      hinge: { level: "response", hinge: 0.5, packing: false },
      dqo: { method: "dqo", heldOut: { share: 0.25, every: 1 } },
      adapters: { lora, critic: "lora", criticLora: lora, rematerialise: true },
      head: { critic: "head", computeType: "bfloat16", microBatch: 3, policyFreeze: 0.5 },
    };
    for (const [name, given] of Object.entries(cases)) {
      const at = (part: string) => join(folder, name, part);
      Deno.env.set("OREO_TENSORBOARD", at("events"));
      const result = await runStage(train, {
        params: {
          label: name,
          epochs: 3,
          batchSize: 6,
          policyLearningRate: 1e-2,
          valueLearningRate: 1e-2,
          preference: { learningRate: 1e-2 },
          ...given,
        },
        inputs: { policy: join(folder, "policy"), balanced: data, all: data },
        folder: join(folder, name),
      });
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
          logitsOf(model.config, model.params),
          logitsOf(withLora(model.config, own), beside),
          logitsOf(merged.config, merged.params),
        ]);
        const furthest = (from: ArrayLike<number>) =>
          Math.max(...Array.from(from).map((x, i) => Math.abs(x - together[i]!)));
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
