/**
 * A compiled program on its device. Everything a call needs is laid out in memory once, so that a
 * dispatch writes the argument addresses, makes one foreign call and reads the result addresses.
 */
import { addressOf, bytesAt, PjrtError, Struct } from "./api.ts";
import type { BufferHandle, Client } from "./client.ts";

/** What a program needs on the device, in bytes, as the compiler planned it. */
export interface MemoryPlan {
  arguments: number;
  outputs: number;
  /** How much of the outputs reuses donated arguments. */
  aliased: number;
  temporary: number;
  code: number;
}

export class Executable {
  readonly name: string;
  readonly numOutputs: number;
  /** Makes the error for a device that ran out of memory; the plugin's own where left out. */
  onExhausted: ((executable: Executable, cause: PjrtError) => Error) | undefined;
  readonly #client: Client;
  readonly #loaded: bigint;
  /** Devices that it runs on, the client's first. */
  readonly devices: number;
  /** Addresses of the result buffers of the last call on the first device, in order. */
  readonly outputs: BigUint64Array<ArrayBuffer>;
  readonly #outputs: readonly BigUint64Array<ArrayBuffer>[];
  readonly #options = new Struct("ExecuteOptions");
  readonly #args: Struct<"LoadedExecutable_Execute_Args">;
  readonly #argsBytes: Uint8Array<ArrayBuffer>;
  readonly #execute: Deno.UnsafeFnPointer<
    { readonly parameters: readonly ["buffer"]; readonly result: "pointer" }
  >;
  #inputs: BigUint64Array<ArrayBuffer>[] = [];
  #kept: ArrayBufferView[] = [];

  constructor(client: Client, loaded: bigint, name: string, devices = 1) {
    this.#client = client;
    this.#loaded = loaded;
    this.name = name;
    this.devices = devices;
    this.numOutputs = this.#withExecutable((executable) =>
      Number(
        client.plugin.call(
          "Executable_NumOutputs",
          new Struct("Executable_NumOutputs_Args", { executable }),
          "asking a program for its outputs",
        ).get("num_outputs"),
      )
    );
    this.#outputs = Array.from(
      { length: devices },
      () => new BigUint64Array(Math.max(1, this.numOutputs)),
    );
    this.outputs = this.#outputs[0]!;
    const outputLists = BigUint64Array.from(this.#outputs, addressOf);
    this.#args = new Struct("LoadedExecutable_Execute_Args", {
      executable: loaded,
      options: this.#options.bytes,
      num_devices: BigInt(devices),
      output_lists: outputLists,
    });
    this.#argsBytes = this.#args.bytes;
    this.#execute = client.plugin.fn("LoadedExecutable_Execute");
  }

  /**
   * The argument list of a device for calls with `count` arguments: write addresses into it (into every
   * device's), then `run`.
   */
  inputs(count: number, device = 0): BigUint64Array<ArrayBuffer> {
    if (this.#kept.length === 0 || this.#inputs[0]!.length !== count) {
      this.#inputs = Array.from({ length: this.devices }, () => new BigUint64Array(count));
      const lists = count === 0 ? this.#inputs.map(() => new BigUint64Array(1)) : this.#inputs;
      const table = BigUint64Array.from(lists, addressOf);
      this.#kept = [...lists, table];
      this.#args.set("argument_lists", table);
      this.#args.set("num_args", BigInt(count));
    }
    return this.#inputs[device]!;
  }

  /** As {@link outputs}, on another device. */
  outputsOf(device: number): BigUint64Array<ArrayBuffer> {
    return this.#outputs[device]!;
  }

  /**
   * Starts the program on the arguments written into {@link inputs}; returns when it is queued, with the
   * results' addresses in {@link outputs}.
   * @param keep indices of arguments that must not be donated although the program would.
   */
  run(keep?: readonly number[]): void {
    if (keep !== undefined && keep.length > 0) return this.#runKeeping(keep);
    const error = this.#execute.call(this.#argsBytes);
    if (error !== null) this.#fail(error);
  }

  #fail(error: Deno.PointerObject): never {
    try {
      this.#client.plugin.check(error, `running ${this.name}`);
    } catch (cause) {
      if (!(cause instanceof PjrtError) || cause.code !== "RESOURCE_EXHAUSTED") throw cause;
      throw this.onExhausted?.(this, cause) ?? cause;
    }
    throw new Error(`running ${this.name} failed without an error`);
  }

  #runKeeping(keep: readonly number[]): void {
    this.#options.set("non_donatable_input_indices", BigInt64Array.from(keep, BigInt));
    this.#options.set("num_non_donatable_input_indices", BigInt(keep.length));
    try {
      this.run();
    } finally {
      this.#options.set("num_non_donatable_input_indices", 0n);
    }
  }

  /** Runs on fresh inputs and returns the result buffers; for callers that are not in a hurry. */
  call(inputs: readonly BufferHandle[]): BufferHandle[] {
    this.inputs(inputs.length).set(inputs);
    this.run();
    return [...this.outputs.subarray(0, this.numOutputs)];
  }

  serialize(): Uint8Array<ArrayBuffer> {
    return this.#withExecutable((executable) => {
      const args = new Struct("Executable_Serialize_Args", { executable });
      this.#client.plugin.call("Executable_Serialize", args, `serialising ${this.name}`);
      const bytes = bytesAt(args.get("serialized_bytes"), args.get("serialized_bytes_size"));
      const free = new Deno.UnsafeFnPointer(
        Deno.UnsafePointer.create(args.get("serialized_executable_deleter"))!,
        { parameters: ["u64"], result: "void" },
      );
      free.call(args.get("serialized_executable"));
      return bytes;
    });
  }

  memoryPlan(): MemoryPlan {
    return this.#withExecutable((executable) => {
      const stats = this.#client.plugin.call(
        "Executable_GetCompiledMemoryStats",
        new Struct("Executable_GetCompiledMemoryStats_Args", { executable }),
        `asking for the memory plan of ${this.name}`,
      );
      return {
        arguments: Number(stats.get("argument_size_in_bytes")),
        outputs: Number(stats.get("output_size_in_bytes")),
        aliased: Number(stats.get("alias_size_in_bytes")),
        temporary: Number(stats.get("temp_size_in_bytes")),
        code: Number(stats.get("generated_code_size_in_bytes")),
      };
    });
  }

  destroy(): void {
    this.#client.plugin.call(
      "LoadedExecutable_Destroy",
      new Struct("LoadedExecutable_Destroy_Args", { executable: this.#loaded }),
      `freeing ${this.name}`,
    );
  }

  #withExecutable<R>(use: (executable: bigint) => R): R {
    const plugin = this.#client.plugin;
    const executable = plugin.call(
      "LoadedExecutable_GetExecutable",
      new Struct("LoadedExecutable_GetExecutable_Args", { loaded_executable: this.#loaded }),
      `inspecting ${this.name}`,
    ).get("executable");
    try {
      return use(executable);
    } finally {
      plugin.call(
        "Executable_Destroy",
        new Struct("Executable_Destroy_Args", { executable }),
        `inspecting ${this.name}`,
      );
    }
  }
}
