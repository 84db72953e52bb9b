/**
 * The compiled programs of generation: packing weights, prefilling prompts, decoding a dispatch. They
 * are kept by configuration and shape, so that a new generator of the same kind compiles nothing.
 */
import { dynamicSlice, dynamicUpdateSlice, jit, tf, whileLoop } from "../xla/mod.ts";
import type { ModelConfig } from "./config.ts";
import {
  decodeStep,
  headLogits,
  headValues,
  type LayerCache,
  placeInRing,
  prefill,
} from "./inference.ts";
import { type PackedModel, type PackedType, packModel } from "./packed.ts";
import { int } from "./positions.ts";
import { chooseTokens, type SamplingKind } from "./sampling.ts";
import type { Params } from "./transformer.ts";

/** Something of the policy and, where values are wanted, of the value model. */
export type Pair<T> = {
  policy: T;
  value?: T;
};

export type Caches = Pair<LayerCache[]>;

export interface GeneratorShape {
  readonly policy: ModelConfig;
  readonly value: ModelConfig | undefined;
  readonly weights: PackedType;
  readonly slots: number;
  readonly tokensPerDispatch: number;
}

/** What a dispatch of decoding takes from the host. */
export interface StepInputs {
  readonly tokens: Int32Array;
  readonly lengths: Int32Array;
  readonly remaining: Int32Array;
  readonly flush: Int32Array;
  readonly stopSet: Int32Array;
  readonly temperature: Float32Array;
  readonly topK: Float32Array;
  readonly topP: Float32Array;
  readonly minP: Float32Array;
  readonly repetitionPenalty: Float32Array;
  /** 0 or 1 [slots * vocabulary]: the tokens of each sequence; only where `kind.repetition`. */
  readonly seen: Uint8Array | undefined;
  readonly uniforms: Float32Array;
  readonly column: number;
  /** Steps of this dispatch, at most tokensPerDispatch. */
  readonly steps: number;
  /** The dispatch ends when no more than this many slots are busy. */
  readonly leaveAt: number;
  /** 1 at the columns that hold each slot's sequence, [slots * columns]; only where there are turns. */
  readonly held: Uint8Array | undefined;
  /**
   * [tokensPerDispatch * slots]: the token that follows a step where it is not to be chosen, else -1;
   * only where there are turns.
   */
  readonly forced: Int32Array | undefined;
  readonly stopTable: tf.Tensor1D;
  readonly kind: SamplingKind;
}

/** What it gives back. */
export type StepOutput = {
  /**
   * int32 [tokensPerDispatch + 1, slots]: chosen tokens, -1 - token where it ends the sequence; in the
   * last row the number of steps taken.
   */
  ids: tf.Tensor2D;
  /** [tokensPerDispatch, slots] */
  logProbs: tf.Tensor2D;
  /** V before each token, [tokensPerDispatch, slots]; one column of nothing without a value model. */
  values: tf.Tensor2D;
};

/** Prompts to prefill: rows of right-aligned ids, and which slots each one starts. */
export interface PrefillInputs {
  /** [rows, time] */
  readonly ids: Int32Array;
  /** [rows] */
  readonly lengths: Int32Array;
  /** [2, slots]: rows, then slots, of which the first `count` columns hold. */
  readonly pairs: Int32Array;
  readonly count: number;
  readonly rows: number;
  readonly time: number;
}

/** Zeroed caches of so many columns. */
export function emptyCaches(shape: GeneratorShape, columns: number): Caches {
  const empty = (config: ModelConfig): LayerCache[] => {
    const { numKeyValueHeads: kvHeads, headDim, numLayers } = config;
    const { slots } = shape;
    return Array.from({ length: numLayers }, () => ({
      keys: tf.zeros<tf.Rank.R4>([slots, kvHeads, headDim, columns]),
      values: tf.zeros<tf.Rank.R4>([slots, kvHeads, columns, headDim]),
    }));
  };
  return shape.value === undefined
    ? { policy: empty(shape.policy) }
    : { policy: empty(shape.policy), value: empty(shape.value) };
}

