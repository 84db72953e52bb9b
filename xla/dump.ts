/**
 * `XLA_DUMP=folder`: what every compiled program was made from and became, a numbered group of files a
 * program: `.ops.txt` (traced kernels), `.mlir` (StableHLO), `.optimized.hlo` (after XLA's passes) and
 * `.memory.txt` (the memory plan). While it is set, programs are compiled anew and not taken from the cache.
 */
import * as path from "node:path";
import { planText } from "./memory.ts";
import type { MemoryPlan } from "./pjrt/executable.ts";

export class Dumps {
  readonly #folder: string;
  #count = 0;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** The dumps that the environment asks for. */
  static fromEnvironment(): Dumps | undefined {
    const folder = Deno.env.get("XLA_DUMP");
    return folder === undefined || folder === "" ? undefined : new Dumps(folder);
  }

  /** Writes what is known before compiling. */
  begin(text: string, name: string, ops: readonly string[]): Dump {
    const number = String(this.#count++).padStart(4, "0");
    const base = path.join(this.#folder, `${number}-${name.replace(/[^\w.-]+/g, "_")}`);
    Deno.mkdirSync(this.#folder, { recursive: true });
    Deno.writeTextFileSync(`${base}.mlir`, text);
    if (ops.length > 0) Deno.writeTextFileSync(`${base}.ops.txt`, ops.join("\n") + "\n");
    return new Dump(base);
  }
}

/** The files of one program. */
export class Dump {
  readonly #base: string;

  constructor(base: string) {
    this.#base = base;
  }

  /** Options that make XLA write the optimised program; they change nothing about it. */
  get flags(): Readonly<Record<string, string | boolean>> {
    return { xla_dump_to: this.#work, xla_dump_hlo_as_text: true };
  }

  get #work(): string {
    return `${this.#base}.xla`;
  }

  /** Keeps of XLA's many files the optimised program, and writes the memory plan. */
  finish(plan: MemoryPlan | undefined): void {
    if (plan !== undefined) {
      const lines = [planText(plan), ...Object.entries(plan).map(([key, n]) => `${key} ${n}`)];
      Deno.writeTextFileSync(`${this.#base}.memory.txt`, lines.join("\n") + "\n");
    }
    const written = filesOf(this.#work);
    const optimised = written.findLast((file) => /cpu_after_optimizations\.txt$/.test(file)) ??
      written.findLast((file) => /after_optimizations\.txt$/.test(file));
    if (optimised !== undefined) {
      Deno.copyFileSync(path.join(this.#work, optimised), `${this.#base}.optimized.hlo`);
    }
    if (written.length > 0) Deno.removeSync(this.#work, { recursive: true });
  }
}

function filesOf(folder: string): string[] {
  try {
    return [...Deno.readDirSync(folder)].map((entry) => entry.name).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
