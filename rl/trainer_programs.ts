/**
 * The compiled programs of a training step: gradients of an objective on a micro-batch and the AdamW
 * update, as one program where the batch is not cut, state donated, else one program a micro-batch that
 * adds to the gradients before it and one for the update.
 */
import { jit, leavesOf, mapTree, tf } from "../xla/mod.ts";
import type { Batch } from "./batches.ts";
import type { Models } from "./gradients.ts";
import { type AdamOptions, adamUpdate } from "./optimizer.ts";
import type { Fingerprint, TrainingState } from "./trainer_checkpoint.ts";

/** A micro-batch on the device; the fields are `Batch`'s. */
export type BatchTensors = {
  ids: tf.Tensor2D;
  actionWeights: tf.Tensor2D;
  stateWeights: tf.Tensor2D;
  rewards: tf.Tensor1D;
  refLogProbs: tf.Tensor2D;
};

/** What is minimised. `gradients` is traced; all that it sums must add up over micro-batches. */
export interface Objective {
  name: string;
  /** What decides its result beside the data, for the checkpoint's fingerprint. */
  settings: Fingerprint;
  /** Names of the scalars that `gradients` returns; the first is the total loss. */
  sums: readonly string[];
  gradients(
    models: Models,
    constants: Models,
    batch: BatchTensors,
  ): { grads: Models; sums: tf.Scalar[] };
  /** Turns a step's sums into the metrics that people read. */
  describe(sums: Record<string, number>): Record<string, number>;
}

/** Host arrays to the device. */
export function upload(batch: Batch): BatchTensors {
  const columns: [number, number] = [batch.rows, batch.time - 1];
  return {
    ids: tf.tensor2d(batch.ids, [batch.rows, batch.time], "int32"),
    actionWeights: tf.tensor2d(batch.actionWeights, columns),
    stateWeights: tf.tensor2d(batch.stateWeights, columns),
    rewards: tf.tensor1d(batch.rewards),
    refLogProbs: tf.tensor2d(batch.refLogProbs, columns),
  };
}

type Hyper = Record<string, tf.Tensor1D>;
type Accumulated = { grads: Models; sums: tf.Tensor1D };

/** The programs of a run; one step is one program, or one per micro-batch and one update. */
export function programs(objective: Objective, adam: AdamOptions) {
  const gradients = (models: Models, constants: Models, batch: BatchTensors): Accumulated => {
    const { grads, sums } = objective.gradients(models, constants, batch);
    return { grads, sums: tf.stack(sums) as tf.Tensor1D };
  };
  const update = (state: TrainingState, grads: Models, hyper: Hyper) => {
    const next: TrainingState = { models: {}, adam: {} };
    const norms: tf.Scalar[] = [];
    for (const model of Object.keys(state.models)) {
      const updated = adamUpdate(
        state.models[model]!,
        grads[model]!,
        state.adam[model]!,
        hyper[model]!,
        adam,
      );
      next.models[model] = updated.params;
      next.adam[model] = updated.state;
      norms.push(updated.gradNorm);
    }
    return { state: next, norms: tf.stack(norms) };
  };
  const name = objective.name;
  const memoryHint = "a smaller microBatch, shorter sequences (maxNewTokens), or a smaller model";
  const whole = jit(
    (state: TrainingState, constants: Models, batch: BatchTensors, hyper: Hyper) => {
      const { grads, sums } = gradients(state.models, constants, batch);
      return { ...update(state, grads, hyper), sums };
    },
    { name: `${name}.step`, donate: [0], memoryHint },
  );
  const first = jit(gradients, { name: `${name}.gradients`, memoryHint });
  const further = jit(
    (acc: Accumulated, models: Models, constants: Models, batch: BatchTensors): Accumulated => {
      const { grads, sums } = gradients(models, constants, batch);
      const added = leavesOf(acc.grads).map((g, i) => g.add(leavesOf(grads)[i]!));
      return {
        grads: mapTree(grads, (_, i) => added[i]!) as unknown as Models,
        sums: acc.sums.add(sums),
      };
    },
    { name: `${name}.accumulate`, donate: [0], memoryHint },
  );
  const apply = jit(
    (state: TrainingState, grads: Models, hyper: Hyper) => update(state, grads, hyper),
    { name: `${name}.update`, donate: [0, 1], memoryHint },
  );

  const withBatch = <R>(batch: Batch, body: (tensors: BatchTensors) => R): R => {
    const tensors = upload(batch);
    const result = body(tensors);
    leavesOf(tensors).forEach((tensor) => tensor.dispose());
    return result;
  };
  return {
    step(state: TrainingState, constants: Models, batches: Batch[], hyper: Hyper) {
      const [head, ...rest] = batches as [Batch, ...Batch[]];
      if (rest.length === 0) {
        return withBatch(head, (tensors) => whole(state, constants, tensors, hyper));
      }
      let acc = withBatch(head, (tensors) => first(state.models, constants, tensors));
      for (const batch of rest) {
        acc = withBatch(batch, (tensors) => further(acc, state.models, constants, tensors));
      }
      return { ...apply(state, acc.grads, hyper), sums: acc.sums };
    },
  };
}
