/**
 * Compiled programs by their text: in memory for the process, and on disk across processes. A disk entry
 * is keyed by everything that the compiled code depends on, carries a checksum, and is dropped with a
 * warning where it does not fit; the cache never decides a result, only the time it takes.
 */
import { createHash } from "node:crypto";
import * as path from "node:path";
import { Dumps } from "./dump.ts";
import { checkFits, memoryLimit, OutOfMemoryError } from "./memory.ts";
import { PjrtError } from "./pjrt/api.ts";
import type { Client } from "./pjrt/client.ts";
import type { Executable, MemoryPlan } from "./pjrt/executable.ts";
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

/** What is known of a program beside its text. */
export interface ProgramOptions {
  /** The traced kernels, for dumps. */
  ops?: readonly string[];
  /** Devices that it runs on; 1 where left out. */
  partitions?: number;
  /** Which settings lower what it takes, for the error where memory runs out. */
  hint?: string;
}

export class Programs {
  readonly stats: ProgramStats = { compiled: 0, loaded: 0 };
  readonly #client: Client;
  readonly #folder: string | undefined;
  readonly #identity: string;
  readonly #byText = new Map<string, Executable>();
  readonly #dumps = Dumps.fromEnvironment();
  readonly #limit: number | undefined;
  #flags: CompileOptions["flags"];
  #warned = false;

  /**
   * @param identity names the plugin build exactly; compiled code is valid for no other
   * @param folder where compiled programs are kept; none where undefined
   */
  constructor(client: Client, identity: string, folder: string | undefined) {
    this.#client = client;
    this.#folder = folder;
    this.#limit = memoryLimit(client);
    if (client.platform === "cpu") this.#flags = CPU_FLAGS;
    const kinds = client.devices.map((device) => device.kind).join();
    this.#identity = [FORMAT, identity, client.platform, client.platformVersion, kinds, hostCpu()]
      .join("\n");
  }

  /**
   * The executable of a program's text, compiled at most once.
   * @throws OutOfMemoryError where its memory plan is larger than a device
   */
  get(text: string, name: string, options: ProgramOptions = {}): Executable {
    const known = this.#byText.get(text);
    if (known !== undefined) return known;
    const { partitions = 1, hint } = options;
    const executable = this.#dumps === undefined
      ? this.#loadOrCompile(text, name, this.#compileOptions(partitions))
      : this.#compileAndDump(this.#dumps, text, name, partitions, options.ops ?? []);
    const plan = planOf(executable);
    if (plan !== undefined) checkFits(name, plan, this.#limit, hint);
    executable.onExhausted = (_, cause) => this.#exhausted(name, plan, hint, cause);
    this.#byText.set(text, executable);
    return executable;
  }

  #compileOptions(partitions: number): CompileOptions {
    if (partitions === 1 && this.#flags === undefined) return SINGLE_DEVICE;
    return { numPartitions: partitions, ...(this.#flags && { flags: this.#flags }) };
  }

  #exhausted(
    name: string,
    plan: MemoryPlan | undefined,
    hint: string | undefined,
    cause: PjrtError,
  ): Error {
    const stats = this.#client.memoryStats();
    return new OutOfMemoryError(name, {
      ...(plan && { plan }),
      ...(this.#limit !== undefined && { limit: this.#limit }),
      ...(stats && { inUse: stats.bytesInUse }),
      ...(hint !== undefined && { hint }),
      detail: cause.detail,
    }, cause);
  }

  #compileAndDump(
    dumps: Dumps,
    text: string,
    name: string,
    partitions: number,
    ops: readonly string[],
  ): Executable {
    const dump = dumps.begin(text, name, ops);
    const options = this.#compileOptions(partitions);
    let executable: Executable;
    try {
      const flags = { ...options.flags, ...dump.flags };
      executable = this.#client.compile(text, name, { ...options, flags });
      this.stats.compiled++;
    } catch (error) {
      this.#warn(`no optimised program in the dump of ${name}`, error);
      executable = this.#compile(text, name, options);
    }
    dump.finish(planOf(executable));
    return executable;
  }

  #loadOrCompile(text: string, name: string, options: CompileOptions): Executable {
    if (this.#folder === undefined) return this.#compile(text, name, options);
    const key = createHash("sha256").update(this.#identity).update("\0")
      .update(encodeCompileOptions(options)).update("\0").update(text).digest("hex");
    const file = path.join(this.#folder, key.slice(0, 2), `${key}.pjrt`);
    const stored = this.#load(file, name, options.numPartitions);
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
      this.#flags = undefined;
      return this.#client.compile(text, name, { numPartitions: options.numPartitions });
    }
  }

  #load(file: string, name: string, devices: number): Executable | undefined {
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
      return this.#client.deserialize(body, name, devices);
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
}

/** The memory plan, where the plugin tells it. */
function planOf(executable: Executable): MemoryPlan | undefined {
  try {
    return executable.memoryPlan();
  } catch (error) {
    if (error instanceof PjrtError && error.code === "UNIMPLEMENTED") return undefined;
    throw error;
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
