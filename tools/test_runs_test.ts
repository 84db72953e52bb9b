import assert from "node:assert/strict";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { byRoom, outcome, parseSummary, runTestFiles, testFiles } from "./test_runs.ts";

Deno.test("deno test's closing line is read with steps, ignored tests and colours", () => {
  assert.deepEqual(parseSummary("ok | 3 passed (2 steps) | 0 failed | 1 ignored (5ms)"), {
    passed: 3,
    failed: 0,
    skipped: 1,
  });
  assert.deepEqual(parseSummary("\x1b[31mFAILED\x1b[0m | 14 passed | 2 failed (1 step) (1s)"), {
    passed: 14,
    failed: 2,
    skipped: 0,
  });
  assert.equal(parseSummary("a test that prints | 3 passed"), undefined);
});

Deno.test("a process that ends badly without naming a failure counts as one", () => {
  const good = { passed: 2, failed: 0, skipped: 0 };
  assert.deepEqual(outcome(good, true), good);
  assert.deepEqual(outcome(good, false), { ...good, failed: 1 });
  assert.deepEqual(outcome(undefined, false), { passed: 0, failed: 1, skipped: 0 });
  assert.deepEqual(outcome({ ...good, failed: 3 }, false), { ...good, failed: 3 });
});

async function withTests(
  files: Record<string, string>,
  run: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    for (const [path, text] of Object.entries({ "deno.json": "{}", ...files })) {
      await mkdir(join(folder, dirname(path)), { recursive: true });
      await writeFile(join(folder, path), text);
    }
    await run(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const passing = 'Deno.test("good", () => {});\n';
const failing = 'Deno.test("bad", () => { throw new Error("no"); });\n';
const ignored = 'Deno.test.ignore("later", () => {});\n';

Deno.test("a run reports what passed, failed and was skipped, and passes the output on", async () => {
  await withTests(
    { "a_test.ts": passing + failing + ignored, "b_test.ts": passing },
    async (cwd) => {
      let output = "";
      const decoder = new TextDecoder();
      const counts = await runTestFiles(["a_test.ts", "b_test.ts"], {
        cwd,
        write: (bytes) => output += decoder.decode(bytes),
      });
      assert.deepEqual(counts, { passed: 2, failed: 1, skipped: 1 });
      assert.match(output, /Error: no/);
    },
  );
});

Deno.test("a crash, a type error and a file that cannot be loaded are failures", async () => {
  const bad: Record<string, string> = {
    crash: `${passing}Deno.test("dies", () => { Deno.kill(Deno.pid, "SIGKILL"); });`,
    types: 'const count: number = "one";\nDeno.test("never", () => { console.log(count); });',
    throws: 'throw new Error("at load");',
    missing: 'import "./gone.ts";',
  };
  for (const [name, text] of Object.entries(bad)) {
    await withTests({ "a_test.ts": text }, async (cwd) => {
      const counts = await runTestFiles(["a_test.ts"], { cwd, write: () => {} });
      assert.equal(counts.failed, 1, name);
    });
  }
});

Deno.test("suites are told apart by the ends of their file names", async () => {
  const names = [
    "rl/golden_test.ts",
    "lm/models_golden_test.ts",
    "tasks/math_oracle_test.ts",
    "tests/conformance_test.ts",
    "tests/demo_slow_test.ts",
    "xla/jit_test.ts",
    "xla/test_support.ts",
  ];
  await withTests(Object.fromEntries(names.map((name) => [name, ""])), (folder) => {
    assert.deepEqual(testFiles("golden", folder), [
      "lm/models_golden_test.ts",
      "rl/golden_test.ts",
    ]);
    assert.deepEqual(testFiles("oracles", folder), ["tasks/math_oracle_test.ts"]);
    assert.deepEqual(testFiles("conformance", folder), ["tests/conformance_test.ts"]);
    assert.deepEqual(testFiles("slow", folder), ["tests/demo_slow_test.ts"]);
    const all = testFiles("all", folder);
    assert.deepEqual(all.length, 4);
    assert.ok(!all.some((file) => file.startsWith("tests/")));
    return Promise.resolve();
  });
});

Deno.test("rooms are run one by one, the tests across rooms last", () => {
  assert.deepEqual(byRoom(["a_test.ts", "tests/x_test.ts", "xla/y_test.ts", "xla/z_test.ts"]), [
    [".", ["a_test.ts"]],
    ["xla", ["xla/y_test.ts", "xla/z_test.ts"]],
    ["tests", ["tests/x_test.ts"]],
  ]);
});
