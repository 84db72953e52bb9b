/**
 * The compiled programs of a training step: gradients of an objective on a micro-batch and the AdamW
 * update, as one program where the batch is not cut, state donated, else one program a micro-batch that
 * adds to the gradients before it and one for the update. And the objective's value alone, on data that
 * is held out.
 */
import { jit, leavesOf, mapTree, type MemoryPlan, tf } from "../xla/mod.ts";
import type { Batch } from "./batches.ts";
import { gradientsOf, type Models } from "./gradients.ts";
import { type AdamOptions, adamUpdate } from "./optimizer.ts";
import type { PaddedOrPacked } from "./columns.ts";
import type { Placement } from "./placement.ts";
import type { Fingerprint, TrainingState } from "./trainer_checkpoint.ts";

/** A micro-batch on the device; the fields are `Batch`'s. */
export type BatchTensors = PaddedOrPacked & {
  actionWeights: tf.Tensor2D;
  stateWeights: tf.Tensor2D;
  rewards: tf.Tensor1D;
  refLogProbs: tf.Tensor2D;
};

/** What an objective reads beside the batch. */
export interface ObjectiveInputs {
  /** Trained. */
  models: Models;
  /** Not trained: a reference, the parameters that an adapter stands on. */
  constants: Models;
  /** What the objective keeps between steps. */
  memory: Models;
  /** The whole batch's `Objective.batchSums`; absent where the rows at hand are the whole batch. */
  batchSums?: tf.Tensor1D | undefined;
}

/** What is minimised. `loss` is traced; all that it sums must add up over micro-batches. */
export interface Objective {
  name: string;
  /** What decides its result beside the data, for the checkpoint's fingerprint. */
  settings: Fingerprint;
  /** Names of the scalars that `loss` keeps; the first is the total loss. */
  sums: readonly string[];
  loss(inputs: ObjectiveInputs, batch: BatchTensors): { loss: tf.Scalar; kept: tf.Scalar[] };
  /**
   * What the loss needs to know of a whole batch where it sees micro-batches, as sums that add up over
   * them, without a gradient. Costs a forward pass; left out where the loss needs nothing.
   */
  batchSums?(inputs: ObjectiveInputs, batch: BatchTensors): tf.Tensor1D;
  /** Turns a step's sums into the metrics that people read. */
  describe(sums: Record<string, number>): Record<string, number>;
  /** State of the objective's own, such as a moving average; traced with the update. */
  memory?: {
    initial(models: Models): Models;
    /** After an update of the models. `sums` are the step's. */
    next(memory: Models, models: Models, sums: Record<string, tf.Scalar>): Models;
    /** The model whose updates it follows: while that is frozen, the memory stays as it is. */
    follows: string;
  };
}

/** The gradients of an objective by the models named, or all, and its sums. */
export function objectiveGradients(
  objective: Objective,
  inputs: ObjectiveInputs,
  batch: BatchTensors,
  trained: readonly string[] = Object.keys(inputs.models),
): { grads: Models; sums: tf.Scalar[] } {
  const wanted = Object.fromEntries(trained.map((model) => [model, inputs.models[model]!]));
  const { kept, grads } = gradientsOf(() => objective.loss(inputs, batch), wanted);
  return { grads, sums: kept };
}

/** Host arrays to the device, or over several of them. */
export function upload(batch: Batch, placement?: Placement): BatchTensors {
  const columns: [number, number] = [batch.sequences, batch.columns];
  const tokens: [number, number] = [batch.rows, batch.time];
  const { layout } = batch;
  const tensors: BatchTensors = {
    ids: tf.tensor2d(batch.ids, tokens, "int32"),
    ...(layout === undefined ? {} : {
      layout: {
        segments: tf.tensor2d(layout.segments, tokens, "int32"),
        positions: tf.tensor2d(layout.positions, tokens, "int32"),
        at: tf.tensor1d(layout.at, "int32"),
        targets: tf.tensor1d(layout.targets, "int32"),
        slots: tf.tensor1d(layout.slots, "int32"),
        columns: tf.tensor2d(layout.columns, columns, "int32"),
        sources: tf.tensor1d(layout.sources, "int32"),
      },
    }),
    actionWeights: tf.tensor2d(batch.actionWeights, columns),
    stateWeights: tf.tensor2d(batch.stateWeights, columns),
    rewards: tf.tensor1d(batch.rewards),
    refLogProbs: tf.tensor2d(batch.refLogProbs, columns),
  };
  return placement === undefined ? tensors : placement.takeRows(tensors);
}

