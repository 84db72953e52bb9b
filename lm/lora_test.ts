import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { jit, tf, useBackend } from "../xla/mod.ts";
import { UserError } from "../errors.ts";
import { parseConfig } from "./config.ts";
import { Generator } from "./generate.ts";
import { findBase, initLora, loadLora, type Lora, mergeLora, saveLora, withLora } from "./lora.ts";
import { loraScale } from "./lora_scale.ts";
import { loadModel, saveModel } from "./model.ts";
import { SafetensorsFile } from "./safetensors.ts";
import { hiddenStates, initParams, logits, type Params, tokenLogProbs } from "./transformer.ts";
import { maxDifference, sharedFolder, tinyConfig } from "./test_support.ts";

await useBackend();

const config = tinyConfig({
  model_type: "llama",
  vocab_size: 23,
  max_position_embeddings: 64,
  initializer_range: 0.3,
  tie_word_embeddings: false,
  eos_token_id: 1,
});
const ids = tf.tensor2d([[3, 5, 7, 2, 9, 11, 4, 8]], undefined, "int32");

/** An adapter whose B is not zero. */
function adapter(rankStabilised = false): Lora {
  const lora = initLora(config, 1, { rank: 4, alpha: 6, rankStabilised });
  const params = Object.fromEntries(
    Object.entries(lora.params).map(([name, tensor], i) => [
      name,
      name.includes("lora_B") ? tf.randomNormal(tensor.shape, 0, 0.2, "float32", i) : tensor,
    ]),
  );
  return { ...lora, params };
}

const scored = async (c: typeof config, params: Params) => {
  const result = jit((params: Params, ids: tf.Tensor2D) => tokenLogProbs(c, params, ids))(
    params,
    ids,
  );
  return await result.data<"float32">();
};

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "oreo-lora-"));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

Deno.test("a new adapter changes nothing; adapted and merged agree, in scoring and generation", async () => {
  const base = initParams(config, 3);
  const fresh = initLora(config, 1, { rank: 4 });
  const plain = await scored(config, base);
  const withFresh = await scored(withLora(config, fresh), { ...base, ...fresh.params });
  assert.equal(maxDifference(withFresh, plain), 0);
  for (const rankStabilised of [false, true]) {
    const lora = adapter(rankStabilised);
    const adapted = { config: withLora(config, lora), params: { ...base, ...lora.params } };
    const merged = { config, params: mergeLora(base, lora) };
    const a = await scored(adapted.config, adapted.params);
    assert.ok(maxDifference(a, plain) > 0.01, "the adapter does something");
    assert.ok(maxDifference(a, await scored(config, merged.params)) < 1e-5);
    const answers = await Promise.all([adapted, merged].map(async (model) => {
      using generator = new Generator(model, { slots: 1, maxLength: 32 });
      const results = await generator.generate([
        { promptIds: [3, 5], temperature: 0, stopIds: [], maxNewTokens: 20 },
      ]);
      return results[0]![0]!.ids;
    }));
    assert.deepEqual(answers[0], answers[1]);
  }
});

Deno.test("training an adapter lowers the loss and leaves the base alone", async () => {
  const base = initParams(config, 3);
  const before = await base["model.layers.0.self_attn.q_proj.weight"]!.data();
  const lora = initLora(config, 1, { rank: 4, alpha: 8, targets: ["q_proj", "down_proj"] });
  const adapted = withLora(config, lora);
  const names = Object.keys(lora.params);
  assert.equal(names.length, 2 * 2 * 2);
  const step = jit((base: Params, own: Params, ids: tf.Tensor2D) => {
    const loss = (...list: tf.Tensor[]) => {
      const trained = Object.fromEntries(names.map((name, i) => [name, list[i]!]));
      return tf.neg(tf.mean(tokenLogProbs(adapted, { ...base, ...trained }, ids))) as tf.Scalar;
    };
    const { value, grads } = tf.valueAndGrads(loss)(names.map((name) => own[name]!));
    const next = names.map((name, i) =>
      [name, tf.sub(own[name]!, tf.mul(grads[i]!, 0.3))] as const
    );
    return { value, next: Object.fromEntries(next) as Params };
  });
  let own = lora.params;
  const losses: number[] = [];
  for (let i = 0; i < 12; i++) {
    const { value, next } = step(base, own, ids);
    losses.push((await value.data())[0]!);
    own = next;
  }
  assert.ok(losses.at(-1)! < losses[0]! - 0.3, losses.join());
  const after = await base["model.layers.0.self_attn.q_proj.weight"]!.data();
  assert.deepEqual(after, before);
});

