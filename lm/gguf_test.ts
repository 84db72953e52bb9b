import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { GgufFile } from "./gguf.ts";
import { formats } from "./gguf_formats.ts";
import { ggufConfig } from "./gguf_metadata.ts";
import { ggufTokenizer } from "./gguf_tokenizer.ts";
import { UserError } from "../errors.ts";

/** Writes GGUF version 3: metadata of texts, uint32, float32 and lists of the first and last; tensors as given. */
function build(
  metadata: Record<string, string | number | string[] | { float: number } | { floats: number[] }>,
  tensors: { name: string; dims: number[]; type: number; data: Uint8Array }[],
): Uint8Array {
  const parts: Uint8Array[] = [];
  const bytes = (size: number, fill: (view: DataView) => void) => {
    const view = new DataView(new ArrayBuffer(size));
    fill(view);
    parts.push(new Uint8Array(view.buffer));
  };
  const u32 = (x: number) => bytes(4, (v) => v.setUint32(0, x, true));
  const u64 = (x: number) => bytes(8, (v) => v.setBigUint64(0, BigInt(x), true));
  const text = (x: string) => {
    const encoded = new TextEncoder().encode(x);
    u64(encoded.length);
    parts.push(encoded);
  };
  parts.push(new TextEncoder().encode("GGUF"));
  u32(3);
  u64(tensors.length);
  u64(Object.keys(metadata).length);
  for (const [key, value] of Object.entries(metadata)) {
    text(key);
    if (typeof value === "string") {
      u32(8);
      text(value);
    } else if (typeof value === "number") {
      u32(4);
      u32(value);
    } else if (Array.isArray(value)) {
      u32(9);
      u32(8);
      u64(value.length);
      value.forEach(text);
    } else if ("floats" in value) {
      u32(9);
      u32(6);
      u64(value.floats.length);
      for (const x of value.floats) bytes(4, (v) => v.setFloat32(0, x, true));
    } else {
      u32(6);
      bytes(4, (v) => v.setFloat32(0, value.float, true));
    }
  }
  let offset = 0;
  for (const { name, dims, type, data } of tensors) {
    text(name);
    u32(dims.length);
    dims.forEach(u64);
    u32(type);
    u64(offset);
    offset += Math.ceil(data.length / 32) * 32;
  }
  const header = parts.reduce((size, part) => size + part.length, 0);
  parts.push(new Uint8Array(Math.ceil(header / 32) * 32 - header));
  for (const { data } of tensors) {
    parts.push(data, new Uint8Array(Math.ceil(data.length / 32) * 32 - data.length));
  }
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

async function withFile(bytes: Uint8Array, run: (path: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "gguf-"));
  try {
    const path = join(folder, "x.gguf");
    writeFileSync(path, bytes);
    await run(path);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const floats = (...x: number[]) => new Uint8Array(Float32Array.from(x).buffer);

const small = {
  "general.architecture": "llama",
  "llama.block_count": 1,
  "llama.context_length": 32,
  "llama.embedding_length": 4,
  "llama.feed_forward_length": 4,
  "llama.attention.head_count": 1,
  "llama.attention.layer_norm_rms_epsilon": { float: 1e-5 },
};

Deno.test("tensors have their rows outermost and metadata its types", async () => {
  const bytes = build({ name: "ünicode", count: 7, words: ["a", ""] }, [
    { name: "m", dims: [3, 2], type: 0, data: floats(1, 2, 3, 4, 5, 6) },
    { name: "h", dims: [2], type: 1, data: new Uint8Array(Uint16Array.of(0x3c00, 0xc000).buffer) },
  ]);
  await withFile(bytes, async (path) => {
    await using gguf = await GgufFile.open(path);
    assert.deepEqual(gguf.shape("m"), [2, 3]);
    assert.deepEqual(Array.from(await gguf.float32("m")), [1, 2, 3, 4, 5, 6]);
    assert.deepEqual(Array.from(await gguf.float32("h")), [1, -2]);
    assert.deepEqual([...gguf.metadata.values()], ["ünicode", 7, ["a", ""]]);
  });
});

/** One block of a format, packed from chosen integers by the layout's definition. */
function decodeBlock(type: number, block: number[]): number[] {
  const format = formats.get(type)!;
  assert.equal(block.length, format.blockBytes);
  const out = new Float32Array(format.blockElements);
  format.decode(Uint8Array.from(block), out);
  return Array.from(out);
}

const half = { two: [0x00, 0x40], one: [0x00, 0x3c], minusHalf: [0x00, 0xb8] };
const range = (n: number) => Array.from({ length: n }, (_, i) => i);

Deno.test("Q8_0, Q4_0 and Q4_1 blocks unpack to scale times integer plus offset", () => {
  const signed = range(32).map((i) => i * 8 - 128);
  assert.deepEqual(
    decodeBlock(8, [...half.two, ...signed.map((x) => x & 255)]),
    signed.map((x) => 2 * x),
  );
  const nibbles = range(32).map((i) => (i * 5) % 16);
  const packed = range(16).map((i) => nibbles[i]! | (nibbles[i + 16]! << 4));
  assert.deepEqual(decodeBlock(2, [...half.two, ...packed]), nibbles.map((x) => 2 * (x - 8)));
  assert.deepEqual(
    decodeBlock(3, [...half.two, ...half.minusHalf, ...packed]),
    nibbles.map((x) => 2 * x - 0.5),
  );
});

Deno.test("Q4_K unpacks 6-bit scales and minima of eight groups", () => {
  const scales = [1, 63, 17, 40, 33, 2, 62, 21];
  const minima = [0, 5, 60, 33, 1, 50, 16, 63];
  const quants = range(256).map((i) => (i * 7 + (i >> 5)) % 16);
  const low = range(4).map((j) => scales[j]! | ((scales[j + 4]! >> 4) << 6));
  const middle = range(4).map((j) => minima[j]! | ((minima[j + 4]! >> 4) << 6));
  const high = range(4).map((j) => (scales[j + 4]! & 15) | ((minima[j + 4]! & 15) << 4));
  const bytes = range(128).map((i) => {
    const at = (i >> 5) * 64 + (i & 31);
    return quants[at]! | (quants[at + 32]! << 4);
  });
  const got = decodeBlock(12, [...half.two, ...half.one, ...low, ...middle, ...high, ...bytes]);
  assert.deepEqual(got, quants.map((q, i) => 2 * scales[i >> 5]! * q - minima[i >> 5]!));
});

Deno.test("Q6_K unpacks 6-bit values with signed scales of sixteen", () => {
  const scales = range(16).map((i) => i * 16 - 128);
  const quants = range(256).map((i) => (i * 11 + (i >> 4)) % 64);
  const low = range(128).map((i) => {
    const [part, j] = [i >> 6, i & 63];
    return (quants[part * 128 + j]! & 15) | ((quants[part * 128 + 64 + j]! & 15) << 4);
  });
  const high = range(64).map((i) => {
    const [part, j] = [i >> 5, i & 31];
    return range(4).reduce(
      (bits, q) => bits | ((quants[part * 128 + q * 32 + j]! >> 4) << (2 * q)),
      0,
    );
  });
  const got = decodeBlock(14, [...low, ...high, ...scales.map((s) => s & 255), ...half.two]);
  assert.deepEqual(got, quants.map((q, i) => 2 * scales[i >> 4]! * (q - 32)));
});

Deno.test("Llama's query rows are put back into Hugging Face order", async () => {
  const rows = [[0], [1], [2], [3]].flatMap(([row]) => Array(4).fill(row));
  const bytes = build(small, [
    { name: "token_embd.weight", dims: [4, 3], type: 0, data: floats(...range(12)) },
    { name: "blk.0.attn_q.weight", dims: [4, 4], type: 0, data: floats(...rows) },
  ]);
  await withFile(bytes, async (path) => {
    await using gguf = await GgufFile.open(path);
    const config = ggufConfig(gguf);
    assert.equal(config.vocabSize, 3);
    assert.ok(config.tieWordEmbeddings);
    const source = gguf.asHuggingFace(config);
    const query = await source.float32("model.layers.0.self_attn.q_proj.weight");
    assert.deepEqual(range(4).map((i) => query[i * 4]), [0, 2, 1, 3]);
  });
});

Deno.test("a tokenizer that cannot be rebuilt is refused by name, none gives none", async () => {
  await withFile(build(small, []), async (path) => {
    await using gguf = await GgufFile.open(path);
    assert.equal(ggufTokenizer(gguf), undefined);
  });
  const other = { "tokenizer.ggml.model": "bert", "tokenizer.ggml.tokens": ["a"] };
  await withFile(build({ ...small, ...other }, []), async (path) => {
    await using gguf = await GgufFile.open(path);
    assert.throws(() => ggufTokenizer(gguf), /tokenizer 'bert' .* tokenizer.json beside the file/);
  });
});

Deno.test("SentencePiece's tokens are merged by their scores, other characters are bytes", async () => {
  const tokens = ["<s>", "\u2581", "a", "b", "ab", "ba", "\u2581ab", "<0xC3>", "<0x9F>"];
  const metadata = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.scores": { floats: [0, -9, -9, -9, -3, -2, -1, 0, 0] },
    "tokenizer.ggml.bos_token_id": 0,
  };
  await withFile(build(metadata, []), async (path) => {
    await using gguf = await GgufFile.open(path);
    const tokenizer = ggufTokenizer(gguf)!;
    assert.deepEqual(tokenizer.encode("ab"), [6]);
    assert.deepEqual(tokenizer.encode("abab"), [1, 2, 5, 3]);
    assert.deepEqual(tokenizer.encode("ab ß", { addSpecialTokens: true }), [0, 6, 1, 7, 8]);
    assert.equal(tokenizer.decode([6, 1, 7, 8]), "ab ß");
  });
  const { "tokenizer.ggml.scores": _, ...noScores } = metadata;
  await withFile(build(noScores, []), async (path) => {
    await using gguf = await GgufFile.open(path);
    assert.throws(() => ggufTokenizer(gguf), /tokenizer.ggml.scores must hold a number for each/);
  });
});

Deno.test("metadata that changes the result is read or refused by name", async () => {
  const opened = async (metadata: Parameters<typeof build>[0], use: (gguf: GgufFile) => void) =>
    await withFile(build(metadata, []), async (path) => {
      await using gguf = await GgufFile.open(path);
      use(gguf);
    });
  const refused = (change: Record<string, number | { float: number }>, message: RegExp) =>
    opened({ ...small, "llama.vocab_size": 9, ...change }, (gguf) => {
      assert.throws(() => ggufConfig(gguf), (error) => {
        assert.ok(error instanceof UserError && error.message.startsWith(gguf.path));
        assert.match(error.message, message);
        return true;
      });
    });
  await refused({ "llama.rope.dimension_count": 2 }, /'llama.rope.dimension_count' = 2 is not/);
  await refused({ "llama.attention.value_length": 8 }, /'llama.attention.value_length' = 8/);
  await refused({ "llama.logit_scale": { float: 8 } }, /'llama.logit_scale' = 8/);
  await refused({ "llama.expert_count": 8 }, /'llama.expert_count' = 8/);
  await refused({ "llama.new_kind_of_scale": 3 }, /'llama.new_kind_of_scale' = 3/);
  const { "llama.attention.layer_norm_rms_epsilon": _, ...noEpsilon } = small;
  await opened({ ...noEpsilon, "llama.vocab_size": 9 }, (gguf) => {
    assert.throws(() => ggufConfig(gguf), /layer_norm_rms_epsilon' is missing/);
  });
  const neutral = {
    "llama.expert_count": 0,
    "llama.rope.dimension_count": 4,
    "llama.vocab_size": 9,
  };
  await opened({ ...small, ...neutral, "llama.rope.scaling.factor": { float: 4 } }, (gguf) => {
    assert.deepEqual(ggufConfig(gguf).rope, { theta: 10000, type: "linear", factor: 4 });
  });
});

Deno.test("MiniCPM's three scales come from the metadata and may not be missing", async () => {
  const fields = Object.fromEntries(
    Object.entries({ ...small, "llama.vocab_size": 9 })
      .map(([key, value]) => [key.replace(/^llama/, "minicpm"), value]),
  );
  const minicpm = { ...fields, "general.architecture": "minicpm" };
  const scales = {
    "minicpm.embedding_scale": { float: 12 },
    "minicpm.residual_scale": { float: 1.5 },
    "minicpm.logit_scale": { float: 2 },
  };
  await withFile(build({ ...minicpm, ...scales }, []), async (path) => {
    await using gguf = await GgufFile.open(path);
    const { embeddingScale, residualScale, logitScale } = ggufConfig(gguf);
    assert.deepEqual([embeddingScale, residualScale, logitScale], [12, 1.5, 0.5]);
  });
  await withFile(build(minicpm, []), async (path) => {
    await using gguf = await GgufFile.open(path);
    assert.throws(() => ggufConfig(gguf), /'minicpm.embedding_scale' is missing/);
  });
});

Deno.test("Llama 3's begin token is put before a text, as llama.cpp and its own tokenizer do", async () => {
  const tokenizer = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "llama-bpe",
    "tokenizer.ggml.tokens": ["a", "b", "ab", "<begin>"],
    "tokenizer.ggml.merges": ["a b"],
  };
  await withFile(build({ ...tokenizer, "tokenizer.ggml.bos_token_id": 3 }, []), async (path) => {
    await using gguf = await GgufFile.open(path);
    const rebuilt = ggufTokenizer(gguf)!;
    assert.deepEqual(rebuilt.encode("abba", { addSpecialTokens: true }), [3, 2, 1, 0]);
    assert.deepEqual(rebuilt.encode("abba"), [2, 1, 0]);
  });
  await withFile(build(tokenizer, []), async (path) => {
    await using gguf = await GgufFile.open(path);
    assert.throws(() => ggufTokenizer(gguf), /bos_token_id names no token/);
  });
});

Deno.test("a header of more values than a vocabulary has is refused before they are read", async () => {
  const bytes = build({ a: ["b"] }, []);
  const view = new DataView(bytes.buffer);
  const many = new Uint8Array(bytes.length + 2 ** 23);
  // An array of uint8 instead of texts, as many as there are bytes behind.
  const at = 24 + 8 + 1 + 4;
  view.setUint32(at, 0, true);
  view.setBigUint64(at + 4, BigInt(2 ** 23), true);
  many.set(bytes);
  await withFile(many, async (path) => {
    await assert.rejects(GgufFile.open(path), /an array of 8388608 elements .* more than 4194304/);
  });
  view.setBigUint64(8, 2n ** 30n, true);
  await withFile(bytes, async (path) => {
    await assert.rejects(GgufFile.open(path), /1073741824 tensors and 1 fields make more than/);
  });
});

Deno.test("a changed or cut file opens or is refused with its name, never crashes", async () => {
  const good = build({ ...small, words: ["a", "b"] }, [
    { name: "m", dims: [32, 2], type: 2, data: new Uint8Array(36) },
  ]);
  const folder = mkdtempSync(join(tmpdir(), "gguf-"));
  const path = join(folder, "x.gguf");
  const change = fc.array(
    fc.record({ at: fc.nat(good.length - 1), byte: fc.nat(255) }),
    { minLength: 1, maxLength: 3 },
  );
  const length = fc.option(fc.nat(good.length), { freq: 3 });
  try {
    await fc.assert(
      fc.asyncProperty(change, length, async (changes, cut) => {
        const bytes = Uint8Array.from(cut === null ? good : good.subarray(0, cut));
        for (const { at, byte } of changes) if (at < bytes.length) bytes[at] = byte;
        writeFileSync(path, bytes);
        try {
          await using gguf = await GgufFile.open(path);
          for (const name of gguf.names()) await gguf.float32(name);
        } catch (error) {
          if (!(error instanceof UserError)) throw error;
          assert.ok(error.message.includes(path));
        }
      }),
      { numRuns: 1000, seed: 1 },
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});
