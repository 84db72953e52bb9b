import assert from "node:assert/strict";
import { compareResults } from "./compare.ts";
import { type MethodResult, resultName } from "./data.ts";
import { reportJson } from "./json.ts";
import { testReport } from "./testdata.ts";
import { textTable } from "./text.ts";

const result = (
  name: string,
  iteration: number,
  decoding: MethodResult["decoding"],
  correct: number,
  n: number,
  beam?: number,
): MethodResult => ({
  name,
  iteration,
  decoding,
  correct,
  n,
  ...(beam === undefined ? {} : { beam }),
});

const METHODS = [
  result("oreo", 1, "beam", 80, 100, 3),
  result("oreo", 1, "greedy", 75, 100),
  result("sft", 0, "sampled", 40, 100),
  result("sft", 0, "greedy", 50, 100),
  result("oreo", 1, "sampled", 45, 100),
];

Deno.test("a result's name tells its decoding", () => {
  assert.deepEqual(METHODS.map(resultName), [
    "oreo+beam3",
    "oreo",
    "sft+sampled",
    "sft",
    "oreo+sampled",
  ]);
});

Deno.test("report.json has one line a result, in reading order, with its interval", () => {
  const json = reportJson({ ...testReport(), methods: METHODS });
  assert.equal(json.workflow, "demo");
  assert.deepEqual(
    json.methods.map((m) => m.name),
    ["sft", "sft+sampled", "oreo", "oreo+sampled", "oreo+beam3"],
  );
  const { name, iteration, accuracy, low, high, n } = json.methods[0]!;
  assert.deepEqual({ name, iteration, accuracy, n }, {
    name: "sft",
    iteration: 0,
    accuracy: 0.5,
    n: 100,
  });
  assert.ok(Math.abs(low - 0.4038) < 5e-5 && Math.abs(high - 0.5962) < 5e-5);
  assert.deepEqual(JSON.parse(JSON.stringify(json)), json);
});

Deno.test("the terminal's table is aligned and carries no control characters", () => {
  const table = textTable({ methods: [...METHODS, result("\x1b[31mred", 1, "greedy", 1, 2)] });
  const lines = table.split("\n");
  assert.equal(lines.length, 2 + METHODS.length + 1);
  // deno-lint-ignore no-control-regex -- control characters are what is looked for
  assert.doesNotMatch(table, /[\u0000-\u0009\u000b-\u001f]/);
  const end = lines[0]!.indexOf("accuracy") + "accuracy".length;
  for (const line of lines.slice(2)) assert.equal(line.slice(end - 2, end + 1), " % ");
  assert.match(table, /^SFT +0 {2}greedy +50\.0 % +40\.4 - +59\.6 +100$/m);
});

Deno.test("training is compared with SFT under the same decoding, search with greedy", () => {
  const compare = (at: number) => compareResults(METHODS[at]!, METHODS);
  assert.equal(compare(3), undefined, "the baseline itself");
  assert.deepEqual(compare(1), { against: "SFT", difference: 0.25, apart: true });
  assert.equal(compare(0)!.against, "greedy");
  assert.equal(compare(0)!.apart, false);
  assert.ok(Math.abs(compare(4)!.difference - 0.05) < 1e-12);
});

Deno.test("nothing is compared where a counterpart was not evaluated", () => {
  assert.equal(compareResults(METHODS[0]!, [METHODS[0]!]), undefined);
  const none = result("sft", 0, "greedy", 0, 0);
  assert.equal(compareResults(METHODS[1]!, [none, METHODS[1]!]), undefined);
});
