/**
 * The transformer as generation runs it: without gradients, with weights packed so that a token costs
 * few matrix products, and with a key-value cache of fixed shape. Tested to agree with
 * `transformer.ts`, whose pieces it uses.
 *
 * The cache is a ring of `maxLength` columns that all slots share: at each step every slot writes its
 * token's key and value into the same column, so the write is one slice update in place however long
 * each slot's sequence is. A slot's sequence ends at the newest column; how far back it reaches is its
 * length, and everything older is masked.
 */
import {
  asType,
  dynamicSlice,
  dynamicUpdateSlice,
  matMulPairs,
  tf,
  whileLoop,
} from "../xla/mod.ts";
import type { ModelConfig } from "./config.ts";
import {
  causalBias,
  HIDDEN_SCORE,
  int,
  type RotaryTables,
  rotaryTables,
  rotate,
} from "./positions.ts";
import { headProduct, type PackedModel, products } from "./packed.ts";
import { addResidual, rmsNorm, scaledForLogits, swiGlu } from "./transformer.ts";

/** A layer's cache. Keys lie transposed: the product with a few queries is then 2.5 times faster. */
export type LayerCache = {
  /** [slots, kvHeads, headDim, maxLength] */
  keys: tf.Tensor4D;
  /** [slots, kvHeads, maxLength, headDim] */
  values: tf.Tensor4D;
};

/** What a layer's attention gets: [rows, heads, headDim], rotated where positions matter. */
interface Heads {
  query: tf.Tensor3D;
  key: tf.Tensor3D;
  value: tf.Tensor3D;
}

/**
 * All layers over flat rows [rows, hidden]; `attend` mixes each layer's heads into
 * [rows, heads * headDim] and keeps what it wants of them. Returns the residual stream.
 */
function runLayers(
  config: ModelConfig,
  model: PackedModel,
  ids: tf.Tensor1D,
  tables: { query: RotaryTables; key: RotaryTables },
  attend: (layer: number, heads: Heads) => tf.Tensor2D,
): tf.Tensor2D {
  const { numHeads, numKeyValueHeads: kvHeads, headDim, rmsNormEps: eps } = config;
  const rows = ids.shape[0];
  const embedded = asType(tf.gather(model.embedding, ids), "float32") as tf.Tensor2D;
  let stream: tf.Tensor2D = config.embeddingScale === 1
    ? embedded
    : tf.mul(embedded, config.embeddingScale);
  for (const [i, layer] of model.layers.entries()) {
    const widths = [numHeads, kvHeads, kvHeads].map((count) => count * headDim);
    const [q, k, v] = products(
      rmsNorm(stream, layer.attentionNorm, eps),
      layer.queryKeyValue,
      widths,
    ) as [tf.Tensor2D, tf.Tensor2D, tf.Tensor2D];
    const heads = (x: tf.Tensor2D, count: number, norm?: tf.Tensor1D): tf.Tensor3D => {
      const split = tf.reshape<tf.Rank.R3>(x, [rows, count, headDim]);
      return norm === undefined ? split : rmsNorm(split, norm, eps);
    };
    const mixed = attend(i, {
      query: rotate(heads(q, numHeads, layer.headNorms[0]), tables.query),
      key: rotate(heads(k, kvHeads, layer.headNorms[1]), tables.key),
      value: heads(v, kvHeads),
    });
    const attended = products(mixed, layer.output, [config.hiddenSize])[0]!;
    stream = addResidual(config, stream, attended);
    const half = config.intermediateSize;
    const normed = rmsNorm(stream, layer.feedForwardNorm, eps);
    const [gate, up] = products(normed, layer.gateUp, [half, half]) as [tf.Tensor2D, tf.Tensor2D];
    const fed = products(swiGlu(gate, up), layer.down, [config.hiddenSize])[0]!;
    stream = addResidual(config, stream, fed);
  }
  return stream;
}

