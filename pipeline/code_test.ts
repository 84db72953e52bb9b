import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { CodeHasher } from "./code.ts";

Deno.test("a code hash follows imports, packages and nothing else", async () => {
  const folder = await Deno.makeTempDir();
  const write = (name: string, text: string) => Deno.writeTextFile(join(folder, name), text);
  const hash = () => new CodeHasher().hash(pathToFileURL(join(folder, "stage.ts")).href);
  try {
    await write("deno.json", '{"imports": {"zod": "npm:zod@1", "other": "npm:other@1"}}');
    await write("stage.ts", 'import { a } from "./a.ts";\nimport z from "zod";');
    await write("a.ts", 'export * from "./b.ts";\nawait import("./lazy.ts");');
    await write("b.ts", 'import "./stage.ts"; export const b = 1;');
    await write("lazy.ts", "export {};");
    await write("apart.ts", "export const apart = 1;");
    const first = await hash();
    await write("apart.ts", "export const apart = 2;");
    await write("deno.json", '{"imports": {"zod": "npm:zod@1", "other": "npm:other@2"}}');
    assert.equal(await hash(), first);
    const seen = new Set([first]);
    await write("b.ts", 'import "./stage.ts"; export const b = 2;');
    seen.add(await hash());
    await write("lazy.ts", "export default 1;");
    seen.add(await hash());
    await write("deno.json", '{"imports": {"zod": "npm:zod@2"}}');
    seen.add(await hash());
    assert.equal(seen.size, 4);
    assert.equal(await new CodeHasher().hash(undefined), "");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
