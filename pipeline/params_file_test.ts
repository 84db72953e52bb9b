import assert from "node:assert/strict";
import { join } from "node:path";
import { z } from "zod";
import { UserError } from "../errors.ts";
import { applyOverrides, parseParams } from "./params.ts";
import { paramsFromEnvironment, readParamsFile } from "./params_file.ts";

async function withFile(name: string, text: string, body: (path: string) => Promise<void>) {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(join(folder, name), text);
    await body(join(folder, name));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("TOML, YAML and JSON hold the same parameters", async () => {
  const texts = {
    "p.toml": "steps = 3\n[train]\nrate = 1e-4\nbeams = [1, 3]\n",
    "p.yaml": "steps: 3\ntrain:\n  rate: 1.0e-4\n  beams: [1, 3]\n",
    "p.json": '{"steps": 3, "train": {"rate": 1e-4, "beams": [1, 3]}}',
  };
  for (const [name, text] of Object.entries(texts)) {
    await withFile(name, text, async (path) => {
      const params = await readParamsFile(path);
      assert.deepEqual(params, { steps: 3, train: { rate: 1e-4, beams: [1, 3] } });
    });
  }
  await withFile("empty.yaml", "", async (path) => {
    assert.deepEqual(await readParamsFile(path), {});
  });
});

Deno.test("a file that cannot be used is told why", async () => {
  const cases = [
    ["p.toml", "steps = = 3", /reading parameters from .*p\.toml: /],
    ["p.yaml", "- 1\n- 2", /expected names with values at the top/],
    ["p.ini", "", /name it \.toml, \.yaml or \.json/],
  ] as const;
  for (const [name, text, message] of cases) {
    await withFile(name, text, async (path) => {
      await assert.rejects(readParamsFile(path), (error) => {
        assert(error instanceof UserError);
        assert.equal(error.exitCode, 2);
        assert.match(error.message, message);
        return true;
      });
    });
  }
  await assert.rejects(readParamsFile("/none/p.toml"), /there is no such file/);
});

Deno.test("the command line goes over the environment, which goes over the file", () => {
  const schema = z.object({
    a: z.number().default(0),
    b: z.number().default(0),
    in: z.object({ c: z.number().default(0), d: z.number().default(0) }).prefault({}),
  });
  const environment = paramsFromEnvironment({ OREO_SET__in__c: "2", OREO_SET__b: "2", PATH: "x" });
  const given = applyOverrides(schema, { a: 1, b: 1, in: { c: 1 } }, [...environment, "b=3"]);
  assert.deepEqual(parseParams(schema, given, "w"), { a: 1, b: 3, in: { c: 2, d: 0 } });
});
