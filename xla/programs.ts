/**
 * Compiled programs by their text: in memory for the process, and on disk across processes. A disk entry
 * is keyed by everything that the compiled code depends on, carries a checksum, and is dropped with a
 * warning where it does not fit; the cache never decides a result, only the time it takes.
 */
import { createHash } from "node:crypto";
import * as path from "node:path";
import type { Client } from "./pjrt/client.ts";
import type { Executable } from "./pjrt/executable.ts";
import {
  type CompileOptions,
  CPU_FLAGS,
  encodeCompileOptions,
  SINGLE_DEVICE,
} from "./pjrt/options.ts";

/** Raised when what is stored changes. */
const FORMAT = "oreo-xla-1";

export interface ProgramStats {
  compiled: number;
  loaded: number;
}

export class Programs {
  readonly stats: ProgramStats = { compiled: 0, loaded: 0 };
  readonly #client: Client;
  readonly #folder: string | undefined;
  readonly #identity: string;
  readonly #byText = new Map<string, Executable>();
  readonly #dump = Deno.env.get("XLA_DUMP");
  #options: CompileOptions = SINGLE_DEVICE;
  #dumped = 0;
  #warned = false;

  /**
   * @param identity names the plugin build exactly; compiled code is valid for no other
   * @param folder where compiled programs are kept; none where undefined
   */
  constructor(client: Client, identity: string, folder: string | undefined) {
    this.#client = client;
    this.#folder = folder;
    if (client.platform === "cpu") this.#options = { ...SINGLE_DEVICE, flags: CPU_FLAGS };
    const kinds = client.devices.map((device) => device.kind).join();
    this.#identity = [FORMAT, identity, client.platform, client.platformVersion, kinds, hostCpu()]
      .join("\n");
  }

  /** The executable of a program's text, compiled at most once. */
  get(text: string, name: string, ops: readonly string[] = []): Executable {
    const known = this.#byText.get(text);
    if (known !== undefined) return known;
    if (this.#dump !== undefined && this.#dump !== "") this.#write(text, name, ops);
    const executable = this.#loadOrCompile(text, name, this.#options);
    this.#byText.set(text, executable);
    return executable;
  }

  #loadOrCompile(text: string, name: string, options: CompileOptions): Executable {
    if (this.#folder === undefined) return this.#compile(text, name, options);
    const key = createHash("sha256").update(this.#identity).update("\0")
      .update(encodeCompileOptions(options)).update("\0").update(text).digest("hex");
    const file = path.join(this.#folder, key.slice(0, 2), `${key}.pjrt`);
    const stored = this.#load(file, name);
    if (stored !== undefined) {
      this.stats.loaded++;
      return stored;
    }
    const executable = this.#compile(text, name, options);
    this.#store(file, executable);
    return executable;
  }

  #compile(text: string, name: string, options: CompileOptions): Executable {
    this.stats.compiled++;
    try {
      return this.#client.compile(text, name, options);
    } catch (error) {
      const unknown = /compile option|setting option/.test((error as Error).message);
      if (!unknown || options.flags === undefined) throw error;
      this.#warn("this plugin is slower than it could be", error);
      this.#options = { numPartitions: options.numPartitions };
      return this.#client.compile(text, name, this.#options);
    }
  }

  #load(file: string, name: string): Executable | undefined {
    let bytes: Uint8Array<ArrayBuffer>;
    try {
      bytes = Deno.readFileSync(file);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) this.#warn(`cannot read '${file}'`, error);
      return undefined;
    }
    try {
      const body = bytes.subarray(32);
      const sum = createHash("sha256").update(body).digest();
      if (bytes.length < 32 || !sum.equals(bytes.subarray(0, 32))) {
        throw new Error("its checksum does not match");
      }
      return this.#client.deserialize(body, name);
    } catch (error) {
      console.warn(
        `warning: dropping the cached program '${file}': ${(error as Error).message}`,
      );
      try {
        Deno.removeSync(file);
      } catch {
        // Another process dropped it first, or the folder is read-only; it is compiled anew either way.
      }
      return undefined;
    }
  }

  #store(file: string, executable: Executable): void {
    try {
      const body = executable.serialize();
      const sum = createHash("sha256").update(body).digest();
      Deno.mkdirSync(path.dirname(file), { recursive: true });
      const temporary = `${file}.${Deno.pid}.tmp`;
      const bytes = new Uint8Array(32 + body.length);
      bytes.set(sum);
      bytes.set(body, 32);
      Deno.writeFileSync(temporary, bytes);
      Deno.renameSync(temporary, file);
    } catch (error) {
      this.#warn("compiled programs are not kept on disk", error);
    }
  }

  #warn(what: string, error: unknown): void {
    if (this.#warned) return;
    this.#warned = true;
    console.warn(`warning: ${what}: ${(error as Error).message}`);
  }

  /** `XLA_DUMP=folder`: the traced kernels and the StableHLO of every program compiled. */
  #write(text: string, name: string, ops: readonly string[]): void {
    const number = String(this.#dumped++).padStart(4, "0");
    const base = path.join(this.#dump!, `${number}-${name.replace(/[^\w.-]+/g, "_")}`);
    Deno.mkdirSync(this.#dump!, { recursive: true });
    Deno.writeTextFileSync(`${base}.mlir`, text);
    if (ops.length > 0) Deno.writeTextFileSync(`${base}.ops.txt`, ops.join("\n") + "\n");
  }
}

/** The processor's instruction set: compiled code may use all of it. */
function hostCpu(): string {
  try {
    const info = Deno.readTextFileSync("/proc/cpuinfo");
    const lines = info.split("\n").filter((line) => /^(model name|flags|Features)\s*:/.test(line));
    return createHash("sha256").update([...new Set(lines)].join("\n")).digest("hex");
  } catch {
    return `${Deno.build.target}`;
  }
}
