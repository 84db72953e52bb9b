import assert from "node:assert/strict";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { checkImports, readImports, rooms, violation } from "./imports.ts";
import { listFiles, root } from "./repository.ts";

Deno.test("imports go one way between the rooms of this repository, through each room's mod.ts", async () => {
  const files = listFiles((path) => /\.tsx?$/.test(path));
  assert.deepEqual(await checkImports(root, files), []);
  const { imports } = await readImports(root, files);
  assert.ok(imports.length > files.length / 2, `only ${imports.length} imports were read`);
});

Deno.test("the rule itself has no cycle: a room never reaches itself", () => {
  const reach = (room: string): string[] => rooms[room]!.flatMap((next) => [next, ...reach(next)]);
  for (const room of Object.keys(rooms)) assert.ok(!reach(room).includes(room), room);
});

Deno.test("an import against the direction, past mod.ts, or from an unknown room is named", () => {
  const verdict = (file: string, target: string) => violation({ file, target });
  assert.match(verdict("xla/jit.ts", "lm/mod.ts")!, /xla\/ may import no other room/);
  assert.match(verdict("pipeline/run.ts", "rl/mod.ts")!, /pipeline\/ may import no other room/);
  assert.match(verdict("rl/train.ts", "lm/generate.ts")!, /import lm\/mod\.ts, not what is inside/);
  assert.match(verdict("attic/a.ts", "lm/mod.ts")!, /'attic' is not a known room/);
  assert.match(verdict("lm/a.ts", "tests/shared.ts")!, /lm\/ may import only xla/);
  assert.equal(verdict("rl/train.ts", "lm/mod.ts"), undefined);
  assert.equal(verdict("rl/train.ts", "rl/loss.ts"), undefined);
  assert.equal(verdict("rl/train.ts", "errors.ts"), undefined);
  assert.equal(verdict("lm/a_test.ts", "tests/shared.ts"), undefined);
  assert.equal(verdict("main.ts", "status/mod.ts"), undefined);
  assert.equal(verdict("benchmarks/matmul.ts", "xla/pjrt/client.ts"), undefined);
});

Deno.test("type imports, dynamic imports and files that are not there are seen", async () => {
  const folder = await Deno.makeTempDir();
  const files: Record<string, string> = {
    "deno.json": "{}",
    "xla/mod.ts": 'import type { A } from "../lm/mod.ts";\nexport type B = A;',
    "lm/mod.ts": 'export type A = 1;\nexport const late = () => import("../rl/mod.ts");',
    "rl/mod.ts": 'export { gone } from "./gone.ts";',
    "tasks/other.ts": "export {};",
  };
  try {
    for (const [path, text] of Object.entries(files)) {
      await mkdir(join(folder, dirname(path)), { recursive: true });
      await writeFile(join(folder, path), text);
    }
    const found = (await checkImports(folder, Object.keys(files))).join("\n");
    assert.match(found, /xla\/mod\.ts imports lm\/mod\.ts/);
    assert.match(found, /lm\/mod\.ts imports rl\/mod\.ts/);
    assert.match(found, /rl\/gone\.ts: Module not found/);
    assert.match(found, /tasks\/ has no mod\.ts/);
  } finally {
    await rm(folder, { recursive: true });
  }
});
