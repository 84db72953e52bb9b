import assert from "node:assert/strict";
import { dirname } from "node:path";
import { readFileSync } from "node:fs";
import { sharedFiles } from "../../tests/shared.ts";
import { gsm8k, readGsm8k } from "./mod.ts";

const [published] = sharedFiles("data", /^gsm8k_(?:train|test)\.jsonl\.gz$/, { optional: true });
const [texts] = sharedFiles("oracles/math", /^texts\.jsonl$/);

Deno.test({
  name: "the published GSM8K is read in full and every answer is graded equal to itself",
  ignore: published === undefined,
  fn: async () => {
    const folder = dirname(published!);
    for (const [kind, count] of [["train", 7473], ["test", 1319]] as const) {
      const items = await readGsm8k(folder, kind);
      assert.equal(items.length, count);
      for (const { query, solution } of items) {
        assert.equal((await gsm8k.grade(query, solution)).correct, true, query.id);
      }
    }
  },
});

Deno.test({
  name: "no two different answers of the published GSM8K are graded equal",
  ignore: published === undefined,
  fn: async () => {
    const items = await readGsm8k(dirname(published!), "test");
    for (const [index, { solution }] of items.entries()) {
      const other = items[(index + 1) % items.length]!;
      const same = items[index]!.query.gold === other.query.gold;
      assert.equal((await gsm8k.grade(other.query, solution)).correct, same, other.query.id);
    }
  },
});

Deno.test({
  name: "completions that mark their answer with #### are graded as constructed",
  ignore: texts === undefined,
  fn: async () => {
    let graded = 0;
    for (const line of readFileSync(texts!, "utf8").trim().split("\n")) {
      const { id, dataset, gold, prediction, expected } = JSON.parse(line);
      if (dataset !== "GSM8K" || expected === null || !prediction.includes("####")) continue;
      const query = { id, question: "", gold };
      assert.equal(
        (await gsm8k.grade(query, prediction)).correct,
        expected,
        `${id}: ${prediction}`,
      );
      graded++;
    }
    assert.ok(graded > 0, "no such completion in the file");
    console.log(`${graded} completions graded`);
  },
});
