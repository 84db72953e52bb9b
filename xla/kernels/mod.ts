/** Importing this module fills `lowerings` with every tfjs kernel that compiles to XLA. */
import "./binary.ts";
import "./conv.ts";
import "./creation.ts";
import "./image.ts";
import "./indexing.ts";
import "./matmul.ts";
import "./pool.ts";
import "./reduce.ts";
import "./shape.ts";
import "./signal.ts";
import "./unary.ts";

export {
  type KernelAttrs,
  type KernelInputs,
  type Lowering,
  lowerings,
  Unsupported,
} from "./registry.ts";
