/**
 * Tensors: TensorFlow.js's API and autodiff, compiled by XLA. This room offers tfjs itself (`tf`), the
 * choice of backend, `jit`, loops on the device, slices at traced positions, bfloat16 compute and
 * stateless random numbers. It knows nothing of models.
 */
export { tf } from "./tf.ts";
export { type BackendInfo, checkBackend, prepareBackend, useBackend } from "./use_backend.ts";
export { jit, type JitOptions } from "./compile.ts";
export { scan, whileLoop } from "./control.ts";
export { asType, checkpoint, dynamicSlice, dynamicUpdateSlice, stopGradient } from "./ops.ts";
export { leavesOf, type Mapped, mapTree, toHost, type Tree } from "./tree.ts";
export * as random from "./random.ts";
