/**
 * The work that the engine benchmark times on our side. Each case gives a function that runs its work and
 * returns the seconds of one unit; the same work stands in `peers/jax_peer.py` under the same sizes.
 */
import { jit, tf } from "../xla/mod.ts";
import {
  Generator,
  hiddenStates,
  initParams,
  logits,
  logProbsOfNext,
  logProbsOfTargets,
  type ModelConfig,
  parseConfig,
} from "../lm/mod.ts";
import { adamInit, type AdamState, adamStep, adamUpdate } from "../rl/mod.ts";

export interface ModelSize {
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly ffn: number;
  readonly vocab: number;
}

export interface BatchShape {
  readonly batch: number;
  readonly length: number;
}

/** Runs the case once; seconds of one unit of its work. */
export type Timed = () => Promise<number>;

export function configOf(model: ModelSize): ModelConfig {
  return parseConfig({
    model_type: "qwen2",
    vocab_size: model.vocab,
    hidden_size: model.hidden,
    intermediate_size: model.ffn,
    num_hidden_layers: model.layers,
    num_attention_heads: model.heads,
    num_key_value_heads: model.kvHeads,
    max_position_embeddings: 512,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: true,
  });
}

export async function seconds(run: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await run();
  return (performance.now() - start) / 1000;
}

/** Waits until `x` is computed, reading one element only. */
async function ready(x: tf.Tensor): Promise<void> {
  const first = tf.tidy(() => x.flatten().slice([0], [1]));
  await first.data();
  first.dispose();
}

/** Seconds of a call of `f`, `inner` of them in a row on the same arguments. */
function repeated<A extends tf.Tensor[]>(
  f: (...args: A) => tf.Tensor[],
  args: A,
  inner: number,
): Timed {
  return async () =>
    await seconds(async () => {
      let results: tf.Tensor[] = [];
      for (let i = 0; i < inner; i++) {
        tf.dispose(results);
        results = f(...args);
      }
      await ready(results[0]!);
      tf.dispose(results);
    }) / inner;
}

/** An `n` × `n` product. */
export function matmul(n: number, inner: number): Timed {
  const f = jit((x: tf.Tensor2D) => [tf.matMul(x, x)], { name: `matmul${n}` });
  return repeated(f, [tf.randomNormal<tf.Rank.R2>([n, n])], inner);
}

/** A program that does next to nothing. */
export function dispatch(inner: number): Timed {
  return repeated(
    jit((x: tf.Tensor1D) => [tf.add(x, x)], { name: "dispatch" }),
    [tf.zeros<tf.Rank.R1>([8])],
    inner,
  );
}

export interface Matrix {
  readonly rows: number;
  readonly columns: number;
}

export function softmax({ rows, columns }: Matrix, inner: number): Timed {
  const f = jit((x: tf.Tensor2D) => [tf.softmax(x)], { name: "softmax" });
  return repeated(f, [tf.randomNormal<tf.Rank.R2>([rows, columns])], inner);
}

export function layerNorm({ rows, columns }: Matrix, inner: number): Timed {
  const f = jit((x: tf.Tensor2D, gain: tf.Tensor1D, bias: tf.Tensor1D) => {
    const centred = tf.sub(x, tf.mean(x, 1, true));
    const variance = tf.mean(tf.square(centred), 1, true);
    return [tf.add(tf.mul(tf.mul(centred, tf.rsqrt(tf.add(variance, 1e-5))), gain), bias)];
  }, { name: "layer_norm" });
  const args: [tf.Tensor2D, tf.Tensor1D, tf.Tensor1D] = [
    tf.randomNormal([rows, columns]),
    tf.ones([columns]),
    tf.zeros([columns]),
  ];
  return repeated(f, args, inner);
}

export interface AttentionSize {
  readonly batch: number;
  readonly heads: number;
  readonly time: number;
  readonly head: number;
}

/** Causal attention and the sum of its squares; with `forward` false, the gradients of that. */
export function attention(size: AttentionSize, forward: boolean, inner: number): Timed {
  const { batch, heads, time, head } = size;
  const mask = tf.tidy(() =>
    tf.mul(tf.sub(1, tf.linalg.bandPart(tf.ones([time, time]), -1, 0)), -1e9)
  );
  const loss = (q: tf.Tensor, k: tf.Tensor, v: tf.Tensor) => {
    const scores = tf.add(tf.div(tf.matMul(q, k, false, true), Math.sqrt(head)), mask);
    return tf.sum(tf.square(tf.matMul(tf.softmax(scores), v))) as tf.Scalar;
  };
  const f = jit(
    (q: tf.Tensor, k: tf.Tensor, v: tf.Tensor): tf.Tensor[] =>
      forward ? [loss(q, k, v)] : tf.grads(loss)([q, k, v]),
    { name: forward ? "attention" : "attention_backward" },
  );
  const one = () => tf.randomNormal([batch, heads, time, head]) as tf.Tensor;
  return repeated(f, [one(), one(), one()], inner);
}

