/**
 * The objectives, each a pure function of per-token arrays with its equation in its docstring: OREO at
 * three levels, DQO, the KL regulariser, SFT, rejection sampling, DPO, KTO.
 */
export * from "./kl.ts";
export * from "./likelihood.ts";
export * from "./oreo.ts";
export * from "./preference.ts";
export * from "./tokens.ts";