/**
 * The maximum along the last axis, kept as an axis of 1. XLA's own reduction takes care of NaN number
 * by number and is 13 times slower on arrays of this size than halving with element-wise maxima.
 */
export function rowMax(x: tf.Tensor): tf.Tensor {
  let top = x;
  for (let n = x.shape.at(-1)!; n > 1;) {
    const half = Math.ceil(n / 2);
    const begin = x.shape.map(() => 0);
    const size = [...x.shape.slice(0, -1), half];
    // The two halves of an odd number share the middle one.
    top = tf.maximum(
      tf.slice(top, begin, size),
      tf.slice(top, [...begin.slice(0, -1), n - half], size),
    );
    n = half;
  }
  return top;
}

/** Softmax attention of queries [n, kv, queries, dim] over a cache of n rows. */
function mix(
  query: tf.Tensor4D,
  { keys, values }: LayerCache,
  bias: tf.Tensor,
): tf.Tensor4D {
  const scores = tf.add(matMulPairs(query, keys), bias);
  const weights = tf.exp(tf.sub(scores, rowMax(scores))) as tf.Tensor4D;
  // Dividing after the product touches headDim numbers a query instead of the cache's length.
  return tf.div(matMulPairs(weights, values), tf.sum(weights, -1, true));
}

/** The shared parts of one decoding step, the same for every layer and model. */
export interface StepContext {
  /** int32 scalar: the ring's column that this step writes. */
  column: tf.Scalar;
  /** int32 [slots]: tokens already in each slot's sequence, i.e. the position of this one. */
  lengths: tf.Tensor1D;
  maxLength: number;
  /**
   * Where sequences may have holes, as they do when a slot stood idle between two turns: the columns
   * that hold each slot's sequence, bool [slots, maxLength], as they were `since` steps ago (int32
   * scalar). What was written from then on belongs to every slot that is still read.
   */
  held?: { columns: tf.Tensor2D; since: tf.Scalar };
}

/** Rotary tables of each slot's position, from constant rows. */
function stepTables(config: ModelConfig, context: StepContext) {
  const { query, key } = rotaryTables(config, context.maxLength);
  // A finished slot may stand at maxLength; it is not read any more.
  const at = tf.minimum(context.lengths, int(context.maxLength - 1)) as tf.Tensor1D;
  const rows = ({ cos, sin }: RotaryTables) => ({
    cos: tf.gather(cos, at),
    sin: tf.gather(sin, at),
  });
  return { query: rows(query), key: rows(key) };
}

/** 0 on a slot's own columns, hidden elsewhere: [slots, 1, 1, maxLength]. */
function ringBias(context: StepContext, window: number | null): tf.Tensor {
  const { column, lengths, maxLength, held } = context;
  const slots = lengths.shape[0];
  const columns = tf.range(0, maxLength, 1, "int32");
  // How many steps ago each column was written. The remainder of a division would be the slowest
  // instruction of the whole step.
  const behind = tf.sub(column, columns);
  const age = tf.where(tf.less(behind, int(0)), tf.add(behind, int(maxLength)), behind);
  const ages = tf.reshape(age, [1, maxLength]);
  let visible: tf.Tensor = held === undefined
    ? tf.lessEqual(ages, tf.reshape(lengths, [slots, 1]))
    : tf.logicalOr(held.columns, tf.lessEqual(ages, held.since));
  if (window !== null && window < maxLength) {
    visible = tf.logicalAnd(visible, tf.reshape(tf.less(age, window), [1, maxLength]));
  }
  const bias = tf.mul(tf.sub(1, tf.cast(visible, "float32")), HIDDEN_SCORE);
  return tf.reshape(bias, [slots, 1, 1, maxLength]);
}

/**
 * Feeds one token to every slot: int32 [slots] -> final hidden states [slots, hidden] and the caches
 * with this step's column written.
 */
