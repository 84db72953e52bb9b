/** Importing this module fills `lowerings` with every tfjs kernel that compiles to XLA. */
export {
  type KernelAttrs,
  type KernelInputs,
  type Lowering,
  lowerings,
  Unsupported,
} from "./registry.ts";
