import assert from "node:assert/strict";
import { z } from "zod";
import { UserError } from "../errors.ts";
import { artifactKind, defineStage, defineWorkflow } from "../pipeline/mod.ts";
import { type DispatchRequest, planDispatch } from "./dispatch.ts";

const note = artifactKind("note", 1);
const write = defineStage({
  name: "write",
  version: 1,
  params: z.object({ rate: z.number().default(1) }),
  inputs: { before: { optional: note } },
  outputs: { note },
  run: () => Promise.resolve(),
});

const workflows = ["demo", "large"].map((name) =>
  defineWorkflow({
    name,
    description: "stages one after the other",
    params: z.object({
      iterations: z.int().min(1).default(1),
      rate: z.number().default(1),
      path: z.string().default("x"),
    }),
    build(w, { iterations, rate }) {
      let before = w.stage("first", write, { params: { rate } });
      for (let i = 1; i <= iterations; i++) {
        before = w.stage(`write-${i}`, write, {
          params: { rate },
          inputs: { before: before.outputs.note },
        });
      }
    },
  })
);

const request: DispatchRequest = { workflow: "demo", sets: "", iterations: "", gpuRunner: "" };
const plan = (change: Partial<DispatchRequest>) =>
  planDispatch(workflows, { ...request, ...change });

Deno.test("a good request becomes arguments, stages in order, and a runner", () => {
  assert.deepEqual(plan({ sets: " rate=0.5\n path=a/b-1,c ", iterations: "3" }), {
    workflow: "demo",
    arguments: ["--set", "rate=0.5", "--set", "path=a/b-1,c", "--set", "iterations=3"],
    stages: ["first", "write-1", "write-2", "write-3"],
    runner: "ubuntu-24.04",
  });
  assert.equal(plan({ workflow: "large", gpuRunner: "a100" }).runner, "a100");
});

Deno.test("what could mean something to a shell is refused", () => {
  for (
    const word of ["rate=$(id)", "rate=`id`", "rate=1;id", "rate=*", 'rate="1"', "--out=x", "rate"]
  ) {
    assert.throws(() => plan({ sets: word }), (error) => {
      assert.ok(error instanceof UserError && error.exitCode === 2);
      assert.match(error.message, /is not path=value/);
      return true;
    });
  }
  for (const iterations of ["0", "-1", "1.5", "101", "1 --out x", "two"]) {
    assert.throws(() => plan({ iterations }), /not a whole number from 1 to 100/);
  }
});

Deno.test("unknown workflows and parameters get the nearest right name; GPUs are asked for", () => {
  assert.throws(() => plan({ workflow: "dmo" }), /did you mean 'demo'/);
  assert.throws(() => plan({ sets: "rat=1" }), /did you mean 'rate'/);
  assert.throws(() => plan({ sets: "rate=fast" }), /rate/);
  assert.throws(() => plan({ workflow: "large" }), /OREO_GPU_RUNNER/);
});
