/**
 * Tensors: TensorFlow.js's API and autodiff, compiled by XLA. This room offers tfjs itself (`tf`), the
 * choice of backend, `jit`, loops on the device, slices at traced positions, bfloat16 compute and
 * stateless random numbers. It knows nothing of models.
 */
export { tf } from "./tf.ts";
export {
  type BackendInfo,
  checkBackend,
  deviceMemory,
  prepareBackend,
  useBackend,
} from "./use_backend.ts";
export {
  type Examination,
  examinationText,
  examineBackends,
  type Finding,
  requireUsable,
} from "./doctor.ts";
export { type Compiled, jit, type JitOptions } from "./compile.ts";
export { type DeviceMemory, OutOfMemoryError } from "./memory.ts";
export type { MemoryPlan } from "./pjrt/executable.ts";
export type { Mesh, Spec } from "./mesh.ts";
export { scan, whileLoop } from "./control.ts";
export {
  asType,
  checkpoint,
  computeAgain,
  dynamicSlice,
  dynamicUpdateSlice,
  makeMesh,
  matMulPairs,
  matMulRows,
  shard,
  stopGradient,
  tracedMesh,
} from "./ops.ts";
export {
  fromBfloat16,
  type Int8Matrix,
  isBfloat16,
  matMulInt8,
  quantizeRows,
} from "./low_precision.ts";
export { leavesOf, type Mapped, mapTree, toHost, type Tree } from "./tree.ts";
export * as random from "./random.ts";
