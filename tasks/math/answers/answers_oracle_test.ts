import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { sharedFiles } from "../../../tests/shared.ts";
import { closeAlgebra, extractAnswer, gradeMath } from "./mod.ts";

const oracles = sharedFiles("oracles/math", /\.jsonl$/);
const published = sharedFiles("data", /^math_(?:train|test)\.jsonl\.gz$/, { optional: true });

interface Case {
  readonly id: string;
  readonly dataset: string;
  readonly gold: string;
  readonly prediction: string;
  readonly expected: boolean | null;
  readonly consensus: "equal" | "not_equal" | "disagree";
  readonly oracle_conflict: boolean;
}

const lines = (text: string) => text.trim().split("\n").map((line) => JSON.parse(line));
const percent = (count: number, of: number) =>
  `${count} of ${of} (${(100 * count / of).toFixed(2)} %)`;

async function verdicts(file: string) {
  const graded: (Case & { correct: boolean })[] = [];
  for (const each of lines(readFileSync(file, "utf8")) as Case[]) {
    const style = each.dataset === "GSM8K" ? "gsm8k" : "math";
    graded.push({ ...each, correct: (await gradeMath(each.gold, each.prediction, style)).correct });
  }
  return graded;
}

Deno.test({
  name: "verdicts agree with those of other graders where they are undisputed, and with the truth",
  ignore: oracles.length === 0,
  fn: async () => {
    const graded = (await Promise.all(oracles.map(verdicts))).flat();
    await closeAlgebra();
    const undisputed = graded.filter((each) =>
      each.consensus !== "disagree" && !each.oracle_conflict
    );
    const agreed = undisputed.filter(({ consensus, correct }) =>
      correct === (consensus === "equal")
    );
    const equal = graded.filter(({ expected }) => expected === true);
    const rejected = equal.filter(({ correct }) => !correct);
    const wrong = graded.filter(({ expected }) => expected === false);
    const accepted = wrong.filter(({ correct }) => correct);
    const named = (cases: Case[]) => cases.map(({ id }) => id).join(" ");
    console.log(`agreed on ${percent(agreed.length, undisputed.length)} undisputed cases`);
    console.log(`rejected ${percent(rejected.length, equal.length)} equal: ${named(rejected)}`);
    console.log(`accepted ${percent(accepted.length, wrong.length)} wrong: ${named(accepted)}`);
    assert.ok(undisputed.length > 1000 && equal.length > 1000 && wrong.length > 500);
    assert.ok(agreed.length >= 0.99 * undisputed.length);
    assert.ok(rejected.length <= 0.03 * equal.length);
    assert.ok(accepted.length <= 0.002 * wrong.length);
  },
});

const upstream = oracles.find((file) => file.endsWith("math_verify_tests.jsonl"));

Deno.test({
  name: "Math-Verify's own tests come out as its authors want them",
  ignore: upstream === undefined,
  fn: async () => {
    const graded = await verdicts(upstream!);
    await closeAlgebra();
    const passed = graded.filter(({ expected, correct }) => expected === correct);
    console.log(`${percent(passed.length, graded.length)} of Math-Verify's tests`);
    assert.ok(passed.length >= 0.95 * graded.length);
  },
});

Deno.test({
  name: "every answer of the published MATH is found in its solution and equal to itself",
  ignore: published.length === 0,
  fn: async () => {
    const counts: number[] = [];
    const golds: string[] = [];
    for (const file of published) {
      const rows = lines(gunzipSync(readFileSync(file)).toString()) as {
        answer: string;
        solution: string;
      }[];
      for (const { answer, solution } of rows) {
        const grade = await gradeMath(answer, solution, "math");
        assert.ok(grade.correct, `${answer}: found ${grade.extracted}, ${grade.reason}`);
        assert.equal(extractAnswer(solution, "math")?.answer.trim(), answer.trim());
        golds.push(answer);
      }
      counts.push(rows.length);
    }
    await closeAlgebra();
    assert.deepEqual(counts, [5000, 7500]);
  },
});
