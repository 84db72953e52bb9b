import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isBfloat16, jit, tf, useBackend } from "../xla/mod.ts";
import { Generator } from "./generate.ts";
import { loadModel, saveModel } from "./model.ts";
import { Scorer } from "./score.ts";
import { maxDifference, tinyConfig } from "./test_support.ts";
import { hiddenStates, initParams, logits, type Params, tokenLogProbs } from "./transformer.ts";

await useBackend();

const config = tinyConfig({
  vocab_size: 97,
  hidden_size: 64,
  intermediate_size: 96,
  max_position_embeddings: 128,
  initializer_range: 0.15,
});
const params = initParams(config, 3);

async function temporaryFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "dtype-"));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** log softmax of the logits at every position, [time][vocabulary]. */
async function distributions(p: Params, ids: number[]): Promise<number[][]> {
  const program = jit((p: Params, ids: tf.Tensor2D) =>
    tf.logSoftmax(logits(config, p, hiddenStates(config, p, ids)))
  );
  const all = program(p, tf.tensor2d([ids], undefined, "int32"));
  const [rows] = await all.array() as number[][][];
  all.dispose();
  return rows!;
}

function meanDivergence(p: number[][], q: number[][]): number {
  const each = p.map((row, t) => row.reduce((sum, x, v) => sum + Math.exp(x) * (x - q[t]![v]!), 0));
  return each.reduce((sum, x) => sum + x, 0) / each.length;
}

Deno.test("generation, scoring and the training forward give the same log-probabilities", async () => {
  using generator = new Generator({ config, params }, { slots: 4, maxLength: 64 });
  const prompts = [[5, 9, 13], [2], [90, 1, 7, 7, 40]];
  const results = await generator.generate(
    prompts.map((promptIds, seed) => ({ promptIds, seed, maxNewTokens: 40, stopIds: [] })),
  );
  const pairs = results.map(([sample], i) => ({
    promptIds: prompts[i]!,
    responseIds: sample!.ids,
  }));
  const scored = await new Scorer({ config, params }).responses(pairs);
  const training = jit((p: Params, ids: tf.Tensor2D) => {
    const weight = p["model.norm.weight"]!;
    const { grad, value } = tf.valueAndGrad((w: tf.Tensor) =>
      tf.mean(tokenLogProbs(config, { ...p, "model.norm.weight": w }, ids))
    )(weight);
    return { grad, value };
  });
  for (const [i, { promptIds, responseIds }] of pairs.entries()) {
    const generated = results[i]![0]!.logProbs;
    assert.ok(maxDifference(generated, scored[i]!) < 1e-5);
    const ids = [...promptIds, ...responseIds];
    const [whole] = await new Scorer({ config, params }).sequences([ids]);
    const { value } = training(params, tf.tensor2d([ids], undefined, "int32"));
    const mean = whole!.reduce((sum, x) => sum + x, 0) / whole!.length;
    assert.ok(Math.abs((await value.data())[0]! - mean) < 1e-5);
  }
});

Deno.test("a model kept in bfloat16 stays within 0.001 nats of the float32 one", async () => {
  await temporaryFolder(async (folder) => {
    await saveModel(folder, { config, params });
    const low = await loadModel(folder, { dtype: "bfloat16" });
    for (const tensor of Object.values(low.params)) assert.ok(isBfloat16(tensor));
    const ids = Array.from({ length: 64 }, (_, i) => (i * i + 3) % 97);
    const p = await distributions(params, ids);
    const divergence = meanDivergence(p, await distributions(low.params, ids));
    assert.ok(divergence > 0 && divergence < 1e-3, `mean KL ${divergence}`);

    // Generation in bfloat16 is that of the bfloat16 forward.
    using generator = new Generator(low, { slots: 2, maxLength: 64 });
    const sample = (await generator.generate([
      { promptIds: [5, 9], maxNewTokens: 40, stopIds: [] },
    ]))[0]![0]!;
    const [scored] = await new Scorer(low).responses([
      { promptIds: [5, 9], responseIds: sample.ids },
    ]);
    assert.ok(maxDifference(sample.logProbs, scored!) < 0.1);
    tf.dispose(low.params);
  });
});

Deno.test("int8 generation gives the rounded model's log-probabilities, near the exact ones", async () => {
  const request = { promptIds: [5, 9, 2], maxNewTokens: 40, stopIds: [], seed: 4 };
  using generator = new Generator({ config, params }, { slots: 2, maxLength: 64, dtype: "int8" });
  const sample = (await generator.generate([request]))[0]![0]!;
  const [scored] = await new Scorer({ config, params }).responses([
    { promptIds: request.promptIds, responseIds: sample.ids },
  ]);
  const gap = scored!.reduce((sum, x, i) => sum + Math.abs(x - sample.logProbs[i]!), 0) / 40;
  assert.ok(gap > 0 && gap < 0.1, `mean difference ${gap}`);
});

const CHILD = `
const [lm, xla, folder] = Deno.args;
const { loadModel, Generator } = await import(lm);
const { useBackend, tf } = await import(xla);
await useBackend("xla:cpu");
const memory = (field) =>
  1024 * Number(new RegExp(field + ":\\\\s+(\\\\d+)").exec(Deno.readTextFileSync("/proc/self/status"))[1]);
const before = memory("VmRSS");
const model = await loadModel(folder, { dtype: "bfloat16" });
const generator = new Generator(model, { slots: 1, maxLength: 16 });
const sizes = Object.values(model.params).map((x) => 2 * x.size);
console.log(JSON.stringify({
  rise: memory("VmHWM") - before,
  device: sizes.reduce((sum, x) => sum + x, 0),
  largest: Math.max(...sizes),
}));
`;

Deno.test({
  name: "loading in bfloat16 takes the weights' memory and one tensor more, ready to generate",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    await temporaryFolder(async (folder) => {
      const big = tinyConfig({
        vocab_size: 8192,
        hidden_size: 1024,
        intermediate_size: 4096,
        num_hidden_layers: 6,
      });
      const zeros = initParams({ ...big, initializerRange: 0 }, 1);
      await saveModel(folder, { config: big, params: zeros }, {
        weightType: "bfloat16",
        shardBytes: 64 * 2 ** 20,
      });
      tf.dispose(zeros);
      const script = join(folder, "child.js");
      await Deno.writeTextFile(script, CHILD);
      const modules = ["./mod.ts", "../xla/mod.ts"].map((path) => import.meta.resolve(path));
      const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--config", join(import.meta.dirname!, "../deno.json"), script]
          .concat(modules, folder),
      }).output();
      assert.ok(success, new TextDecoder().decode(stderr));
      const { rise, device, largest } = JSON.parse(new TextDecoder().decode(stdout));
      assert.ok(device > 150 * 2 ** 20);
      // What the program itself grows by while it loads does not depend on the model.
      const program = 48 * 2 ** 20;
      assert.ok(rise < device + largest + program, `rose by ${rise} for ${device} and ${largest}`);
    });
  },
});
