/**
 * OREO on any task that can be graded: one that comes with the project, JSON lines with a grader's name
 * (`verifiable`), or a TypeScript file of the user's.
 */
import { z } from "zod";
import { defineWorkflow } from "../pipeline/mod.ts";
import { UserError } from "../errors.ts";
import { withDefaultsByCase } from "./defaults.ts";
import { buildIterations, fromCheckpoint, iterationParams } from "./oreo.ts";

const schema = iterationParams({}).extend({
  task: z.object({
    name: z.string().optional().describe("a task's name, or the path of a TypeScript file"),
    params: z.record(z.string(), z.json()).default({}).describe("the task's own parameters"),
  }).prefault({}),
});

const params = withDefaultsByCase(
  schema,
  { checkpoint: fromCheckpoint, fromScratch: { chat: false } },
  ({ model }) => model.path === undefined ? "fromScratch" : "checkpoint",
);

export const own = defineWorkflow({
  name: "own",
  description:
    "OREO on a task of yours: --set task.name=FILE.ts or task.name=verifiable (docs/tasks.md)",
  params,
  build(w, { task, ...params }) {
    if (task.name === undefined) {
      throw new UserError(
        "workflow 'own' needs a task: --set task.name=FILE.ts, or task.name=verifiable or task.name=math " +
          "with data.path=FOLDER",
        { exitCode: 2 },
      );
    }
    buildIterations(w, "own", { name: task.name, params: task.params }, params);
  },
});
