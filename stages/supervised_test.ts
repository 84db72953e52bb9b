/** Supervised stages on a model of a few parameters. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { loadLora, loadModel, saveModel, withLora } from "../lm/mod.ts";
import { files } from "./artifacts.ts";
import { startEngine } from "./engine.ts";
import { rejectionSampling, sft } from "./supervised.ts";
import { logitsOf, runStage, tinyModel, writeSolutions } from "./test_support.ts";

await startEngine(() => {});

const lora = { rank: 2, alpha: 4 };

Deno.test("rejection sampling by LoRA: base and adapter together are the policy it hands on", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const model = tinyModel();
    const base = join(folder, "base");
    await saveModel(base, model);
    await writeSolutions(join(folder, "data"), model);
    await runStage(rejectionSampling, {
      params: { lora, epochs: 4, batchSize: 4, learningRate: 0.03 },
      inputs: { policy: base, trajectories: join(folder, "data") },
      folder,
    });
    const merged = await loadModel(join(folder, "policy"));
    const own = await loadLora(join(folder, "policy", "adapter"), model.config);
    assert.equal(own.config.rank, 2);
    const [before, apart, together] = await Promise.all([
      logitsOf(model.config, model.params),
      logitsOf(withLora(model.config, own), { ...model.params, ...own.params }),
      logitsOf(merged.config, merged.params),
    ]);
    const furthest = (from: ArrayLike<number>) =>
      Math.max(...Array.from(from).map((x, i) => Math.abs(x - together[i]!)));
    assert.ok(furthest(before) > 1e-3, "the adapter does something");
    assert.ok(furthest(apart) < 1e-5);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("an adapter needs a model to stand on", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await assert.rejects(
      runStage(sft, { params: { task: "arithmetic", lora }, inputs: {}, folder }),
      /lora adapts a model that is there: give the input 'base', or no lora/,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("data tokenised for another model is refused before anything is trained", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const model = tinyModel();
    await saveModel(join(folder, "base"), model);
    const data = join(folder, "data");
    await writeSolutions(data, model);
    const path = join(data, files.trajectories);
    const [first, ...rest] = (await Deno.readTextFile(path)).split("\n");
    const foreign = JSON.stringify({ ...JSON.parse(first!), query: "x", responseIds: [999] });
    await Deno.writeTextFile(path, [first, foreign, ...rest].join("\n"));
    const inputs = { policy: join(folder, "base"), trajectories: data };
    await assert.rejects(
      runStage(rejectionSampling, { params: {}, inputs, folder }),
      /jsonl: trajectory 2, of query 'x', has token 999, and the model has \d+ tokens/,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
