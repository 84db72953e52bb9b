import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { readFile } from "node:fs/promises";
import { crc32c, EventFile, record } from "./tensorboard.ts";

Deno.test("CRC-32C is that of RFC 3720", () => {
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc32c(new Uint8Array(32).fill(255)), 0x62a8ab43);
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
});

Deno.test("a record frames its data by length and two checksums", () => {
  const framed = record(Uint8Array.of(1, 2, 3));
  assert.equal(framed.length, 8 + 4 + 3 + 4);
  assert.deepEqual([...framed.subarray(0, 8)], [3, 0, 0, 0, 0, 0, 0, 0]);
  assert.deepEqual([...framed.subarray(12, 15)], [1, 2, 3]);
});

Deno.test("an event file opens with its version and holds each step's scalars", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const file = new EventFile(folder, () => 2000);
    file.add(300, { loss: 0.5, kl: -1 });
    file.close();
    assert.match(file.path, /events\.out\.tfevents\.2\./);
    const bytes = new Uint8Array(await readFile(file.path));
    const view = new DataView(bytes.buffer);
    const records: Uint8Array[] = [];
    for (let at = 0; at < bytes.length;) {
      const length = Number(view.getBigUint64(at, true));
      const data = bytes.subarray(at + 12, at + 12 + length);
      assert.deepEqual(bytes.subarray(at, at + 16 + length), record(data));
      records.push(data);
      at += 16 + length;
    }
    assert.equal(records.length, 2);
    const hex = (x: Uint8Array) => Buffer.from(x).toString("hex");
    const text = (s: string) => Buffer.from(s).toString("hex");
    const time = "090000000000000040";
    assert.equal(hex(records[0]!), `${time}1a0d${text("brain.Event:2")}`);
    const scalar = (tag: string, value: string) => `0a${text(tag)}15${value}`;
    const loss = scalar(`\x04loss`, "0000003f");
    const kl = scalar(`\x02kl`, "000080bf");
    assert.equal(hex(records[1]!), `${time}10ac022a180a0b${loss}0a09${kl}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
