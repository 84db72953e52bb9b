/** `hlo`: programs in StableHLO, written by a typed builder. It knows neither tfjs nor PJRT. */
export { Builder } from "./builder.ts";
export type {
  ConvolutionOptions,
  DotDimensions,
  Padding,
  Reducer,
  WindowOptions,
} from "./builder.ts";
export type { Attributes, ConstantData } from "./emitter.ts";
export type { GatherDimensions, ScatterDimensions } from "./movement.ts";
export type { BinaryOp, ChloUnaryOp, Comparison, UnaryOp } from "./pointwise.ts";
export * from "./types.ts";
