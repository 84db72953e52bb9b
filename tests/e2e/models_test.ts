/**
 * `logprobs` and `generate` as other programs run them, on the golden models of `$SHARED/golden/models`:
 * JSON lines in, JSON lines out, errors that name the line.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { sharedFiles } from "../shared.ts";
import { commandLine, type Ended, told } from "./program.ts";

async function piped(args: readonly string[], lines: readonly unknown[]): Promise<Ended> {
  const [file, ...rest] = commandLine(args);
  const child = new Deno.Command(file!, {
    args: rest,
    env: { NO_COLOR: "1" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const text = lines.map((line) => typeof line === "string" ? line : JSON.stringify(line));
  const writer = child.stdin.getWriter();
  // Where the command ends before it has read everything, that is its answer.
  await writer.write(new TextEncoder().encode(text.join("\n"))).then(
    () => writer.close(),
    () => {},
  );
  return told(await child.output());
}

const answers = ({ code, stdout, stderr }: Ended) => {
  assert.equal(code, 0, stderr);
  return stdout.trim().split("\n").map((line) => JSON.parse(line));
};

const files = sharedFiles("golden/models/qwen2_tied", /^expected\.json$/);
for (const file of files) {
  const expected = JSON.parse(readFileSync(file, "utf8"));
  const model = ["--model", join(dirname(file), "checkpoint")];

  Deno.test("logprobs: a line out for each line in, of tokens 2 to n", async () => {
    const { input_ids, attention_mask, sum_logprob } = expected.right;
    const rows: number[][] = input_ids.map((row: number[], i: number) =>
      row.filter((_, j) => attention_mask[i][j] === 1)
    );
    const lines = [...rows.map((ids, id) => ({ id, input_ids: ids })), "", {
      id: "one",
      input_ids: [3],
    }];
    const got = answers(await piped(["logprobs", ...model], lines));
    assert.deepEqual(got.map((line) => line.id), [...rows.keys(), "one"]);
    for (const [i, row] of rows.entries()) {
      assert.equal(got[i].logprobs.length, row.length - 1);
      const sum = got[i].logprobs.reduce((a: number, b: number) => a + b, 0);
      assert.ok(Math.abs(sum - sum_logprob[i]) < 1e-3);
    }
    assert.deepEqual(got.at(-1).logprobs, []);
  });

  Deno.test("generate: greedy ids of the reference, past the end token where asked", async () => {
    const { prompts, new_tokens, max_new_tokens } = expected.generate;
    const lines = prompts.map((ids: number[], i: number) => ({ id: `p${i}`, input_ids: ids }));
    const args = ["generate", ...model, "--greedy", "--max-new-tokens", String(max_new_tokens)];
    const got = answers(await piped([...args, "--ignore-eos"], lines));
    assert.deepEqual(got.map((line) => line.id), lines.map((line: { id: string }) => line.id));
    assert.deepEqual(got.map((line) => line.output_ids), new_tokens);
    for (const line of got) {
      assert.equal(line.logprobs.length, line.output_ids.length);
      assert.equal(line.text, "");
    }
  });

  Deno.test("generate and logprobs: a line that cannot be used is named", async () => {
    const good = { id: 1, input_ids: [1, 2] };
    const refused = async (command: string, bad: unknown, message: RegExp) => {
      const { code, stderr } = await piped([command, ...model], [good, "", bad]);
      assert.equal(code, 1, stderr);
      assert.match(stderr, message);
      assert.ok(!stderr.includes("    at "), "no stack trace");
    };
    await refused("logprobs", "{", /line 3 of the input is not JSON/);
    await refused("logprobs", { id: 2, input_ids: [1, 99999] }, /line 3 .*token 99999 is not in/);
    await refused("logprobs", { id: 2, input_ids: "x" }, /line 3 of the input: input_ids:/);
    await refused("generate", { id: 2 }, /line 3 .*give one of input_ids, prompt and messages/);
    await refused("generate", { id: 2, prompt: "a" }, /line 3 .*no tokenizer: give input_ids/);
    const none = await piped(["logprobs"], []);
    assert.equal(none.code, 2);
    assert.match(none.stderr, /required option '--model <path>'/);
  });
}