type Hyper = Record<string, tf.Tensor1D>;
/** What the gradients read of a state. */
type Read = Pick<TrainingState, "models" | "memory">;
type Accumulated = { grads: Models; sums: tf.Tensor1D };

/**
 * The programs of a run; one step is one program, or one per micro-batch and one update. The models
 * that a step trains are those that its `hyper` names; the others pass through.
 */
export function programs(objective: Objective, adam: AdamOptions, placement: Placement) {
  const gradients = (
    { models, memory }: Read,
    constants: Models,
    batch: BatchTensors,
    trained: readonly string[],
    batchSums?: tf.Tensor1D,
  ): Accumulated => {
    const inputs = { models, constants, memory, batchSums };
    const { grads, sums } = objectiveGradients(objective, inputs, batch, trained);
    return { grads: placement.constrain(grads), sums: tf.stack(sums) as tf.Tensor1D };
  };
  const update = (state: TrainingState, { grads, sums }: Accumulated, hyper: Hyper) => {
    const next: TrainingState = { models: {}, adam: {}, memory: state.memory };
    const norms: tf.Scalar[] = [];
    for (const model of Object.keys(state.models)) {
      const at = hyper[model];
      if (at === undefined) {
        next.models[model] = mapTree(state.models[model]!, (t) => t.clone());
        next.adam[model] = mapTree(state.adam[model]!, (t) => t.clone());
        continue;
      }
      const updated = adamUpdate(
        state.models[model]!,
        grads[model]!,
        state.adam[model]!,
        at,
        adam,
      );
      next.models[model] = updated.params;
      next.adam[model] = updated.state;
      norms.push(updated.gradNorm);
    }
    if (objective.memory !== undefined && hyper[objective.memory.follows] !== undefined) {
      const named = objective.sums.map((name, i) => [name, sums.slice([i], [1]).reshape([])]);
      next.memory = objective.memory.next(state.memory, next.models, Object.fromEntries(named));
    } else next.memory = mapTree(state.memory, (t) => t.clone());
    return { state: placement.constrain(next), norms: tf.stack(norms) };
  };
  const name = objective.name;
  const memoryHint = "a smaller microBatch, shorter sequences (maxNewTokens), or a smaller model";
  const whole = jit(
    (state: TrainingState, constants: Models, batch: BatchTensors, hyper: Hyper) => {
      const acc = gradients(state, constants, batch, Object.keys(hyper));
      return { ...update(state, acc, hyper), sums: acc.sums };
    },
    { name: `${name}.step`, donate: [0], memoryHint },
  );
  const first = jit(gradients, { name: `${name}.gradients`, memoryHint });
  const further = jit(
    (
      acc: Accumulated,
      state: Read,
      constants: Models,
      batch: BatchTensors,
      trained: readonly string[],
      batchSums?: tf.Tensor1D,
    ): Accumulated => {
      const { grads, sums } = gradients(state, constants, batch, trained, batchSums);
      const added = leavesOf(acc.grads).map((g, i) => g.add(leavesOf(grads)[i]!));
      return {
        grads: mapTree(grads, (_, i) => added[i]!) as unknown as Models,
        sums: acc.sums.add(sums),
      };
    },
    { name: `${name}.accumulate`, donate: [0], memoryHint },
  );
  // The sums are an argument of their own: donated ones could not be read afterwards.
  const apply = jit(
    (state: TrainingState, grads: Models, sums: tf.Tensor1D, hyper: Hyper) =>
      update(state, { grads, sums }, hyper),
    { name: `${name}.update`, donate: [0, 1], memoryHint },
  );
  const value = jit(
    (state: Read, constants: Models, batch: BatchTensors, batchSums?: tf.Tensor1D) =>
      tf.stack(objective.loss({ ...state, constants, batchSums }, batch).kept) as tf.Tensor1D,
    { name: `${name}.value`, memoryHint },
  );
  const batchSums = jit(
    (acc: tf.Tensor1D | undefined, state: Read, constants: Models, batch: BatchTensors) => {
      const sums = objective.batchSums!({ ...state, constants }, batch);
      return acc === undefined ? sums : acc.add(sums) as tf.Tensor1D;
    },
    { name: `${name}.batch_sums`, donate: [0], memoryHint },
  );

  const withBatch = <R>(batch: Batch, body: (tensors: BatchTensors) => R): R => {
    const tensors = upload(batch, placement);
    const result = body(tensors);
    leavesOf(tensors).forEach((tensor) => tensor.dispose());
    return result;
  };
  /** What micro-batches must know of their batch. */
  const batchSumsOf = (read: Read, constants: Models, batches: readonly Batch[]) => {
    if (objective.batchSums === undefined || batches.length < 2) return undefined;
    let acc: tf.Tensor1D | undefined;
    for (const batch of batches) {
      acc = withBatch(batch, (tensors) => batchSums(acc, read, constants, tensors));
    }
    return acc;
  };
  return {
    step(state: TrainingState, constants: Models, batches: Batch[], hyper: Hyper) {
      const [head, ...rest] = batches as [Batch, ...Batch[]];
      if (rest.length === 0) {
        return withBatch(head, (tensors) => whole(state, constants, tensors, hyper));
      }
      const trained = Object.keys(hyper);
      const read = { models: state.models, memory: state.memory };
      const known = batchSumsOf(read, constants, batches);
      let acc = withBatch(head, (tensors) => first(read, constants, tensors, trained, known));
      for (const batch of rest) {
        acc = withBatch(batch, (tensors) => further(acc, read, constants, tensors, trained, known));
      }
      known?.dispose();
      return { ...apply(state, acc.grads, acc.sums, hyper), sums: acc.sums };
    },
    /**
     * The most bytes that such a step has on one device at a time: what its compiled programs plan and
     * what waits beside them; undefined where the backend makes no plans. Runs nothing but the gradients
     * of the first micro-batch where there are several.
     */
    peakBytes(
      state: TrainingState,
      constants: Models,
      batches: Batch[],
      hyper: Hyper,
    ): number | undefined {
      const [head, second] = batches as [Batch, ...Batch[]];
      const trained = Object.keys(hyper);
      const read = { models: state.models, memory: state.memory };
      const total = (plan: MemoryPlan | undefined, beside: number) =>
        plan && plan.arguments + plan.outputs - plan.aliased + plan.temporary + beside;
      const found = second === undefined
        ? [withBatch(head, (batch) => total(whole.memoryPlan(state, constants, batch, hyper), 0))]
        : withBatch(head, (batch) => {
          const acc = first(read, constants, batch, trained);
          const moments = placement.bytes(state.adam);
          const totals = [
            total(first.memoryPlan(read, constants, batch, trained), moments),
            total(further.memoryPlan(acc, read, constants, batch, trained), moments),
            total(apply.memoryPlan(state, acc.grads, acc.sums, hyper), placement.bytes(constants)),
          ];
          leavesOf(acc).forEach((tensor) => tensor.dispose());
          return totals;
        });
      const known = found.filter((total) => total !== undefined);
      return known.length === 0 ? undefined : Math.max(...known);
    },
    /** The objective's sums over `batches`, by name, without any gradient. */
    async evaluate(state: TrainingState, constants: Models, batches: readonly Batch[]) {
      const total = new Float64Array(objective.sums.length);
      const read = { models: state.models, memory: state.memory };
      const known = batchSumsOf(read, constants, batches);
      for (const batch of batches) {
        const sums = withBatch(batch, (tensors) => value(read, constants, tensors, known));
        (await sums.data()).forEach((x, i) => total[i]! += x);
        sums.dispose();
      }
      known?.dispose();
      return Object.fromEntries(objective.sums.map((name, i) => [name, total[i]!]));
    },
  };
}
