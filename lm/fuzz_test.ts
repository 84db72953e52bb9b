/**
 * Two thousand malformed files, made from good ones by seeded damage: each is read or refused with a
 * `UserError`, soon and without an allocation beyond what the file's own size allows.
 */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { tf, useBackend } from "../xla/mod.ts";
import { findModel, loadWeights } from "./checkpoint.ts";
import { parameterShapes, parseConfig } from "./config.ts";
import { readJson } from "./json.ts";
import { saveModel } from "./model.ts";
import { SafetensorsFile } from "./safetensors.ts";
import { charTokenizer } from "./small_tokenizers.ts";
import { Tokenizer, type TokenizerFiles } from "./tokenizer.ts";
import { initParams } from "./transformer.ts";
import { sharedCases } from "./test_support.ts";

await useBackend("cpu");

const CASES = 500;
const MOST_MILLISECONDS = 5000;

/** Deterministic numbers in [0, 1) (mulberry32). */
function randomOf(seed: number): () => number {
  return () => {
    seed = seed + 0x6d2b79f5 | 0;
    let t = Math.imul(seed ^ seed >>> 15, 1 | seed);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 2 ** 32;
  };
}

const numbers = ["-1", "0", "1", "2", "1e99", "4294967296", "9007199254740993", "0.5", "999999999"];
const words = [
  "null",
  "true",
  '""',
  "[]",
  "{}",
  '"x"',
  "[[[[[[[[[[",
  "\\u0000",
  "{% for %}",
  "(((((",
];

/** `good` with one to three injuries, most of them in its first part, where headers and fields are. */
function damaged(good: Uint8Array, random: () => number): Uint8Array {
  let bytes = good;
  const at = () => {
    const reach = random() < 0.7 ? Math.min(bytes.length, 2048) : bytes.length;
    return Math.floor(random() * reach);
  };
  const pick = <T>(list: readonly T[]) => list[Math.floor(random() * list.length)]!;
  const spliced = (from: number, to: number, middle: Uint8Array) => {
    const out = new Uint8Array(from + middle.length + bytes.length - to);
    out.set(bytes.subarray(0, from));
    out.set(middle, from);
    out.set(bytes.subarray(to), from + middle.length);
    return out;
  };
  const text = (value: string) => new TextEncoder().encode(value);
  for (let injuries = 1 + Math.floor(random() * 3); injuries > 0; injuries--) {
    const from = at();
    const to = Math.min(bytes.length, from + 1 + Math.floor(random() * 40));
    switch (Math.floor(random() * 7)) {
      case 0: {
        bytes = bytes.slice();
        bytes[from]! ^= 1 << Math.floor(random() * 8);
        break;
      }
      case 1:
        bytes = bytes.slice(0, from);
        break;
      case 2:
        bytes = spliced(from, to, new Uint8Array());
        break;
      case 3:
        bytes = spliced(from, from, bytes.slice(from, to));
        break;
      case 4:
        bytes = spliced(from, from, text(pick(words)));
        break;
      default: {
        // A number, or where there is none near, a word in place of what stands here.
        const near = new TextDecoder("latin1").decode(bytes.subarray(from, from + 400));
        const match = /\d+/.exec(near);
        bytes = match === null
          ? spliced(from, to, text(pick(words)))
          : spliced(from + match.index, from + match.index + match[0].length, text(pick(numbers)));
      }
    }
    if (bytes.length === 0) break;
  }
  return bytes;
}

/** Runs `use` on damaged files; how many were refused. */
async function fuzz(
  good: readonly Uint8Array[],
  seed: number,
  use: (bytes: Uint8Array) => Promise<void> | void,
): Promise<number> {
  let refusals = 0;
  for (let i = 0; i < CASES; i++) {
    const bytes = damaged(good[i % good.length]!, randomOf(seed + i));
    const start = performance.now();
    try {
      await use(bytes);
    } catch (error) {
      assert.ok(
        error instanceof UserError,
        `case ${i}: ${error instanceof Error ? error.stack : error}`,
      );
      refusals++;
    }
    const took = performance.now() - start;
    assert.ok(took < MOST_MILLISECONDS, `case ${i} took ${took} ms`);
  }
  assert.ok(refusals < CASES, "some damage does no harm");
  return refusals;
}

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "oreo-fuzz-"));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const fields = {
  model_type: "llama",
  vocab_size: 13,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  max_position_embeddings: 64,
  rope_parameters: { rope_type: "linear", rope_theta: 10000, factor: 2 },
  tie_word_embeddings: true,
  eos_token_id: [1, 2],
};

