import assert from "node:assert/strict";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** Calls `sharedFiles` in a process of its own, for what it does depends on the environment. */
async function callWith(env: Record<string, string>): Promise<{ code: number; text: string }> {
  const module = new URL("./shared.ts", import.meta.url).href;
  const program = `import { sharedFiles } from "${module}";
    console.log("FOUND " + sharedFiles("golden/none-such", /\\.json$/).length);`;
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", program],
    env,
  }).output();
  const decoder = new TextDecoder();
  return { code, text: decoder.decode(stdout) + decoder.decode(stderr) };
}

Deno.test("reference files are listed; a folder that is named and has none is a failure", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const empty = await callWith({ SHARED: folder });
    assert.notEqual(empty.code, 0);
    assert.match(empty.text, /SHARED is set, but there is no file like/);
    await mkdir(join(folder, "golden/none-such"), { recursive: true });
    await writeFile(join(folder, "golden/none-such/a.json"), "{}");
    await writeFile(join(folder, "golden/none-such/b.txt"), "");
    const found = await callWith({ SHARED: folder });
    assert.equal(found.code, 0);
    assert.match(found.text, /none-such: a\.json\nFOUND 1/);
  } finally {
    await rm(folder, { recursive: true });
  }
});
