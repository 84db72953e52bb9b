/**
 * tfjs-core's own specs on cpu, wasm and xla, each in a process of its own. cpu and wasm tell whether
 * the runner still measures what it did; xla is what is tested. Minutes long: `deno task test:conformance`.
 */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

interface Counts {
  passed: number;
  failed: number;
  /** Specs that run at least one kernel. */
  kernelPassed: number;
  kernelSpecs: number;
}

const runner = fileURLToPath(new URL("run.ts", import.meta.url));

async function run(...args: string[]): Promise<Counts> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", runner, ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).output();
  const text = new TextDecoder().decode(stdout);
  console.log(text.trimEnd());
  const total = /^(\d+) passed, (\d+) failed$/m.exec(text);
  const kernels = /specs that run a kernel: (\d+) passed of (\d+)/.exec(text);
  assert.ok(total !== null && kernels !== null, `no counts from the run of ${args.join(" ")}`);
  return {
    passed: Number(total[1]),
    failed: Number(total[2]),
    kernelPassed: Number(kernels[1]),
    kernelSpecs: Number(kernels[2]),
  };
}

Deno.test("cpu, tfjs's reference, passes all of its specs: the runner leaves none out", async () => {
  assert.deepEqual(await run("--backend", "cpu"), {
    passed: 4227,
    failed: 0,
    kernelPassed: 2856,
    kernelSpecs: 2856,
  });
});

Deno.test("wasm fails what it is known to lack: the runner does not pass everything", async () => {
  const counts = await run("--backend", "wasm");
  assert.deepEqual([counts.kernelPassed, counts.kernelSpecs], [2521, 2694]);
});

Deno.test("xla passes at least 2,830 of the specs that run a kernel, and fails none outside the list", async () => {
  const counts = await run("--backend", "xla");
  assert.equal(counts.failed, 0);
  assert.ok(counts.kernelPassed >= 2830, `${counts.kernelPassed} of ${counts.kernelSpecs}`);
});

Deno.test("xla passes where data are read asynchronously only", async () => {
  const counts = await run("--backend", "xla", "--async");
  assert.equal(counts.failed, 0);
  assert.ok(counts.kernelPassed >= 2820, `${counts.kernelPassed} of ${counts.kernelSpecs}`);
});

Deno.test("an exclusion that matches no spec fails the run", async () => {
  const { runSpecs } = await import("./specs.ts");
  const { bundleSpecs } = await import("./bundle.ts");
  const bundle = await bundleSpecs("cpu", { sync: true, files: /^ops\/sign_test$/ });
  const stale = { file: "ops/sign_test.js", name: "sign no such spec", why: "a test" };
  const used = { file: "ops/sign_test.js", name: "sign basic", why: "a test" };
  const { specs, stale: found } = await runSpecs("cpu", bundle, { exclusions: [stale, used] });
  assert.deepEqual(found, [stale]);
  assert.equal(specs.find((spec) => spec.name === "sign basic")?.status, "excluded");
});