type LoopState = {
  t: tf.Tensor;
  column: tf.Tensor;
  tokens: tf.Tensor1D;
  lengths: tf.Tensor1D;
  remaining: tf.Tensor1D;
  flush: tf.Tensor1D;
  seen: tf.Tensor2D;
  caches: Caches;
  ids: tf.Tensor2D;
  logProbs: tf.Tensor2D;
  values: tf.Tensor2D;
};

/** One dispatch: the loop on the device over at most `tokensPerDispatch` tokens a slot. */
function decodeLoop(
  shape: GeneratorShape,
  kind: SamplingKind,
  models: Pair<PackedModel>,
  caches: Caches,
  ints: tf.Tensor2D,
  floats: tf.Tensor2D,
  uniforms: tf.Tensor2D,
  seen: tf.Tensor2D,
  held: tf.Tensor2D,
  forced: tf.Tensor2D,
  clock: tf.Tensor1D,
  stopTable: tf.Tensor1D,
): { caches: Caches; output: StepOutput } {
  const { slots, tokensPerDispatch: steps, policy } = shape;
  const maxLength = caches.policy[0]!.values.shape[2];
  const [tokens, lengths, remaining, flush, stopSet] = tf.unstack(ints) as [
    tf.Tensor1D,
    tf.Tensor1D,
    tf.Tensor1D,
    tf.Tensor1D,
    tf.Tensor1D,
  ];
  const [temperature, topK, topP, minP, repetitionPenalty] = tf.unstack(floats) as [
    tf.Tensor1D,
    tf.Tensor1D,
    tf.Tensor1D,
    tf.Tensor1D,
    tf.Tensor1D,
  ];
  const settings = { temperature, topK, topP, minP, repetitionPenalty };
  const vocabulary = tf.range(0, policy.vocabSize, 1, "int32");
  const [column, leaveAt, limit] = tf.unstack(clock) as [tf.Tensor, tf.Tensor, tf.Tensor];
  /** Without turns these are single numbers that nobody reads. */
  const turns = held.shape[1] === maxLength;
  const stopBase = tf.mul(stopSet, int(policy.vocabSize));

  const condition = (s: LoopState) => {
    const busy = tf.sum(tf.cast(tf.greater(tf.add(s.remaining, s.flush), int(0)), "int32"));
    return tf.logicalAnd(tf.less(s.t, limit), tf.greater(busy, leaveAt));
  };
  const body = (s: LoopState): LoopState => {
    const context = {
      column: s.column as tf.Scalar,
      lengths: s.lengths,
      maxLength,
      ...(turns ? { held: { columns: held, since: s.t as tf.Scalar } } : {}),
    };
    const fed = decodeStep(policy, models.policy, s.caches.policy, s.tokens, context);
    const next: Caches = { policy: fed.caches };
    let values = s.values;
    if (shape.value !== undefined) {
      const read = decodeStep(shape.value, models.value!, s.caches.value!, s.tokens, context);
      next.value = read.caches;
      const row = tf.expandDims(headValues(models.value!, read.hidden), 0);
      values = dynamicUpdateSlice(values, row, [s.t, 0]);
    } else values = tf.clone(values);

    const logits = headLogits(policy, models.policy, fed.hidden);
    const uniform = tf.reshape<tf.Rank.R1>(dynamicSlice(uniforms, [s.t, 0], [1, slots]), [slots]);
    const chosen = chooseTokens(logits, settings, uniform, kind, s.seen);
    const given = turns
      ? tf.reshape<tf.Rank.R1>(dynamicSlice(forced, [s.t, 0], [1, slots]), [slots])
      : undefined;
    const open = tf.greater(s.remaining, int(0));
    const running = given === undefined ? open : tf.logicalAnd(open, tf.less(given, int(0)));
    const stops = tf.gather(stopTable, tf.add(stopBase, chosen.tokens) as tf.Tensor1D);
    const stopped = tf.greater(stops, int(0));
    const left = tf.where(stopped, tf.zerosLike(s.remaining), tf.sub(s.remaining, int(1)));
    const busy = tf.cast(tf.greater(tf.add(s.remaining, s.flush), int(0)), "int32");
    const after = tf.where(running, left, s.remaining) as tf.Tensor1D;
    const ended = tf.logicalAnd(running, tf.equal(after, int(0)));
    const shown = tf.where(stopped, tf.sub(int(-1), chosen.tokens), chosen.tokens);
    return {
      t: tf.add(s.t, int(1)),
      column: tf.mod(tf.add(s.column, int(1)), int(maxLength)),
      tokens: tf.where(
        running,
        chosen.tokens,
        given === undefined ? s.tokens : tf.where(tf.less(given, int(0)), s.tokens, given),
      ) as tf.Tensor1D,
      lengths: tf.add(s.lengths, busy) as tf.Tensor1D,
      remaining: after,
      flush: shape.value === undefined
        ? tf.zerosLike(s.flush)
        : tf.cast(ended, "int32") as tf.Tensor1D,
      seen: kind.repetition
        ? tf.logicalOr(
          s.seen,
          tf.equal(vocabulary, tf.reshape(chosen.tokens, [slots, 1])),
        ) as tf.Tensor2D
        : tf.clone(s.seen),
      caches: next,
      ids: dynamicUpdateSlice(s.ids, tf.expandDims(shown, 0), [s.t, 0]),
      logProbs: dynamicUpdateSlice(s.logProbs, tf.expandDims(chosen.logProbs, 0), [s.t, 0]),
      values,
    };
  };
  const end = whileLoop<LoopState>(condition, body, {
    t: int(0),
    column,
    tokens,
    lengths,
    remaining,
    flush,
    seen,
    caches,
    ids: tf.zeros([steps + 1, slots], "int32"),
    logProbs: tf.zeros([steps, slots]),
    values: tf.zeros(shape.value === undefined ? [1, 1] : [steps, slots]),
  });
  const count = tf.tile(tf.reshape(end.t, [1, 1]), [1, slots]);
  const ids = dynamicUpdateSlice(end.ids, count, [steps, 0]);
  return { caches: end.caches, output: { ids, logProbs: end.logProbs, values: end.values } };
}

