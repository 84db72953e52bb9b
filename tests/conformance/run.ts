/**
 * Runs tfjs-core's own specs against a backend:
 *
 *     deno run -A tests/conformance/run.ts --backend xla [--files RE] [--grep RE] [--async] [--json FILE]
 *
 * Prints every failure, the counts, and last a line `N passed, N failed`. Specs of `exclusions.json`
 * are left out on xla; one that matches no spec fails the run. Exit code 0 when nothing failed.
 */
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { parseArgs } from "node:util";
import { type BackendName, bundleSpecs } from "./bundle.ts";
import { type Exclusion, type Run, runSpecs, type Spec } from "./specs.ts";

function readExclusions(): Exclusion[] {
  return JSON.parse(readFileSync(new URL("exclusions.json", import.meta.url), "utf8"));
}

/** The counts in words, and the failures before them. */
function describeRun(backend: string, run: Run, excluded: number): string[] {
  const count = (status: Spec["status"], list = run.specs) =>
    list.filter((spec) => spec.status === status).length;
  const withKernels = run.specs.filter((spec) => spec.kernels.length > 0);
  const failures = run.specs.filter((spec) => spec.status === "failed");
  return [
    ...failures.flatMap((
      spec,
    ) => [
      `FAILED ${spec.file}: ${spec.name}`,
      ...spec.messages.map((text) => `    ${text.slice(0, 300)}`),
    ]),
    ...run.problems.map((problem) => `FAILED ${problem}`),
    ...run.stale.map((entry) => `FAILED stale exclusion: no spec '${entry.name}' in ${entry.file}`),
    `${backend}: ${run.specs.length} specs in ${run.seconds.toFixed(1)} s; pending ${
      count("pending")
    }, excluded ${excluded}; ` +
    `specs that run a kernel: ${count("passed", withKernels)} passed of ${withKernels.length}`,
    `${count("passed")} passed, ${failures.length + run.problems.length + run.stale.length} failed`,
  ];
}

function backendOf(text: string): BackendName {
  if (text === "cpu" || text === "wasm" || text === "xla") return text;
  console.error(`unknown backend '${text}': choose cpu, wasm or xla`);
  process.exit(2);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      backend: { type: "string", default: "xla" },
      files: { type: "string" },
      grep: { type: "string" },
      async: { type: "boolean", default: false },
      json: { type: "string" },
    },
  });
  const backend = backendOf(values.backend);
  const bundle = await bundleSpecs(backend, {
    sync: !values.async,
    ...(values.files === undefined ? {} : { files: new RegExp(values.files) }),
  });
  const exclusions = backend === "xla" ? readExclusions() : [];
  const run = await runSpecs(backend, bundle, {
    exclusions,
    ...(values.grep === undefined ? {} : { grep: new RegExp(values.grep) }),
  });
  if (values.json !== undefined) writeFileSync(values.json, JSON.stringify(run));
  const inFiles = exclusions.filter((entry) =>
    bundle.files.includes(entry.file.replace(/\.js$/, ""))
  );
  const lines = describeRun(backend, run, inFiles.length);
  console.log(lines.join("\n"));
  process.exit(lines.some((line) => line.startsWith("FAILED")) ? 1 : 0);
}

if (import.meta.main) await main();
