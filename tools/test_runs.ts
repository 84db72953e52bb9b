/**
 * Runs test files with `deno test`, room by room in processes of their own, so that a crash in native
 * code costs one room and is counted, never hidden; adds up what each run says of itself.
 */
import { listFiles } from "./repository.ts";

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export const none: Counts = { passed: 0, failed: 0, skipped: 0 };

export function add(a: Counts, b: Counts): Counts {
  return {
    passed: a.passed + b.passed,
    failed: a.failed + b.failed,
    skipped: a.skipped + b.skipped,
  };
}

/** Which test files to run: every name ends in the suite's own ending. */
export const suites: Readonly<Record<string, { ending: RegExp; needs?: string }>> = {
  golden: { ending: /(?:^|[_/])golden_test\.tsx?$/, needs: "golden" },
  oracles: { ending: /(?:^|[_/])oracles?_test\.tsx?$/, needs: "oracles" },
  conformance: { ending: /(?:^|[_/])conformance_test\.tsx?$/, needs: "conformance" },
  slow: { ending: /(?:^|[_/])slow_test\.tsx?$/ },
};

/** Suites that take minutes: run only when asked for by name. */
const onRequest = ["conformance", "slow"];

/** Test files of a suite, relative to the root; "all" is everything that is not only on request. */
export function testFiles(suite: string, folder?: string): string[] {
  const files = listFiles((path) => /(?:^|[_/])test\.tsx?$/.test(path), folder);
  const ending = suites[suite]?.ending;
  if (ending !== undefined) return files.filter((file) => ending.test(file));
  return files.filter((file) => !onRequest.some((name) => suites[name]!.ending.test(file)));
}

/** Files by room, in order: `tests/` last, for it puts the rooms together. */
export function byRoom(files: readonly string[]): [room: string, files: string[]][] {
  const rooms = Map.groupBy(files, (file) => file.includes("/") ? file.split("/")[0]! : ".");
  return [...rooms].sort(([a], [b]) => Number(a === "tests") - Number(b === "tests"));
}

// deno-lint-ignore no-control-regex -- escape characters are what is taken out
const colours = /\x1b\[[0-9;]*m/g;

/** Reads `ok | 3 passed (2 steps) | 1 failed | 2 ignored (5ms)`; undefined for any other line. */
export function parseSummary(line: string): Counts | undefined {
  const plain = line.replace(colours, "");
  if (!/^(?:ok|FAILED) \| \d+ passed/.test(plain)) return undefined;
  const count = (word: string) => Number(new RegExp(`\\| (\\d+) ${word}`).exec(plain)?.[1] ?? 0);
  return { passed: count("passed"), failed: count("failed"), skipped: count("ignored") };
}

/**
 * What one `deno test` process comes to: its own closing line, plus one failure where it ended badly
 * without telling of any (a crash, a type error, a refused file).
 */
export function outcome(summary: Counts | undefined, success: boolean): Counts {
  const counts = summary ?? none;
  return success || counts.failed > 0 ? counts : { ...counts, failed: 1 };
}

/** Passes a stream on to `write` as it comes and keeps the last closing line seen in it. */
async function relay(
  stream: ReadableStream<Uint8Array>,
  write: (bytes: Uint8Array) => void,
): Promise<Counts | undefined> {
  const decoder = new TextDecoder();
  let last: Counts | undefined;
  let rest = "";
  for await (const bytes of stream) {
    write(bytes);
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop()!;
    for (const line of lines) last = parseSummary(line) ?? last;
  }
  return parseSummary(rest) ?? last;
}

/**
 * One `deno test` over `files`, its output passed on as it comes.
 * @param options.args further arguments for `deno test`, e.g. `--filter=...`
 */
export async function runTestFiles(
  files: readonly string[],
  options: {
    cwd: string;
    args?: readonly string[];
    signal?: AbortSignal;
    write: (bytes: Uint8Array) => void;
  },
): Promise<Counts & { problem?: string }> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["test", "-A", ...(options.args ?? []), ...files],
    cwd: options.cwd,
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  }).spawn();
  const [summary, status] = await Promise.all([relay(child.stdout, options.write), child.status]);
  const counts = outcome(summary, status.success);
  if (status.success || (summary?.failed ?? 0) > 0) return counts;
  const how = status.signal === null ? `exit code ${status.code}` : `signal ${status.signal}`;
  return { ...counts, problem: `deno test ended with ${how} and named no failed test` };
}
