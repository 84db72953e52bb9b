/**
 * OREO on GSM8K: from a checkpoint with `model.path`, or a small model from scratch, which on a machine
 * without a GPU will score near zero.
 */
import { UserError } from "../errors.ts";
import { defineWorkflow } from "../pipeline/mod.ts";
import { gsm8k as gsm8kTask } from "../tasks/mod.ts";
import { buildIterations, iterationParams } from "./oreo.ts";

const params = iterationParams({}).extend({
  // The folder comes in as an artifact, so that its content counts.
  task: gsm8kTask.params.omit({ path: true }).prefault({}),
});

export const gsm8k = defineWorkflow({
  name: "gsm8k",
  description: "OREO on GSM8K's published files: --set data.path=FOLDER [--set model.path=FOLDER]",
  params,
  build(w, { task, ...params }) {
    if (params.data.path === undefined) {
      throw new UserError(
        "workflow 'gsm8k' needs the folder with GSM8K's train and test files: --set data.path=FOLDER",
        { exitCode: 2 },
      );
    }
    buildIterations(w, "gsm8k", { name: "gsm8k", params: task }, params);
  },
});
