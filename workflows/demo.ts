/**
 * The demo: one OREO iteration on arithmetic problems made on the spot, with a model of under a million
 * parameters trained from scratch. Settings were chosen on the validation split.
 */
import { defineWorkflow } from "../pipeline/mod.ts";
import { arithmetic } from "../tasks/mod.ts";
import { buildIterations, iterationParams } from "./oreo.ts";

const params = iterationParams({}).extend({
  task: arithmetic.params.prefault({}),
});

export const demo = defineWorkflow({
  name: "demo",
  description: "one OREO iteration on generated arithmetic, trained from scratch in minutes",
  params,
  build: (w, { task, ...params }) =>
    buildIterations(w, "demo", { name: "arithmetic", params: task }, params),
});
