import assert from "node:assert/strict";
import { z } from "zod";
import { UserError } from "../errors.ts";
import { byHand, describeInterface, inputPaths, keepApart, requirePaths } from "./by_hand.ts";
import { toText } from "./graph.ts";
import { importedFiles } from "./import.ts";
import { artifactKind, defineStage, list, optional } from "./stage.ts";
import { buildGraph } from "./workflow.ts";

const model = artifactKind("model", 1);
const lines = artifactKind("lines", 1, "lines.jsonl");

const fit = defineStage({
  name: "fit",
  version: 1,
  params: z.object({ rate: z.number().default(0.5) }),
  inputs: { policy: model, value: optional(model), data: list(lines) },
  outputs: { policy: model, log: lines },
  run: () => Promise.resolve(),
});

const refuses = (body: () => unknown, message: RegExp) =>
  assert.throws(body, (error) => {
    assert.ok(error instanceof UserError, String(error));
    assert.equal(error.exitCode, 2);
    assert.match(error.message, message);
    return true;
  });

Deno.test("a stage by hand is a workflow of it alone, on what its user gives", () => {
  const inputs = { policy: "m", data: ["a", "b.jsonl"] };
  const graph = buildGraph(byHand(fit), { rate: 2, inputs }, 7);
  assert.equal(
    toText(graph),
    "inputs.policy   m\ninputs.data[0]  a\ninputs.data[1]  b.jsonl\n" +
      "fit             policy <- inputs.policy.content, " +
      "data <- [inputs.data[0].content, inputs.data[1].content]\n",
  );
  const node = graph.nodes.at(-1)!;
  assert.deepEqual(node.params, { rate: 2 });
  assert.equal(node.seed, 7, "the run's seed is the stage's");
  assert.deepEqual([...graph.outputs.keys()], ["policy", "log"]);
  const filled = buildGraph(byHand(fit), graph.params, 7);
  assert.deepEqual(
    filled.params,
    graph.params,
    "it can be built again from what the journal keeps",
  );
});

Deno.test("paths come as NAME=PATH, over those of a file; a list takes several", () => {
  const given = inputPaths(fit, { policy: "old", value: "v" }, [
    "policy=new=1",
    "data=a",
    "data=b",
  ]);
  assert.deepEqual(given, { policy: "new=1", value: "v", data: ["a", "b"] });
  refuses(
    () => inputPaths(fit, {}, ["polcy=m"]),
    /input of stage 'fit' 'polcy': did you mean 'policy'/,
  );
  refuses(() => inputPaths(fit, {}, ["policy"]), /--input policy: expected NAME=PATH/);
  refuses(() => inputPaths(fit, {}, ["policy="]), /expected NAME=PATH/);
  refuses(() => inputPaths(fit, "m", []), /expected names with paths, got "m"/);
  refuses(
    () => inputPaths(fit, {}, ["policy=a", "policy=b"]),
    /takes one 'policy', and a was given/,
  );
});

Deno.test("every input that is missing is named at once", () => {
  requirePaths(fit, { policy: "m", data: [] });
  refuses(
    () => requirePaths(fit, {}),
    /'policy' \(model\): give its file or folder with --input policy=PATH\n.*'data' \(lines\)/,
  );
});

Deno.test("results never come where an input is, nor an input where results come", () => {
  keepApart(fit, { policy: "out/other", data: ["out2"] }, "out");
  keepApart(fit, { policy: "out/policy2", data: ["..policy"] }, "out");
  refuses(
    () => keepApart(fit, { policy: "out/policy" }, "./out"),
    /the input 'policy' \(out\/policy\)/,
  );
  refuses(() => keepApart(fit, { data: ["a", "out/log/x.jsonl"] }, "out"), /choose another folder/);
  refuses(() => keepApart(fit, { policy: "." }, "out"), /output 'policy' would be written to out/);
});

Deno.test("a file is taken in by the name that its kind is read by; a folder must have it", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const mine = `${folder}/mine.txt`;
    await Deno.writeTextFile(mine, "{}\n");
    assert.deepEqual([...await importedFiles("data", lines, mine)], [["lines.jsonl", mine]]);
    assert.deepEqual([...await importedFiles("policy", model, mine)], [["mine.txt", mine]]);
    await assert.rejects(
      importedFiles("data", lines, folder),
      /there is no lines\.jsonl in the folder/,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a stage's inputs and outputs fit a line", () => {
  assert.equal(describeInterface(fit), "fit: policy, [value], data... -> policy, log");
});
