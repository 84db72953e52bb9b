import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { listFiles, root } from "../tools/repository.ts";

Deno.test("TypeScript examples in the documents compile against the project as it is", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const examples: string[] = [];
    for (const document of listFiles((path) => path.endsWith(".md"))) {
      const text = await Deno.readTextFile(join(root, document));
      for (const [, code] of text.matchAll(/^```ts\n(.*?)^```/gms)) {
        const file = join(folder, `${document.replaceAll("/", "_")}_${examples.length}.ts`);
        const here = pathToFileURL(root).href;
        await writeFile(file, code!.replaceAll('from "./', `from "${here}/`));
        examples.push(file);
      }
    }
    assert.ok(examples.length > 0, "no examples found");
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["check", "--quiet", "--config", join(root, "deno.json"), ...examples],
    }).output();
    assert.equal(code, 0, new TextDecoder().decode(stderr));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
