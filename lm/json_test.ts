import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { readJson } from "./json.ts";

Deno.test("a file too large for a configuration is refused before it is read", async () => {
  const folder = await mkdtemp(join(tmpdir(), "oreo-json-"));
  try {
    const path = join(folder, "config.json");
    await writeFile(path, `{"a":1}${" ".repeat(1000)}`);
    assert.deepEqual(await readJson(path), { a: 1 });
    await writeFile(path, "[".repeat(5 * 2 ** 20));
    await assert.rejects(readJson(path), (error) => {
      assert.ok(error instanceof UserError);
      assert.equal(error.message, `${path} has 5242880 bytes, expected at most 4194304`);
      return true;
    });
  } finally {
    await rm(folder, { recursive: true });
  }
});
