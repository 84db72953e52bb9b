/**
 * `deno task test`: sets up what the tests need, runs them and ends with `N passed, N failed`.
 *
 * Arguments: a suite (all, golden, oracles, conformance, slow; default all), paths to limit the run
 * to, and options for `deno test` such as `--filter=name`. Exit code 0 when nothing failed.
 */
import { existsSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { root, runCommand } from "./repository.ts";
import { add, byRoom, type Counts, none, runTestFiles, suites, testFiles } from "./test_runs.ts";

const say = (text: string) => console.log(text);

/** Says where reference data was looked for; false where a suite needs what `SHARED` lacks. */
function checkShared(suite: string): boolean {
  const given = Deno.env.get("SHARED");
  const shared = resolve(root, given ?? "../shared");
  const folder = suites[suite]?.needs;
  const wanted = folder === undefined ? shared : join(shared, folder);
  const found = existsSync(wanted) ? readdirSync(wanted) : [];
  if (found.length > 0) {
    say(`reference data: ${wanted} (${found.join(", ")})`);
    return true;
  }
  if (given !== undefined) {
    say(`reference data: SHARED is set, but there is nothing in ${wanted}`);
    return folder === undefined;
  }
  say(`reference data: none in ${wanted}; tests that need it say so and are skipped (set SHARED)`);
  return true;
}

/** Fetches what is fetched once: npm packages, then the tensor backend's plugin. */
async function setUp(): Promise<boolean> {
  say("set-up: npm packages of deno.lock (fetched once)");
  if (await runCommand(Deno.execPath(), ["install", "--quiet"]) !== 0) return false;
  say("set-up: tensor backend (its plugin is fetched once)");
  return await runCommand(Deno.execPath(), [
    "run",
    "-A",
    "--no-check",
    "tools/tensor_backend.ts",
  ]) === 0;
}

function finish(counts: Counts): never {
  if (counts.skipped > 0) say(`${counts.skipped} skipped: each says why above`);
  say(`${counts.passed} passed, ${counts.failed} failed`);
  Deno.exit(counts.failed === 0 ? 0 : 1);
}

async function main(args: readonly string[]): Promise<never> {
  const suite = args.find((arg) => arg === "all" || suites[arg] !== undefined) ?? "all";
  const options = args.filter((arg) => arg.startsWith("-"));
  const paths = args.filter((arg) => arg !== suite && !options.includes(arg))
    .map((path) => path.replace(/^\.\//, ""));
  const files = testFiles(suite)
    .filter((file) => paths.length === 0 || paths.some((path) => file.startsWith(path)));
  if (files.length === 0) {
    say(`no ${suite} test files ${paths.length === 0 ? "" : `below ${paths.join(", ")}`}`);
    finish({ ...none, failed: 1 });
  }
  if (!checkShared(suite)) finish({ ...none, failed: 1 });
  if (suite !== "all") say(`${suite}: ${files.join(", ")}`);
  if (!await setUp()) {
    say("set-up failed: see above");
    finish({ ...none, failed: 1 });
  }

  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => stop.abort());
  }
  let total = none;
  for (const [room, group] of byRoom(files)) {
    if (stop.signal.aborted) break;
    say(`\n== ${room === "." ? "root" : `${room}/`}: ${group.length} test files`);
    const started = performance.now();
    const { problem, ...counts } = await runTestFiles(group, {
      cwd: root,
      args: options,
      signal: stop.signal,
      write: (bytes) => Deno.stdout.writeSync(bytes),
    });
    if (problem !== undefined) say(`${room}: ${problem}`);
    say(`${room}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
    total = add(total, counts);
  }
  say("");
  if (stop.signal.aborted) say("stopped by a signal: not every test ran");
  finish(stop.signal.aborted ? add(total, { ...none, failed: total.failed === 0 ? 1 : 0 }) : total);
}

if (import.meta.main) await main(Deno.args);