export function decodeStep(
  config: ModelConfig,
  model: PackedModel,
  caches: LayerCache[],
  ids: tf.Tensor1D,
  context: StepContext,
): { hidden: tf.Tensor2D; caches: LayerCache[] } {
  const { numHeads, numKeyValueHeads: kvHeads, headDim } = config;
  const slots = ids.shape[0];
  const updated: LayerCache[] = [];
  const biases = new Map<number | null, tf.Tensor>();
  const stream = runLayers(config, model, ids, stepTables(config, context), (i, heads) => {
    const { keys, values } = caches[i]!;
    const { column } = context;
    const layer = {
      keys: dynamicUpdateSlice(keys, tf.expandDims(heads.key, 3), [0, 0, 0, column]),
      values: dynamicUpdateSlice(values, tf.expandDims(heads.value, 2), [0, 0, column, 0]),
    };
    updated.push(layer);
    const window = config.slidingWindows[i] ?? null;
    if (!biases.has(window)) biases.set(window, ringBias(context, window));
    const query = tf.reshape<tf.Rank.R4>(heads.query, [
      slots,
      kvHeads,
      numHeads / kvHeads,
      headDim,
    ]);
    const mixed = mix(query, layer, biases.get(window)!);
    return tf.reshape(mixed, [slots, numHeads * headDim]);
  });
  return { hidden: rmsNorm(stream, model.finalNorm, config.rmsNormEps), caches: updated };
}

/** Logits [slots, vocabulary] of final hidden states. */
export function headLogits(
  config: ModelConfig,
  model: PackedModel,
  hidden: tf.Tensor2D,
): tf.Tensor2D {
  return headProduct(scaledForLogits(config, hidden), model);
}

/** The value of each slot's prefix, [slots]. */
export function headValues(model: PackedModel, hidden: tf.Tensor2D): tf.Tensor1D {
  return tf.reshape(headProduct(hidden, model), [hidden.shape[0]]);
}

/**
 * Keys and values of prompts, right-aligned: int32 [rows, time] with `lengths` real tokens at the end
 * of each row -> caches of `rows` slots and `time` columns.
 */
export function prefill(
  config: ModelConfig,
  model: PackedModel,
  ids: tf.Tensor2D,
  lengths: tf.Tensor1D,
): LayerCache[] {
  const { numHeads, numKeyValueHeads: kvHeads, headDim } = config;
  const [rows, time] = ids.shape;
  const groups = numHeads / kvHeads;
  const columns = tf.reshape(tf.range(0, time, 1, "int32"), [1, time]);
  const first = tf.reshape(tf.sub(int(time), lengths), [rows, 1]);
  const present = tf.greaterEqual(columns, first) as tf.Tensor2D;
  const positions = tf.maximum(tf.sub(columns, first), int(0)) as tf.Tensor2D;
  const flatTables = rotaryTables(config, time, positions);
  const flat = ({ cos, sin }: RotaryTables) => ({
    cos: tf.reshape(cos, [rows * time, 1, headDim / 2]),
    sin: tf.reshape(sin, [rows * time, 1, headDim / 2]),
  });
  const tables = { query: flat(flatTables.query), key: flat(flatTables.key) };
  const byHead = (x: tf.Tensor3D, order: number[]) =>
    tf.transpose(tf.reshape<tf.Rank.R4>(x, [rows, time, kvHeads, headDim]), order);
  const caches: LayerCache[] = [];
  const biases = new Map<number | null, tf.Tensor>();
  runLayers(config, model, tf.reshape(ids, [rows * time]), tables, (i, heads) => {
    const layer = {
      keys: byHead(heads.key, [0, 2, 3, 1]),
      values: byHead(heads.value, [0, 2, 1, 3]),
    };
    caches.push(layer);
    const window = config.slidingWindows[i] ?? null;
    if (!biases.has(window)) {
      const reach = window !== null && window < time ? window : null;
      const bias = causalBias(time, reach, present);
      biases.set(
        window,
        tf.reshape(tf.tile(bias, [1, 1, groups, 1, 1]), [rows, 1, groups * time, time]),
      );
    }
    const query = tf.transpose(
      tf.reshape(heads.query, [rows, time, kvHeads, groups, headDim]),
      [0, 2, 3, 1, 4],
    );
    const grouped = tf.reshape<tf.Rank.R4>(query, [rows, kvHeads, groups * time, headDim]);
    const mixed = mix(grouped, layer, biases.get(window)!);
    const back = tf.transpose(
      tf.reshape(mixed, [rows, kvHeads, groups, time, headDim]),
      [0, 3, 1, 2, 4],
    );
    return tf.reshape(back, [rows * time, numHeads * headDim]);
  });
  return caches;
}