const MEMORY_HINT = "fewer slots, a smaller maxNewTokens, or shorter prompts";

function makePrograms(shape: GeneratorShape) {
  const packing = (params: Pair<Params>): Pair<PackedModel> => {
    const policy = packModel(shape.policy, params.policy, "logits", shape.weights);
    return shape.value === undefined
      ? { policy }
      : { policy, value: packModel(shape.value, params.value!, "value", shape.weights) };
  };
  // A compiled function would copy what is to stay where it is.
  const pack = shape.weights === "float32"
    ? jit(packing, { name: "pack" })
    : (params: Pair<Params>) =>
      tf.tidy(() => packing(params) as tf.TensorContainer) as Pair<PackedModel>;

  const prefillProgram = jit(
    (
      models: Pair<PackedModel>,
      caches: Caches,
      ids: tf.Tensor2D,
      lengths: tf.Tensor1D,
      pairs: tf.Tensor2D,
      count: tf.Scalar,
      column: tf.Scalar,
    ): Caches => {
      const fill = (config: ModelConfig, model: PackedModel, cache: LayerCache[]) =>
        placeInRing(cache, prefill(config, model, ids, lengths), pairs, count, column);
      const policy = fill(shape.policy, models.policy, caches.policy);
      return shape.value === undefined
        ? { policy }
        : { policy, value: fill(shape.value, models.value!, caches.value!) };
    },
    { name: "prefill", donate: [1], memoryHint: MEMORY_HINT },
  );

  const decoders = new Map<string, ReturnType<typeof makeDecoder>>();
  const makeDecoder = (kind: SamplingKind) =>
    jit(
      (
        caches: Caches,
        models: Pair<PackedModel>,
        ints: tf.Tensor2D,
        floats: tf.Tensor2D,
        uniforms: tf.Tensor2D,
        seen: tf.Tensor2D,
        held: tf.Tensor2D,
        forced: tf.Tensor2D,
        clock: tf.Tensor1D,
        stopTable: tf.Tensor1D,
      ) =>
        decodeLoop(
          shape,
          kind,
          models,
          caches,
          ints,
          floats,
          uniforms,
          seen,
          held,
          forced,
          clock,
          stopTable,
        ),
      { name: "decode", donate: [0], memoryHint: MEMORY_HINT },
    );

  const grown = (caches: LayerCache[], more: number): LayerCache[] =>
    caches.map(({ keys, values }) => ({
      keys: tf.pad(keys, [[0, 0], [0, 0], [0, 0], [0, more]]),
      values: tf.pad(values, [[0, 0], [0, 0], [0, more], [0, 0]]),
    }));
  const grow = jit(
    (caches: Caches, more: number): Caches =>
      caches.value === undefined
        ? { policy: grown(caches.policy, more) }
        : { policy: grown(caches.policy, more), value: grown(caches.value, more) },
    {
      name: "grow",
      donate: [0],
      memoryHint: MEMORY_HINT,
    },
  );

  return {
    shape,
    pack,
    /** The caches with `more` columns at the end of the ring. Consumes `caches`. */
    grow,
    /** Consumes `caches`. */
    prefill(models: Pair<PackedModel>, caches: Caches, inputs: PrefillInputs, column: number) {
      const { rows, time } = inputs;
      const args = [
        tf.tensor2d(inputs.ids, [rows, time], "int32"),
        tf.tensor1d(inputs.lengths, "int32"),
        tf.tensor2d(inputs.pairs, [2, shape.slots], "int32"),
        tf.scalar(inputs.count, "int32"),
        tf.scalar(column, "int32"),
      ] as const;
      const filled = prefillProgram(models, caches, ...args);
      tf.dispose([...args]);
      return filled;
    },
    /** Consumes `caches`. */
    decode(models: Pair<PackedModel>, caches: Caches, inputs: StepInputs) {
      const key = JSON.stringify(inputs.kind);
      if (!decoders.has(key)) decoders.set(key, makeDecoder({ ...inputs.kind }));
      const { slots, tokensPerDispatch } = shape;
      const stack = <T extends Int32Array | Float32Array>(all: T, parts: T[]) => {
        for (const [i, part] of parts.entries()) all.set(part, i * slots);
        return all;
      };
      const { tokens, lengths, remaining, flush, stopSet, seen, held, forced } = inputs;
      const { temperature, topK, topP, minP, repetitionPenalty } = inputs;
      const args = [
        tf.tensor2d(
          stack(new Int32Array(5 * slots), [tokens, lengths, remaining, flush, stopSet]),
          [5, slots],
          "int32",
        ),
        tf.tensor2d(
          stack(new Float32Array(5 * slots), [temperature, topK, topP, minP, repetitionPenalty]),
          [5, slots],
        ),
        // A copy: the host writes the next draws while this buffer may still be read.
        tf.tensor2d(inputs.uniforms.slice(), [tokensPerDispatch, slots]),
        tf.tensor2d(
          seen ?? new Uint8Array(1),
          seen === undefined ? [1, 1] : [slots, shape.policy.vocabSize],
          "bool",
        ),
        // A copy, too.
        tf.tensor2d(
          held?.slice() ?? new Uint8Array(1),
          held === undefined ? [1, 1] : [slots, held.length / slots],
          "bool",
        ),
        tf.tensor2d(
          forced?.slice() ?? new Int32Array(1),
          forced === undefined ? [1, 1] : [tokensPerDispatch, slots],
          "int32",
        ),
        tf.tensor1d([inputs.column, inputs.leaveAt, inputs.steps], "int32"),
      ] as const;
      const result = decoders.get(key)!(caches, models, ...args, inputs.stopTable);
      tf.dispose([...args]);
      return result;
    },
  };
}

const known = new Map<string, ReturnType<typeof makePrograms>>();

/** The programs for these models and sizes, made once. */
export function programsFor(
  policy: ModelConfig,
  value: ModelConfig | undefined,
  sizes: { slots: number; tokensPerDispatch: number; weights: PackedType },
): ReturnType<typeof makePrograms> {
  const plain = (config: ModelConfig | undefined) => config && { ...config, raw: undefined };
  const key = JSON.stringify([plain(policy), plain(value), sizes]);
  let programs = known.get(key);
  if (programs === undefined) {
    programs = makePrograms({ policy, value, ...sizes });
    known.set(key, programs);
  }
  return programs;
}