/** The mean negative log-probability of targets under logits, as the trainers take it, and its gradient. */
export function crossEntropy({ rows, columns }: Matrix, inner: number): Timed {
  const targets = Int32Array.from({ length: rows }, (_, i) => i % columns);
  const ids = tf.tensor1d(targets, "int32");
  const loss = (x: tf.Tensor) =>
    tf.neg(tf.mean(logProbsOfTargets(x as tf.Tensor2D, ids))) as tf.Scalar;
  const f = jit((x: tf.Tensor) => {
    const { value, grad } = tf.valueAndGrad(loss)(x);
    return [value, grad];
  }, { name: "cross_entropy" });
  return repeated(f, [tf.randomNormal([rows, columns]) as tf.Tensor], inner);
}

/** AdamW on `count` matrices, clipping included. */
export function adamW({ rows, columns }: Matrix, count: number, inner: number): Timed {
  const named = (make: () => tf.Tensor) =>
    Object.fromEntries(Array.from({ length: count }, (_, i) => [`w${i}`, make()]));
  const update = jit(
    (params: Params, state: AdamState, grads: Params, at: tf.Tensor1D) => {
      const next = adamUpdate(params, grads, state, at);
      return { params: next.params, state: next.state };
    },
    { name: "adamw", donate: [0, 1] },
  );
  let params: Params = named(() => tf.randomNormal([rows, columns]));
  let state = adamInit(params);
  const grads = named(() => tf.randomNormal([rows, columns]));
  const at = adamStep(1, 1e-3);
  return async () =>
    await seconds(async () => {
      for (let i = 0; i < inner; i++) ({ params, state } = update(params, state, grads, at));
      await ready(params.w0!);
    }) / inner;
}

type Params = ReturnType<typeof initParams>;

/** Next-token cross-entropy of a batch, as the trainers compute it. */
function lossOf(config: ModelConfig, params: Params, ids: tf.Tensor2D): tf.Scalar {
  const hidden = hiddenStates(config, params, ids);
  return logProbsOfNext(config, params, hidden, ids).mean().neg() as tf.Scalar;
}

/** As {@link lossOf}, over one-hot targets, which every backend of tfjs can differentiate. */
function plainLossOf(config: ModelConfig, params: Params, ids: tf.Tensor2D): tf.Scalar {
  const [, length] = ids.shape;
  const hidden = hiddenStates(config, params, ids).slice([0, 0, 0], [-1, length - 1, -1]);
  const logProbs = tf.logSoftmax(logits(config, params, hidden));
  const targets = ids.slice([0, 1], [-1, -1]);
  return tf.mul(tf.oneHot(targets, config.vocabSize), logProbs).sum().neg()
    .div(targets.size) as tf.Scalar;
}

/** A train step to compile: loss, gradients, clipping, AdamW. */
export function compiledStep(model: ModelSize, plain = false) {
  const config = configOf(model);
  const lossFn = plain ? plainLossOf : lossOf;
  return jit((params: Params, state: AdamState, at: tf.Tensor1D, ids: tf.Tensor2D) => {
    const names = Object.keys(params);
    const loss = (...leaves: tf.Tensor[]) =>
      lossFn(config, Object.fromEntries(names.map((name, i) => [name, leaves[i]!])), ids);
    const { value, grads } = tf.valueAndGrads(loss)(names.map((name) => params[name]!));
    const byName = Object.fromEntries(names.map((name, i) => [name, grads[i]!]));
    const next = adamUpdate(params, byName, state, at);
    return { params: next.params, state: next.state, loss: value };
  }, { name: "train_step", donate: [0, 1] });
}

export function stepArguments(model: ModelSize, { batch, length }: BatchShape) {
  const params = initParams(configOf(model), 0);
  const ids = tf.randomUniform<tf.Rank.R2>([batch, length], 0, model.vocab, "int32", 0);
  return { params, state: adamInit(params), ids };
}

/** Train steps, one after the other on the state that the last one left. */
export function trainStep(model: ModelSize, shape: BatchShape, plain = false): Timed {
  const compiled = compiledStep(model, plain);
  let { params, state, ids } = stepArguments(model, shape);
  let count = 0;
  return () =>
    seconds(async () => {
      const at = adamStep(++count, 1e-3);
      const next = compiled(params, state, at, ids);
      at.dispose();
      await next.loss.data();
      next.loss.dispose();
      ({ params, state } = next);
    });
}

/** Greedy decoding of `newTokens` from one token each. */
export function decode(model: ModelSize, batch: number, newTokens: number): Timed {
  const config = configOf(model);
  const generator = new Generator({ config, params: initParams(config, 0) }, {
    slots: batch,
    maxLength: newTokens + 1,
    tokensPerDispatch: newTokens,
  });
  const requests = Array.from({ length: batch }, (_, i) => ({
    promptIds: [i],
    seed: i,
    temperature: 0,
    maxNewTokens: newTokens,
  }));
  return () => seconds(async () => void await generator.generate(requests));
}
