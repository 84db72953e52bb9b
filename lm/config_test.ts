import assert from "node:assert/strict";
import { parameterShapes, parseConfig } from "./config.ts";
import { inverseFrequencies } from "./positions.ts";
import { UserError } from "../errors.ts";

const qwen = {
  model_type: "qwen2",
  vocab_size: 100,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  tie_word_embeddings: true,
};

function refused(fields: Record<string, unknown>, pattern: RegExp): void {
  assert.throws(() => parseConfig(fields, "config.json"), (error: unknown) => {
    assert.ok(error instanceof UserError);
    assert.match(error.message, pattern);
    assert.ok(error.message.startsWith("config.json: "));
    return true;
  });
}

Deno.test("a field that is unknown or not supported is refused by name and value", () => {
  refused({ ...qwen, model_type: "gpt2" }, /model_type = "gpt2" is not supported: .* qwen2, qwen3/);
  refused({ ...qwen, hidden_act: "gelu" }, /hidden_act = "gelu"/);
  refused({ ...qwen, attn_logit_softcapping: 30 }, /attn_logit_softcapping = 30/);
  refused({ ...qwen, quantization_config: { bits: 4 } }, /quantization_config = {"bits":4}/);
  refused({ ...qwen, rope_scaling: { type: "yarn", factor: 4 } }, /rope_type = "yarn"/);
  refused({ ...qwen, rope_scaling: { type: "linear" } }, /rope_scaling.factor = undefined/);
  refused({ ...qwen, rope_scaling: { type: "default", beta_fast: 3 } }, /rope_scaling.*beta_fast/);
  const longrope = { rope_type: "longrope", short_factor: [1], long_factor: [1] };
  refused({ ...qwen, rope_parameters: longrope }, /rope_parameters.rope_type = "longrope"/);
  refused({ ...qwen, rope_scaling: { type: "dynamic", factor: 2 } }, /rope_type = "dynamic"/);
  const linear = { rope_type: "linear", factor: 2 };
  const both = { rope_parameters: { rope_type: "default" }, rope_scaling: linear };
  refused({ ...qwen, ...both }, /rope_scaling = .*linear.* rope_parameters says something else/);
  refused({ ...qwen, partial_rotary_factor: 0.5 }, /partial_rotary_factor = 0.5/);
  refused({ ...qwen, scale_emb: 12 }, /scale_emb = 12 .*only minicpm/);
  refused({ ...qwen, attention_bias: false }, /attention_bias = false/);
  refused({ ...qwen, num_key_value_heads: 3 }, /num_key_value_heads = 3 .* divide 4 heads/);
  refused({ ...qwen, layer_types: ["full_attention"] }, /layer_types .* all 4 layers/);
  refused({ ...qwen, vocab_size: "many" }, /vocab_size: /);
  refused({ ...qwen, num_hidden_layers: 1e9 }, /num_hidden_layers: /);
  refused({ model_type: "qwen2" }, /vocab_size: .*; hidden_size: /);
});

Deno.test("fields that change nothing are let through: null, switched off, private, bookkeeping", () => {
  const config = parseConfig({
    ...qwen,
    quantization_config: null,
    use_mrope: false,
    _name_or_path: "x",
    transformers_version: "4.40.0",
    attention_dropout: 0.1,
    sliding_window: 4096,
    use_sliding_window: false,
    max_window_layers: 2,
  });
  assert.deepEqual(config.slidingWindows, [null, null, null, null]);
});

Deno.test("what a MiniCPM configuration leaves out is what OpenBMB's class takes", () => {
  const minicpm = { ...qwen, model_type: "minicpm", tie_word_embeddings: undefined };
  const config = parseConfig(minicpm);
  assert.equal(config.residualScale, 1 / Math.sqrt(4));
  assert.equal(config.embeddingScale, 1);
  assert.equal(config.logitScale, 1 / 32);
  assert.ok(config.tieWordEmbeddings);
  assert.equal(parseConfig({ ...minicpm, scale_depth: 1.4 }).residualScale, 1.4 / Math.sqrt(4));
});

Deno.test("sliding windows follow each architecture's rule", () => {
  const windows = (fields: Record<string, unknown>) =>
    parseConfig({ ...qwen, ...fields }).slidingWindows;
  const qwenWindows = { sliding_window: 8, use_sliding_window: true, max_window_layers: 3 };
  assert.deepEqual(windows(qwenWindows), [null, null, null, 8]);
  assert.deepEqual(windows({ model_type: "mistral" }), [4096, 4096, 4096, 4096]);
  assert.deepEqual(windows({ model_type: "mistral", sliding_window: null }), Array(4).fill(null));
  const kinds = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"];
  assert.deepEqual(windows({ ...qwenWindows, layer_types: kinds }), [null, 8, null, 8]);
});

Deno.test("end tokens may be one, several or none; heads default as in each class", () => {
  assert.deepEqual(parseConfig({ ...qwen, eos_token_id: 3 }).eosTokenIds, [3]);
  assert.deepEqual(parseConfig({ ...qwen, eos_token_id: [3, 5] }).eosTokenIds, [3, 5]);
  assert.deepEqual(parseConfig(qwen).eosTokenIds, []);
  const llama = { ...qwen, model_type: "llama", num_key_value_heads: undefined };
  assert.equal(parseConfig(llama).numKeyValueHeads, 4);
  assert.equal(parseConfig({ ...qwen, model_type: "qwen3" }).headDim, 128);
});

Deno.test("the shapes of a checkpoint follow from its config", () => {
  const shapes = parameterShapes(parseConfig({ ...qwen, tie_word_embeddings: false }));
  assert.deepEqual(shapes.get("model.layers.3.self_attn.k_proj.weight"), [16, 32]);
  assert.deepEqual(shapes.get("model.layers.0.self_attn.q_proj.bias"), [32]);
  assert.deepEqual(shapes.get("lm_head.weight"), [100, 32]);
  assert.ok(!parameterShapes(parseConfig(qwen)).has("lm_head.weight"));
});

Deno.test("rotary frequencies: linear scaling divides them all, llama3 only the low ones", () => {
  const plain = inverseFrequencies(parseConfig(qwen));
  const linear = parseConfig({ ...qwen, rope_scaling: { rope_type: "linear", factor: 4 } });
  assert.deepEqual(inverseFrequencies(linear), plain.map((f) => f / 4));
  const llama3 = parseConfig({
    ...qwen,
    rope_scaling: {
      rope_type: "llama3",
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 64,
    },
  });
  const scaled = inverseFrequencies(llama3);
  assert.equal(scaled[0], plain[0]);
  assert.equal(scaled.at(-1), Math.fround(plain.at(-1)! / 8));
});
