import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { SafetensorsFile, SafetensorsFolder } from "./safetensors.ts";
import { writeSafetensors } from "./safetensors_write.ts";
import { UserError } from "../errors.ts";

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "safetensors-"));
  try {
    await run(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const values = Float32Array.of(1, -2.5, 3e-5, 4, 5.25, 65504);

async function writeGood(path: string): Promise<void> {
  await writeSafetensors(
    path,
    new Map([
      ["a.weight", { shape: [2, 3], dtype: "F32", data: () => values }],
      ["b", { shape: [6], dtype: "BF16", data: () => values }],
      ["c", { shape: [3, 2], dtype: "F16", data: () => Promise.resolve(values) }],
      ["ids", { shape: [2], dtype: "I64", data: () => BigInt64Array.of(-3n, 7n) }],
      ["empty", { shape: [0, 4], dtype: "F32", data: () => new Float32Array(0) }],
      ["scalar", { shape: [], dtype: "F32", data: () => Float32Array.of(9) }],
    ]),
    { format: "pt", note: "ünicode" },
  );
}

/** A file with this header and so many data bytes. */
function build(header: unknown, dataBytes: number): Uint8Array {
  const json = new TextEncoder().encode(
    typeof header === "string" ? header : JSON.stringify(header),
  );
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

Deno.test("tensors of every written type come back, with shapes and metadata", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "x.safetensors");
    await writeGood(path);
    await using file = await SafetensorsFile.open(path);
    assert.deepEqual(await file.float32("a.weight"), values);
    assert.deepEqual(
      await file.float32("c"),
      values.map((v) => v === 65504 ? v : Math.f16round(v)),
    );
    assert.equal((await file.float32("b"))[1], -2.5);
    assert.deepEqual(await file.integers("ids"), [-3, 7]);
    assert.equal((await file.float32("empty")).length, 0);
    assert.deepEqual(Array.from(await file.float32("scalar")), [9]);
    assert.deepEqual(file.entries.get("a.weight")!.shape, [2, 3]);
    assert.deepEqual(file.metadata, { format: "pt", note: "ünicode" });
    await assert.rejects(file.float32("ids"), /tensor 'ids' is I64, expected a float type/);
    await assert.rejects(file.float32("nothing"), /has no tensor 'nothing'/);
  });
});

Deno.test("a write that fails leaves the old file and no temporary one", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "x.safetensors");
    await writeGood(path);
    const before = readFileSync(path);
    const failing = new Map([
      ["a", { shape: [1], dtype: "F32" as const, data: () => Promise.reject(new Error("gone")) }],
    ]);
    await assert.rejects(writeSafetensors(path, failing), /cannot write .*gone/);
    assert.deepEqual(readFileSync(path), before);
    assert.deepEqual(readdirSync(folder), ["x.safetensors"]);
  });
});

Deno.test("a file that is not true is refused with the tensor, what was found and expected", async () => {
  const f32 = (shape: unknown, begin: number, end: number) => ({
    dtype: "F32",
    shape,
    data_offsets: [begin, end],
  });
  const huge = build({}, 0);
  new DataView(huge.buffer).setBigUint64(0, 2n ** 62n, true);
  const cases: [Uint8Array, RegExp][] = [
    [new Uint8Array(3), /has 3 bytes, at least 10 expected/],
    [huge, /header claims 4611686018427\d+ bytes, expected at most/],
    [build("not json", 0), /the header is not JSON/],
    [build("[1]", 0), /the header must be a JSON object/],
    [build({ a: f32([2], 0, 4) }, 4), /'a' has offsets \[0, 4\], expected 8 bytes for F32 \[2\]/],
    [build({ a: f32([1], 0, 4) }, 0), /'a' has data up to byte \d+, expected a file longer/],
    [build({ a: f32([1], 0, 4) }, 8), /has \d+ bytes, its tensors end at/],
    [build({ a: f32([1], 0, 4), b: f32([1], 0, 4) }, 8), /'b' starts at .* overlaps/],
    [build({ a: f32([1], 4, 8) }, 8), /'a' starts at byte .* there is a hole/],
    [
      build({ a: { dtype: "F31", shape: [], data_offsets: [0, 4] } }, 4),
      /dtype F31, expected one of/,
    ],
    [build({ a: f32([-1], 0, 4) }, 4), /'a' has a bad entry/],
    [build({ a: f32([2 ** 40, 2 ** 40], 0, 4) }, 4), /'a' has offsets \[0, 4\]/],
    [build({ a: { dtype: "F32" } }, 4), /'a' has a bad entry/],
    [build({ __metadata__: { a: 1 } }, 0), /__metadata__ must map strings to strings/],
  ];
  await inFolder(async (folder) => {
    for (const [bytes, pattern] of cases) {
      const path = join(folder, "bad.safetensors");
      writeFileSync(path, bytes);
      await assert.rejects(SafetensorsFile.open(path), (error: Error) => {
        assert.ok(error instanceof UserError, String(error));
        assert.match(error.message, pattern);
        assert.ok(error.message.includes(path));
        return true;
      });
    }
  });
});

Deno.test("a good file with any bytes changed or cut off opens or is refused, never crashes", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "x.safetensors");
    await writeGood(path);
    const good = readFileSync(path);
    const change = fc.array(
      fc.record({ at: fc.integer({ min: 0, max: 600 }), byte: fc.integer({ min: 0, max: 255 }) }),
      { minLength: 1, maxLength: 4 },
    );
    const length = fc.option(fc.integer({ min: 0, max: good.length }), { freq: 3 });
    await fc.assert(
      fc.asyncProperty(change, length, async (changes, cut) => {
        const bytes = Uint8Array.from(cut === null ? good : good.subarray(0, cut));
        for (const { at, byte } of changes) if (at < bytes.length) bytes[at] = byte;
        writeFileSync(path, bytes);
        try {
          await using file = await SafetensorsFile.open(path);
          for (const entry of file.entries.values()) {
            const read = await file.bytes(entry.name);
            assert.equal(read.length, entry.end - entry.begin);
            assert.ok(read.length <= bytes.length);
          }
        } catch (error) {
          if (!(error instanceof UserError)) throw error;
        }
      }),
      { numRuns: 1500, seed: 1 },
    );
  });
});

Deno.test("an index is held to its shards and cannot point outside the folder", async () => {
  await inFolder(async (folder) => {
    await writeGood(join(folder, "one.safetensors"));
    const index = (map: unknown) =>
      writeFileSync(
        join(folder, "model.safetensors.index.json"),
        JSON.stringify({ metadata: {}, weight_map: map }),
      );
    index({ "a.weight": "one.safetensors", b: "one.safetensors" });
    {
      await using source = await SafetensorsFolder.open(folder);
      assert.deepEqual(source.names(), ["a.weight", "b"]);
      assert.deepEqual(await source.float32("a.weight"), values);
    }
    index({ z: "one.safetensors" });
    await assert.rejects(SafetensorsFolder.open(folder), /expects tensor 'z' in one.safetensors/);
    index({ a: "../one.safetensors" });
    await assert.rejects(SafetensorsFolder.open(folder), /'a' points outside the folder/);
    index({ a: "two.safetensors" });
    await assert.rejects(SafetensorsFolder.open(folder), /cannot open .*two.safetensors/);
    index(3);
    await assert.rejects(SafetensorsFolder.open(folder), /must have a weight_map/);
    rmSync(join(folder, "model.safetensors.index.json"));
    await assert.rejects(SafetensorsFolder.open(folder), /holds neither model.safetensors nor/);
  });
});