/**
 * Copies prefilled rows into the ring so that they end just before `column`: for i < count, row
 * `pairs[0, i]` goes to slot `pairs[1, i]` (int32 [2, n]). Only those slots' columns are touched, in
 * place where the caches were donated.
 */
export function placeInRing(
  caches: LayerCache[],
  rows: LayerCache[],
  pairs: tf.Tensor2D,
  count: tf.Scalar,
  column: tf.Scalar,
): LayerCache[] {
  const maxLength = caches[0]!.values.shape[2];
  const time = rows[0]!.values.shape[2];
  const behind = tf.sub(column, int(time));
  const start = tf.where(tf.less(behind, int(0)), tf.add(behind, int(maxLength)), behind);
  // A block that runs over the ring's end is written in two windows: at the end, as far right as it
  // fits, and at the beginning. `over` columns of it belong to the second.
  const first = tf.minimum(start, int(maxLength - time));
  const over = tf.sub(start, first);
  const steps = tf.range(0, time, 1, "int32");
  const inFirst = tf.greaterEqual(steps, over);
  const inSecond = tf.less(steps, over);
  // Turned by `over`, a block serves both windows: what one shows, the other hides.
  const turned = (block: tf.Tensor4D, axis: 2 | 3) => {
    const twice = tf.concat([block, block], axis) as tf.Tensor4D;
    const begin = tf.sub(int(time), over);
    const starts = axis === 2 ? [0, 0, begin, 0] : [0, 0, 0, begin];
    return { axis, block: dynamicSlice(twice, starts, block.shape) };
  };
  const sources = rows.flatMap(({ keys, values }) => [turned(keys, 3), turned(values, 2)]);
  const write = (cache: tf.Tensor4D, k: number, row: tf.Tensor, slot: tf.Tensor) => {
    const { axis, block } = sources[k]!;
    const size = [1, ...block.shape.slice(1)];
    const fresh = dynamicSlice(block, [row, 0, 0, 0], size);
    const window = (x: tf.Tensor4D, begin: tf.Tensor | number, shown: tf.Tensor) => {
      const at = axis === 2 ? [slot, 0, begin, 0] : [slot, 0, 0, begin];
      const mask = tf.reshape(shown, axis === 2 ? [1, 1, time, 1] : [1, 1, 1, time]);
      return dynamicUpdateSlice(x, tf.where(mask, fresh, dynamicSlice(x, at, size)), at);
    };
    return window(window(cache, first, inFirst), 0, inSecond);
  };
  const flat = caches.flatMap(({ keys, values }) => [keys, values]);
  const at = (row: number, i: tf.Tensor) => tf.reshape(dynamicSlice(pairs, [row, i], [1, 1]), []);
  const end = whileLoop(
    (s) => tf.less(s.i, count),
    (s) => ({
      i: tf.add(s.i, int(1)),
      caches: s.caches.map((cache, k) => write(cache, k, at(0, s.i), at(1, s.i))),
    }),
    { i: int(0) as tf.Tensor, caches: flat },
  );
  return caches.map((_, i) => ({ keys: end.caches[2 * i]!, values: end.caches[2 * i + 1]! }));
}