Deno.test("a saved adapter is read again as it was, beside its base or merged into it", async () => {
  await inFolder(async (folder) => {
    const base = initParams(config, 3);
    const lora = adapter();
    await saveModel(join(folder, "base"), { config, params: base });
    await saveLora(join(folder, "adapter"), lora, "../base");
    assert.deepEqual(
      (await readdir(join(folder, "adapter"))).toSorted(),
      ["adapter_config.json", "adapter_model.safetensors"],
    );
    const again = await loadLora(join(folder, "adapter"), config);
    for (const [name, tensor] of Object.entries(lora.params)) {
      assert.deepEqual(await again.params[name]!.data(), await tensor.data(), name);
    }
    assert.equal(await findBase(join(folder, "adapter")), join(folder, "base"));
    const merged = await scored(config, mergeLora(base, lora));
    for (
      const model of [
        await loadModel(join(folder, "base"), { adapter: join(folder, "adapter") }),
        await loadModel(join(folder, "adapter")),
      ]
    ) {
      assert.ok(maxDifference(await scored(model.config, model.params), merged) < 1e-6);
    }
  });
});

Deno.test("an adapter that does something else than LoRA, or fits another model, is refused", async () => {
  await inFolder(async (folder) => {
    await saveLora(folder, adapter());
    const path = join(folder, "adapter_config.json");
    const good = JSON.parse(await readFile(path, "utf8"));
    const refused = async (change: Record<string, unknown>, message: RegExp) => {
      writeFileSync(path, JSON.stringify({ ...good, ...change }));
      await assert.rejects(loadLora(folder, config), (error) => {
        assert.ok(error instanceof UserError, String(error));
        assert.match(error.message, message);
        return true;
      });
    };
    await refused({ use_dora: true }, /adapter_config.json: use_dora = true is not supported/);
    await refused({ bias: "all" }, /bias = "all"/);
    await refused({ modules_to_save: ["lm_head"] }, /modules_to_save/);
    await refused({ peft_type: "IA3" }, /peft_type/);
    await refused({ init_lora_weights: "pissa_niter_4" }, /init_lora_weights = "pissa_niter_4"/);
    await refused({ alpha_pattern: { "(a+)+q_proj": 2 } }, /alpha_pattern: '\(a\+\)\+q_proj'/);
    await refused({ rank_pattern: { "(?=q)q_proj": 2 } }, /rank_pattern .*'\(\?=q\)q_proj'/);
    await refused({ r: 8 }, /lora_A.weight' has shape \[4,\d+\], expected \[8,\d+\]/);
    writeFileSync(path, JSON.stringify(good));
    await assert.rejects(findBase(folder), /names no base model/);
    const other = parseConfig({ ...config.raw, num_hidden_layers: 1 });
    await assert.rejects(loadLora(folder, other), /layers\.1.* adapts no matrix of the model's/);
  });
});

Deno.test("patterns match the end of a module's name as in PEFT, the first one decides", () => {
  const module = "model.layers.11.self_attn.q_proj";
  const alphas: [string, number][] = [
    ["q_proj", 2],
    ["layers.11.self_attn.q_proj", 2],
    ["(q|k)_proj", 2],
    ["^model\\.layers\\.[01]+\\.self_attn\\.q_proj$", 2],
    [".*layers\\.\\d+\\..*q_proj", 2],
    ["q.proj", 2],
    ["^q_proj", 1],
    ["_proj", 1],
    ["layers.1.self_attn.q_proj", 1],
  ];
  const scaling = { rank: 4, alpha: 4, rankStabilised: false, ranks: {} };
  for (const [pattern, scale] of alphas) {
    assert.equal(
      loraScale({ ...scaling, alphas: { [pattern]: 8 } }, module).scale,
      scale,
      pattern,
    );
  }
  assert.equal(
    loraScale({ ...scaling, alphas: { q_proj: 12, "self_attn.q_proj": 8 } }, module).scale,
    3,
  );
});

const golden = sharedFolder("golden/optim");
if (golden !== undefined) {
  const names = (await readdir(golden)).filter((name) => /^lora_.*\.expected\.json$/.test(name));
  assert.ok(names.length > 0, `${golden} holds no adapters`);
  for (const name of names.map((file) => file.replace(".expected.json", ""))) {
    Deno.test(`${name}: log-probabilities, loss, gradients and merged weights as PEFT's`, async () => {
      const expected = JSON.parse(readFileSync(join(golden, `${name}.expected.json`), "utf8"));
      await using tensors = await SafetensorsFile.open(
        join(golden, `${name}.expected.safetensors`),
      );
      const folder = await findBase(join(golden, name));
      const base = await loadModel(folder);
      const lora = await loadLora(join(golden, name), base.config);
      const adapted = withLora(base.config, lora);
      const { right } = JSON.parse(readFileSync(join(folder, "../expected.json"), "utf8"));
      const keys = Object.keys(lora.params);
      const rows: number[][] = right.input_ids;
      const time = rows[0]!.length;
      const valid = (right.attention_mask as number[][]).flatMap((row) => row.slice(1));
      const step = jit((base: Params, own: Params, ids: tf.Tensor2D, valid: tf.Tensor2D) => {
        const all = { ...base, ...own };
        const loss = (...list: tf.Tensor[]) => {
          const trained = Object.fromEntries(keys.map((key, i) => [key, list[i]!]));
          const logProbs = tokenLogProbs(adapted, { ...base, ...trained }, ids);
          return tf.neg(tf.div(tf.sum(tf.mul(logProbs, valid)), tf.sum(valid))) as tf.Scalar;
        };
        const { value, grads } = tf.valueAndGrads(loss)(keys.map((key) => own[key]!));
        return {
          value,
          norms: tf.stack(grads.map((grad) => tf.norm(grad))),
          logProbs: tf.mul(tokenLogProbs(adapted, all, ids), valid),
          logits: logits(adapted, all, hiddenStates(adapted, all, ids)),
        };
      });
      const mask = tf.tensor2d(valid, [rows.length, time - 1]);
      const out = step(base.params, lora.params, tf.tensor2d(rows, undefined, "int32"), mask);
      const loss = (await out.value.data())[0]!;
      assert.ok(Math.abs(loss - expected.loss) <= 1e-5, `loss ${loss}, not ${expected.loss}`);
      const want = await tensors.float32("token_logprobs");
      assert.ok(maxDifference(await out.logProbs.data(), want) <= 5e-5);
      const vocab = base.config.vocabSize;
      const all = await out.logits.data();
      const scores = (right.logit_positions as number[][]).flatMap((columns, row) =>
        columns.flatMap((column) => {
          const from = (row * time + column) * vocab;
          return [...all.slice(from, from + vocab)];
        })
      );
      assert.ok(maxDifference(scores, await tensors.float32("logits")) <= 1e-4);
      const norms = await out.norms.data();
      const wanted = expected.grad_norms as Record<string, number>;
      assert.equal(keys.length, Object.keys(wanted).length);
      for (const [i, key] of keys.entries()) {
        const norm = wanted[`base_model.model.${key.replace(/(lora_[AB])/, "$1.default")}`]!;
        assert.ok(Math.abs(norms[i]! - norm) <= 1e-4 * norm, `${key}: ${norms[i]}, not ${norm}`);
      }
      const merged = mergeLora(base.params, lora);
      const stored = [...tensors.entries.keys()].filter((key) => key.startsWith("merged."));
      assert.ok(stored.length > 0);
      for (const key of stored) {
        const got = await merged[key.slice("merged.".length)]!.data();
        assert.ok(maxDifference(got, await tensors.float32(key)) <= 1e-6, key);
      }
    });
  }
}
