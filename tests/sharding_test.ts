/** Train steps of the language model over four devices of the CPU plugin, against the same on one. */
import assert from "node:assert/strict";
import {
  addValueHead,
  hiddenStates,
  initParams,
  meshFor,
  parameterSpec,
  type Params,
  parseConfig,
  shardBatch,
  shardParams,
  tokenLogProbs,
  values,
} from "../lm/mod.ts";
import { adamInit, type AdamState, adamStep, adamUpdate } from "../rl/mod.ts";
import { deviceMemory, jit, makeMesh, tf, toHost, useBackend } from "../xla/mod.ts";

const DEVICES = 4;
const backend = await useBackend(undefined, { cpuDevices: DEVICES });
const ignore = backend.name !== "xla";
if (ignore) console.log("no xla backend here: train steps over a mesh not tested");

const config = parseConfig({
  model_type: "qwen2",
  vocab_size: 48,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-6,
  rope_theta: 10000,
  tie_word_embeddings: true,
});

interface State {
  params: Params;
  adam: AdamState;
  [key: string]: Params | AdamState;
}

/** Next-token loss, its gradient and AdamW, as the trainers do it. */
const step = jit((state: State, at: tf.Tensor1D, ids: tf.Tensor2D) => {
  const names = Object.keys(state.params);
  const loss = (...leaves: tf.Tensor[]) => {
    const params = Object.fromEntries(names.map((name, i) => [name, leaves[i]!]));
    return tokenLogProbs(config, params, ids).mean().neg() as tf.Scalar;
  };
  const { value, grads } = tf.valueAndGrads(loss)(names.map((name) => state.params[name]!));
  const byName = Object.fromEntries(names.map((name, i) => [name, grads[i]!]));
  const next = adamUpdate(state.params, byName, state.adam, at);
  return { params: next.params, adam: next.state, loss: value, norm: next.gradNorm };
}, { name: "train_step", donate: [0] });

/** Sequences in which each token tells the next, so that there is something to learn. */
const batches = Array.from(
  { length: 4 },
  (_, i) => Int32Array.from({ length: 8 * 16 }, (_, j) => (5 * (j % 16) + 3 * (j >> 4) + i) % 48),
);

interface Trained {
  losses: number[];
  norms: number[];
  params: Record<string, Float32Array>;
  /** Adam's first moments: a mean of the gradients. */
  moments: Record<string, Float32Array>;
}

type Place = <T extends Params>(params: T) => Params;

/** Four steps; everything is read back at the end. */
async function train(place: Place, placeBatch: (x: tf.Tensor2D) => tf.Tensor2D): Promise<Trained> {
  const first = initParams(config, 1);
  const moments = adamInit(first);
  let state: State = {
    params: place(first),
    adam: { m: place(moments.m), v: place(moments.v) },
  };
  const [losses, norms]: number[][] = [[], []];
  for (const [i, data] of batches.entries()) {
    const ids = placeBatch(tf.tensor2d(data, [8, 16], "int32"));
    const next = step(state, adamStep(i + 1, 1e-3), ids);
    losses!.push((await next.loss.data())[0]!);
    norms!.push((await next.norm.data())[0]!);
    state = { params: next.params, adam: next.adam };
  }
  const params = await toHost(state.params) as Record<string, Float32Array>;
  const means = await toHost(state.adam.m) as Record<string, Float32Array>;
  return { losses: losses!, norms: norms!, params, moments: means };
}

/**
 * Gradients are compared by their mean, each tensor by its largest. Adam divides them by their own size,
 * so that where one is all but zero its rounding errors move the parameter: the learning rate is small
 * enough to keep those moves below the tolerance.
 */
function assertClose(found: Trained, expected: Trained): void {
  const near = (a: number, b: number, what: string) =>
    assert.ok(Math.abs(a - b) <= 1e-5 * Math.max(1, Math.abs(b)), `${what}: ${a}, not ${b}`);
  expected.losses.forEach((loss, i) => near(found.losses[i]!, loss, `loss ${i}`));
  expected.norms.forEach((norm, i) => near(found.norms[i]!, norm, `gradient norm ${i}`));
  for (const [name, values] of Object.entries(expected.params)) {
    values.forEach((value, i) => near(found.params[name]![i]!, value, `${name}[${i}]`));
  }
  for (const [name, means] of Object.entries(expected.moments)) {
    const largest = means.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const off = means.reduce(
      (most, value, i) => Math.max(most, Math.abs(value - found.moments[name]![i]!)),
      0,
    );
    assert.ok(off <= 1e-5 * largest, `gradients of ${name}: off by ${off} of ${largest}`);
  }
}