/** The largest buffer made while `body` runs, in bytes. */
async function largestBuffer(body: () => Promise<void>): Promise<number> {
  const original = globalThis.Uint8Array;
  let largest = 0;
  globalThis.Uint8Array = new Proxy(original, {
    construct(target, args, newTarget) {
      if (typeof args[0] === "number") largest = Math.max(largest, args[0]);
      return Reflect.construct(target, args, newTarget);
    },
  });
  try {
    await body();
  } finally {
    globalThis.Uint8Array = original;
  }
  return largest;
}

Deno.test("500 malformed safetensors files are read or refused, none with a buffer beyond its size", async () => {
  await inFolder(async (folder) => {
    const config = parseConfig(fields);
    const params = initParams(config, 1);
    const good: Uint8Array[] = [];
    for (const weightType of ["float32", "bfloat16", "float16"] as const) {
      await saveModel(folder, { config, params }, { weightType });
      good.push(new Uint8Array(await readFile(join(folder, "model.safetensors"))));
    }
    tf.dispose(params);
    const path = join(folder, "model.safetensors");
    const refusals = await fuzz(good, 1, async (bytes) => {
      await writeFile(path, bytes);
      let failure: unknown;
      const largest = await largestBuffer(async () => {
        try {
          await using file = await SafetensorsFile.open(path);
          for (const name of file.entries.keys()) await file.bytes(name);
          const loaded = await loadWeights(config, await findModel(folder));
          tf.dispose(loaded);
        } catch (error) {
          failure = error;
        }
      });
      assert.ok(largest <= 2 * bytes.length + 16, `${largest} bytes for a file of ${bytes.length}`);
      if (failure !== undefined) throw failure;
    });
    assert.ok(refusals > CASES / 2, `${refusals} refused`);
  });
});

Deno.test("500 malformed config files are read or refused", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "config.json");
    const texts = [JSON.stringify(fields, null, 2)];
    for (const { folder } of sharedCases("golden/models")) {
      texts.push(readFileSync(join(folder, "checkpoint/config.json"), "utf8"));
    }
    const good = texts.map((text) => new TextEncoder().encode(text));
    const refusals = await fuzz(good, 2, async (bytes) => {
      await writeFile(path, bytes);
      const config = parseConfig(await readJson(path), path);
      assert.ok(parameterShapes(config).size > 0);
    });
    assert.ok(refusals > CASES / 2, `${refusals} refused`);
  });
});

const samples = ["Hello, world!\n  12+34 = 46", "", "déjà vu 你好 🙂 <|im_end|>", "a".repeat(200)];
const names = ["tokenizer.json", "tokenizer_config.json"] as const;

/** Good tokenizers, small enough for hundreds of copies. */
function tokenizers(): TokenizerFiles[] {
  const shared = sharedCases("golden/tokenizers").map(({ folder }) =>
    Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, name), "utf8")]))
  );
  return [charTokenizer("0123456789+-= abc").files, ...shared];
}

Deno.test("500 malformed tokenizer files are read or refused, in loading and in use", async () => {
  const all = tokenizers();
  const good = all.map((files) => new TextEncoder().encode(files["tokenizer.json"]));
  let next = 0;
  const refusals = await fuzz(good, 3, (bytes) => {
    const files = {
      ...all[next++ % all.length]!,
      "tokenizer.json": new TextDecoder().decode(bytes),
    };
    const tokenizer = new Tokenizer(files);
    for (const text of samples) tokenizer.decode(tokenizer.encode(text));
  });
  assert.ok(refusals > CASES / 5, `${refusals} refused`);
});

const chatml = "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}" +
  "{{ '<|im_start|>system\\nYou help.<|im_end|>\\n' }}{% endif %}{{ '<|im_start|>' + " +
  "message['role'] + '\\n' + message['content'] | trim + '<|im_end|>\\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}" +
  "{% for i in range(3) %}{{ i * 2 }}{% endfor %}{% set ns = namespace(n=1) %}{{ ns.n }}";

Deno.test("500 malformed chat templates render or are refused", async () => {
  const base = charTokenizer("ab").files;
  const texts = [chatml];
  for (const files of tokenizers()) {
    const { chat_template: template } = JSON.parse(files["tokenizer_config.json"] ?? "{}");
    if (typeof template === "string") texts.push(template);
  }
  const good = texts.map((text) => new TextEncoder().encode(text));
  const messages = [{ role: "user", content: "Hi" }, { role: "assistant", content: "Hello" }];
  const refusals = await fuzz(good, 4, (bytes) => {
    const source = new TextDecoder().decode(bytes);
    const tokenizer = new Tokenizer({ ...base, "chat_template.jinja": source });
    const text = tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true });
    assert.ok(text.length < 10_000_000);
  });
  assert.ok(refusals > CASES / 5, `${refusals} refused`);
});
