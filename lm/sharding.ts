/**
 * Laying a language model out over a mesh of devices. Parameters are placed once; compiled functions that
 * get them run over the whole mesh, with what they need of each other inserted by XLA's partitioner.
 */
import { makeMesh, type Mesh, shard, type Spec, type tf, tracedMesh } from "../xla/mod.ts";
import type { Params } from "./transformer.ts";

/**
 * `data`: every device has the whole model. `fsdp`: every matrix is cut along its first dimension that
 * divides, and gathered where it is used (ZeRO-3, arXiv 1910.02054). `tensor`: attention heads and
 * feed-forward columns are cut, so that a block needs one sum over the devices (arXiv 1909.08053).
 */
export type Parallelism = "data" | "fsdp" | "tensor";

/** Names of the mesh's axes: batches are cut along `data`, matrices of `tensor` along `model`. */
const DATA = "data";
const MODEL = "model";

/** Matrices whose outputs are cut (by head or column), and those whose inputs are. */
const CUT_OUTPUTS = /\.(q_proj|k_proj|v_proj|gate_proj|up_proj)\.(weight|bias)$/;
const CUT_INPUTS = /\.(o_proj|down_proj)\.weight$/;
const CUT_VOCABULARY = /^(model\.embed_tokens|lm_head)\.weight$/;

/** A mesh of `devices` for one kind of parallelism. */
export function meshFor(parallelism: Parallelism, devices: number): Mesh {
  return makeMesh(parallelism === "tensor" ? { [MODEL]: devices } : { [DATA]: devices });
}

/** How the parameter `name` of that shape lies on the mesh. What does not divide evenly stays whole. */
export function parameterSpec(
  name: string,
  shape: readonly number[],
  parallelism: Parallelism,
  mesh: Mesh,
): Spec {
  const cut = (axis: number, by: string): Spec =>
    (shape[axis] ?? 0) % mesh.axes[by]! === 0 ? shape.map((_, i) => i === axis ? by : null) : [];
  switch (parallelism) {
    case "data":
      return [];
    case "fsdp": {
      const axis = shape.findIndex((size) => size > 0 && size % mesh.axes[DATA]! === 0);
      return axis < 0 ? [] : cut(axis, DATA);
    }
    case "tensor":
      if (CUT_OUTPUTS.test(name) || CUT_VOCABULARY.test(name)) return cut(0, MODEL);
      return CUT_INPUTS.test(name) ? cut(1, MODEL) : [];
    default:
      throw new RangeError(`no parallelism '${parallelism satisfies never}'`);
  }
}

/** Copies of parameters, or of anything under their names such as moments, laid out over the mesh. */
export function shardParams(params: Params, parallelism: Parallelism, mesh: Mesh): Params {
  return Object.fromEntries(
    Object.entries(params).map(([name, x]) => [
      name,
      shard(x, mesh, parameterSpec(name, x.shape, parallelism, mesh)),
    ]),
  );
}

/** A batch [batch, ...] cut into rows of the mesh's `data` axis; whole where the mesh has none. */
export function shardBatch<T extends tf.Tensor>(batch: T, mesh: Mesh): T {
  return shard(batch, mesh, mesh.axes[DATA] === undefined ? [] : [DATA]);
}

/**
 * Where devices share nothing but a batch: asks that `x`, whose rows are the batch's tokens, stay cut by
 * rows. Parameters then come together where they are used, in place of activations, which the partitioner
 * may otherwise cut along attention heads and back.
 */
export function keepRows<T extends tf.Tensor>(x: T): T {
  const mesh = tracedMesh();
  if (mesh === undefined || Object.keys(mesh.axes).join() !== DATA) return x;
  return x.shape[0]! % mesh.size === 0 ? shardBatch(x, mesh) : x;
}