let single: Trained | undefined;
async function onOneDevice(): Promise<Trained> {
  return single ??= await train((params) => params, (ids) => ids);
}

for (const parallelism of ["data", "fsdp", "tensor"] as const) {
  Deno.test({
    name: `a ${parallelism} parallel train step over 4 devices gives what one device gives`,
    ignore,
    fn: async () => {
      await useBackend("xla");
      const mesh = meshFor(parallelism, DEVICES);
      const expected = await onOneDevice();
      assert.ok(expected.losses[3]! < expected.losses[0]!, "it learns");
      const found = await train(
        (params) => shardParams(params, parallelism, mesh),
        (ids) => shardBatch(ids, mesh),
      );
      assertClose(found, expected);
    },
  });
}

Deno.test({
  name: "data and tensor parallelism together, on a 2 × 2 mesh, give what one device gives",
  ignore,
  fn: async () => {
    await useBackend("xla");
    const mesh = makeMesh({ data: 2, model: 2 });
    const found = await train(
      (params) => shardParams(params, "tensor", mesh),
      (ids) => shardBatch(ids, mesh),
    );
    assertClose(found, await onOneDevice());
  },
});

Deno.test({
  name:
    "fsdp leaves a device a quarter of the parameters and moments, tensor parallelism most of them",
  ignore,
  fn: async () => {
    await useBackend("xla");
    const planned = (parallelism: "data" | "fsdp" | "tensor") => {
      const mesh = meshFor(parallelism, DEVICES);
      const params = shardParams(initParams(config, 1), parallelism, mesh);
      const zeros = () => shardParams(adamInit(params).m, parallelism, mesh);
      const ids = shardBatch(tf.tensor2d(batches[0]!, [8, 16], "int32"), mesh);
      const state = { params, adam: { m: zeros(), v: zeros() } };
      return step.memoryPlan(state, adamStep(1, 1e-2), ids)!.arguments;
    };
    const [data, fsdp, tensor] = [planned("data"), planned("fsdp"), planned("tensor")];
    assert.ok(fsdp < data * 0.27, `${fsdp} of ${data}`);
    assert.ok(tensor < data * 0.4, `${tensor} of ${data}`);
    assert.equal(deviceMemory().length, DEVICES);
  },
});

Deno.test({
  name: "scoring and values over a mesh are those of one device",
  ignore,
  fn: async () => {
    await useBackend("xla");
    const mesh = meshFor("fsdp", DEVICES);
    const params = addValueHead(config, initParams(config, 2));
    params["value_head.weight"] = tf.fill([1, 32], 0.1);
    const ids = tf.tensor2d(batches[1]!, [8, 16], "int32");
    const score = jit((params: Params, ids: tf.Tensor2D) => ({
      logProbs: tokenLogProbs(config, params, ids),
      values: values(params, hiddenStates(config, params, ids)),
    }));
    const expected = await toHost(score(params, ids));
    const found = await toHost(score(shardParams(params, "fsdp", mesh), shardBatch(ids, mesh)));
    for (const key of ["logProbs", "values"] as const) {
      expected[key].forEach((x, i) => assert.ok(Math.abs(found[key][i]! - x) < 1e-5, key));
    }
  },
});

Deno.test("what does not divide by the devices stays whole", () => {
  const mesh = { axes: { data: 4 }, size: 4 };
  assert.deepEqual(parameterSpec("x", [3, 8], "fsdp", mesh), [null, "data"]);
  assert.deepEqual(parameterSpec("x", [3, 5], "fsdp", mesh), []);
  const cut = { axes: { model: 4 }, size: 4 };
  assert.deepEqual(parameterSpec("a.q_proj.weight", [6, 8], "tensor", cut), []);
  assert.deepEqual(parameterSpec("a.o_proj.weight", [8, 8], "tensor", cut), [null, "model"]);
  assert.deepEqual(parameterSpec("a.input_layernorm.weight", [8], "tensor", cut), []);
});
