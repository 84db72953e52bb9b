/** Runs bundled specs under jasmine in this process and reports each spec. */
import { createRequire } from "node:module";
import { rmSync, writeFileSync } from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import type { BackendName, Bundle } from "./bundle.ts";

export interface Exclusion {
  /** Spec file under tfjs-core's `dist`. */
  readonly file: string;
  /** The spec's full name, without the name of the test environment. */
  readonly name: string;
  readonly why: string;
}

export interface Spec {
  readonly file: string;
  readonly name: string;
  readonly status: "passed" | "failed" | "pending" | "excluded";
  readonly kernels: readonly string[];
  readonly messages: readonly string[];
}

export interface Run {
  readonly specs: readonly Spec[];
  /** What failed outside any spec: in a suite's set-up, or as an unhandled rejection. */
  readonly problems: readonly string[];
  /** Exclusions that match no spec of this run's files. */
  readonly stale: readonly Exclusion[];
  readonly seconds: number;
}

/** What bundled code tells the runner. */
interface Shared {
  file: string;
  kernels: Set<string>;
}

interface JasmineSpec {
  id: string;
  getFullName(): string;
}
interface JasmineResult {
  id: string;
  fullName: string;
  status: string;
  failedExpectations: { message?: string }[];
}
interface JasmineEnv {
  configure(options: { random: boolean; specFilter: (spec: JasmineSpec) => boolean }): void;
  addReporter(reporter: Record<string, (result: JasmineResult) => void>): void;
  execute(): Promise<unknown>;
}

const plainName = (fullName: string) => fullName.replace(/ test-\w+ \{\}/, "");

/** Specs print warnings and profiles that would bury the failures. */
function muteConsole(): () => void {
  const { log, info, warn } = console;
  Object.assign(console, { log() {}, info() {}, warn() {} });
  return () => Object.assign(console, { log, info, warn });
}

/** @param options.grep limits specs by their full name */
export async function runSpecs(
  backend: BackendName,
  bundle: Bundle,
  options: { exclusions: readonly Exclusion[]; grep?: RegExp },
): Promise<Run> {
  const shared: Shared = { file: "", kernels: new Set() };
  const global = globalThis as unknown as Record<string, unknown>;
  global.conformance = shared;
  // tfjs takes a process with Worker for a browser.
  delete global.Worker;

  const require = createRequire(import.meta.url);
  const jasmineRequire = require("jasmine-core/lib/jasmine-core/jasmine.js");
  const jasmine = jasmineRequire.core(jasmineRequire);
  const env = jasmine.getEnv({ suppressLoadErrors: true }) as JasmineEnv;
  Object.assign(globalThis, jasmineRequire.interface(jasmine, env), { jasmine });
  const fileOf = new Map<string, string>();
  for (const word of ["it", "xit", "fit"]) {
    const declare = global[word] as (...args: unknown[]) => JasmineSpec;
    global[word] = (name: string, body: unknown, limit?: number) => {
      // The specs' limits are for kernels that need no compiling.
      const spec = declare(name, body, Math.max(limit ?? 0, 300_000));
      fileOf.set(spec.id, shared.file);
      return spec;
    };
  }

  const key = (file: string, name: string) => `${file}|${name}`;
  const used = new Map(options.exclusions.map((entry) => [key(entry.file, entry.name), 0]));
  env.configure({
    random: false,
    specFilter: (spec) => {
      const name = plainName(spec.getFullName());
      const id = key(fileOf.get(spec.id)!, name);
      if (used.has(id)) used.set(id, used.get(id)! + 1);
      return !used.has(id) && (options.grep?.test(name) ?? true);
    },
  });

  const problems: string[] = [];
  const noteUnhandled = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    problems.push(`unhandled: ${event.reason?.stack ?? event.reason}`);
  };
  const specs: Spec[] = [];
  env.addReporter({
    specStarted: () => shared.kernels = new Set(),
    specDone: (result) =>
      specs.push({
        file: fileOf.get(result.id)!,
        name: plainName(result.fullName),
        status: result.status as Spec["status"],
        kernels: [...shared.kernels],
        messages: result.failedExpectations.map(({ message }) => message ?? ""),
      }),
    suiteDone: (result) => {
      for (const { message } of result.failedExpectations) {
        problems.push(`${result.fullName}: ${message}`);
      }
    },
    jasmineDone: (result) => {
      for (const { message } of result.failedExpectations) {
        problems.push(`outside the specs: ${message}`);
      }
    },
  });

  const module = path.join(os.tmpdir(), `conformance-${backend}-${Deno.pid}.mjs`);
  writeFileSync(module, bundle.code);
  try {
    await import(pathToFileURL(module).href);
  } finally {
    rmSync(module);
  }
  const start = performance.now();
  const unmute = muteConsole();
  // Only while the specs run: a bundle that does not load has to end the program.
  globalThis.addEventListener("unhandledrejection", noteUnhandled);
  await env.execute();
  globalThis.removeEventListener("unhandledrejection", noteUnhandled);
  unmute();
  return {
    specs,
    problems,
    stale: options.exclusions.filter((entry) =>
      bundle.files.some((file) => `${file}.js` === entry.file) &&
      used.get(key(entry.file, entry.name)) === 0
    ),
    seconds: (performance.now() - start) / 1000,
  };
}
