/**
 * The gsm8k workflow as its users run it, on a made-up set of the published form: from scratch, then
 * from the checkpoint that came out of it, read from gzipped files.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { loadModel } from "../lm/mod.ts";
import { useBackend } from "../xla/mod.ts";
import { inFolder, run } from "./e2e/program.ts";

const names = ["Ann", "Bo", "Cy", "Dot", "Eve", "Flo", "Gus", "Hal"];

/** Sums in the published form; one problem in sixteen is long. */
function rows(count: number, offset: number): string {
  return Array.from({ length: count }, (_, i) => {
    const [a, b] = [(i * 7 + offset) % 9 + 1, (i * 5 + offset) % 8 + 1];
    const tale = i % 16 === 15 ? " It was a long and sunny day in the old town." : "";
    return JSON.stringify({
      question: `${names[i % 8]} has ${a} nuts and ${b} figs.${tale} How many (${i + offset})?`,
      answer: `${a} + ${b} = <<${a}+${b}=${a + b}>>${a + b}\n#### ${a + b}`,
    }) + "\n";
  }).join("");
}

const common = [
  "sft.batchSize=8",
  "sft.microBatch=4",
  "sft.buckets=1",
  "sample.queries=3",
  "sample.perQuery=2",
  "sample.slots=6",
  "sample.maxNewTokens=32",
  "score.batchSize=6",
  "train.batchSize=4",
  "train.microBatch=2",
  "train.buckets=1",
  "train.valueFirst.epochs=1",
  "rejectionSampling.batchSize=4",
  "search.queries=2",
  "search.beams=1,3",
  "search.maxNewTokens=32",
  "search.slots=6",
  "search.shown=1",
  "evaluate.queries=4",
  "evaluate.maxNewTokens=32",
  "evaluate.slots=4",
  "evaluate.draws=0",
];

const fromScratch = [
  "sft.shape.hidden=32",
  "sft.shape.layers=1",
  "sft.shape.heads=2",
  "sft.shape.keyValueHeads=1",
  "sft.shape.feedForward=64",
  // The long problems do not fit with their solutions, and just fit without.
  "sft.shape.maxLength=96",
];

const options = (settings: readonly string[]) => settings.flatMap((text) => ["--set", text]);

const methods = [
  "sft",
  "rejection_sampling",
  "oreo",
  "oreo+beam1",
  "oreo+beam3",
];

async function reported(folder: string): Promise<Set<string>> {
  const report = JSON.parse(await Deno.readTextFile(join(folder, "report.json")));
  assert.equal(report.workflow, "gsm8k");
  for (const { accuracy, low, high, n } of report.methods) {
    assert.ok(0 <= low && low <= accuracy && accuracy <= high && high <= 1 && n > 0);
  }
  return new Set(report.methods.map(({ name }: { name: string }) => name));
}

Deno.test("gsm8k ends in its report from scratch, and again from the checkpoint that it made", () =>
  inFolder(async (folder) => {
    const data = join(folder, "data");
    await Deno.mkdir(data);
    await Deno.writeFile(join(data, "gsm8k_train.jsonl.gz"), gzipSync(rows(64, 0)));
    await Deno.writeTextFile(join(data, "test.jsonl"), rows(16, 1000));
    const gsm8k = ["pipeline", "gsm8k", "--executor", "inline", "--set", "data.path=data"];

    const scratch = await run(
      [...gsm8k, ...options([...common, ...fromScratch]), "--out", "scratch"],
      { cwd: folder },
    );
    assert.equal(scratch.code, 0, scratch.stderr);
    assert.match(scratch.stderr, /[34] of \d+ demonstrations are left out: .* 96 tokens/);
    assert.deepEqual(await reported(join(folder, "scratch")), new Set(methods));

    const again = await run(
      [
        ...gsm8k,
        ...options([...common, "model.path=scratch/policy", "chat=false"]),
        "--out",
        "again",
      ],
      { cwd: folder },
    );
    assert.equal(again.code, 0, again.stderr);
    assert.deepEqual(await reported(join(folder, "again")), new Set(methods));

    // What comes out loads as what went in: the same shape, the same tokenizer.
    await useBackend();
    const [first, second] = [
      await loadModel(join(folder, "scratch", "policy")),
      await loadModel(join(folder, "again", "policy")),
    ];
    assert.equal(second.config.hiddenSize, 32);
    assert.deepEqual(Object.keys(second.params), Object.keys(first.params));
    const text = "Ann has 2 nuts.\n#### 2";
    assert.deepEqual(second.tokenizer!.encode(text), first.tokenizer!.encode(text));
    assert.equal(second.tokenizer!.decode(first.tokenizer!.encode(text)), text);
  }));
