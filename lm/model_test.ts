import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tf, useBackend } from "../xla/mod.ts";
import { parseConfig } from "./config.ts";
import { loadModel, saveModel } from "./model.ts";
import { addValueHead, initParams, VALUE_HEAD } from "./transformer.ts";
import { charTokenizer } from "./small_tokenizers.ts";
import { maxDifference } from "./test_support.ts";
import { UserError } from "../errors.ts";

await useBackend();

const tokenizer = charTokenizer("abc");
const fields = {
  model_type: "qwen2",
  vocab_size: 5,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  tie_word_embeddings: true,
  torch_dtype: "float32",
};
const config = parseConfig(fields);

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "model-"));
  try {
    await run(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

Deno.test("a saved model loads with the same numbers, tokenizer and settings", async () => {
  await inFolder(async (folder) => {
    const params = initParams(config, 1);
    const generationConfig = { eosTokenIds: [1], temperature: 0.7, topK: 16, topP: 0.9 };
    await saveModel(folder, { config, params, tokenizer, generationConfig });
    const loaded = await loadModel(folder);
    assert.deepEqual(Object.keys(loaded.params).toSorted(), Object.keys(params).toSorted());
    for (const [name, tensor] of Object.entries(params)) {
      assert.deepEqual(loaded.params[name]!.shape, tensor.shape);
      assert.deepEqual(await loaded.params[name]!.data(), await tensor.data());
    }
    assert.deepEqual(loaded.config.raw, { ...fields, architectures: ["Qwen2ForCausalLM"] });
    assert.deepEqual(loaded.generationConfig, generationConfig);
    assert.deepEqual(loaded.tokenizer!.encode("cab"), tokenizer.encode("cab"));
    tf.dispose([params, loaded.params]);
  });
});

Deno.test("a model in shards is the same model, and one file in their place drops their index", async () => {
  await inFolder(async (folder) => {
    const params = initParams(config, 1);
    await saveModel(folder, { config, params }, { shardBytes: 600 });
    const names = readdirSync(folder).toSorted();
    assert.ok(
      names.some((name) => /^model-00001-of-000\d\d\.safetensors$/.test(name)),
      names.join(),
    );
    assert.ok(!names.includes("model.safetensors"));
    const index = JSON.parse(readFileSync(join(folder, "model.safetensors.index.json"), "utf8"));
    assert.deepEqual(Object.keys(index.weight_map).toSorted(), Object.keys(params).toSorted());
    const same = async () => {
      const again = await loadModel(folder);
      for (const [name, tensor] of Object.entries(params)) {
        assert.deepEqual(await again.params[name]!.data(), await tensor.data(), name);
      }
    };
    await same();
    await saveModel(folder, { config, params });
    assert.ok(!readdirSync(folder).includes("model.safetensors.index.json"));
    await same();
  });
});

Deno.test("a value model keeps its head, in half the bytes where bfloat16 is asked for", async () => {
  await inFolder(async (folder) => {
    const params = addValueHead(config, initParams(config, 2));
    params[VALUE_HEAD] = tf.tensor2d([[1, 2, 3, 4, 5, 6, 7, 8.5]]);
    await saveModel(folder, { config, params }, { weightType: "bfloat16" });
    const loaded = await loadModel(folder);
    assert.equal(loaded.tokenizer, undefined);
    assert.deepEqual(await loaded.params[VALUE_HEAD]!.data(), await params[VALUE_HEAD]!.data());
    const name = "model.layers.1.mlp.up_proj.weight";
    const want = await params[name]!.data();
    assert.ok(maxDifference(await loaded.params[name]!.data(), want) < 1e-3);
    assert.equal(loaded.config.weightType, "bfloat16");
    const written = JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));
    assert.deepEqual(written.architectures, ["LLMForSequenceRegression"]);
    tf.dispose([params, loaded.params]);
  });
});

Deno.test("weights that do not fit the config are refused with tensor, found and expected", async () => {
  await inFolder(async (folder) => {
    const params = initParams(config, 3);
    await saveModel(folder, { config, params, tokenizer });
    const before = tf.memory().numTensors;
    const refused = async (change: Record<string, unknown>, pattern: RegExp) => {
      writeFileSync(join(folder, "config.json"), JSON.stringify({ ...fields, ...change }));
      await assert.rejects(loadModel(folder), (error: unknown) => {
        assert.ok(error instanceof UserError);
        assert.match(error.message, pattern);
        return true;
      });
    };
    await refused(
      { intermediate_size: 16 },
      /'model.layers.0.mlp.gate_proj.weight' has shape \[12,8\], expected \[16,8\]/,
    );
    await refused({ num_hidden_layers: 3 }, /no tensor 'model.layers.2.input_layernorm.weight'/);
    await refused({ num_hidden_layers: 1 }, /holds tensor 'model.layers.1.* which a qwen2 model/);
    await refused({ tie_word_embeddings: false }, /no tensor 'lm_head.weight', expected .*\[5,8\]/);
    await refused({ vocab_size: 4 }, /tokenizer has 5 tokens, the model's vocab_size is 4/);
    assert.equal(tf.memory().numTensors, before);
    tf.dispose(params);
  });
});

Deno.test("a path that is no model says what is missing", async () => {
  await inFolder(async (folder) => {
    const rejects = (path: string, pattern: RegExp) => assert.rejects(loadModel(path), pattern);
    await rejects(join(folder, "nowhere"), /cannot open the model .*nowhere/);
    await rejects(folder, /holds no model.safetensors, .* and no .gguf file/);
    writeFileSync(join(folder, "a.txt"), "");
    await rejects(join(folder, "a.txt"), /neither a model folder nor a .gguf file/);
    writeFileSync(join(folder, "model.safetensors"), "x");
    await rejects(folder, /cannot read .*config.json/);
    writeFileSync(join(folder, "config.json"), "{");
    await rejects(folder, /config.json is not JSON/);
    mkdirSync(join(folder, "two"));
    for (const name of ["a.gguf", "b.gguf"]) writeFileSync(join(folder, "two", name), "");
    await rejects(join(folder, "two"), /holds 2 .gguf files: name one/);
  });
});
