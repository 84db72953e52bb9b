/**
 * One PJRT client: its devices, and buffers on them. A buffer is an address (bigint) that its owner
 * releases with {@link Client.destroyBuffer}; nothing is released behind the owner's back.
 */
import { PjrtError, type Plugin, Struct, textAt } from "./api.ts";
import { BUFFER_TYPES } from "./layout.ts";
import { Executable } from "./executable.ts";
import { type CompileOptions, encodeCompileOptions, SINGLE_DEVICE } from "./options.ts";

/** Address of a `PJRT_Buffer`. */
export type BufferHandle = bigint;
export type ElementType = keyof typeof BUFFER_TYPES;

export interface Device {
  readonly handle: bigint;
  readonly kind: string;
}

const HOST_DATA_COPIED_DURING_CALL = 0;

export class Client {
  readonly plugin: Plugin;
  readonly handle: bigint;
  readonly platform: string;
  readonly platformVersion: string;
  readonly devices: readonly Device[];
  readonly #destroyArgs: BigUint64Array<ArrayBuffer>;
  readonly #destroy: (args: BigUint64Array<ArrayBuffer>) => Deno.PointerValue;

  /** @param options integers that the platform's client takes, such as `cpu_device_count` */
  constructor(plugin: Plugin, options: Readonly<Record<string, number>> = {}) {
    this.plugin = plugin;
    const values = namedIntegers(options);
    const create = new Struct("Client_Create_Args", {
      ...(values.count > 0 && {
        create_options: values.bytes,
        num_options: BigInt(values.count),
      }),
    });
    this.handle = plugin.call("Client_Create", create, "starting a client").get("client");
    const name = new Struct("Client_PlatformName_Args", { client: this.handle });
    plugin.call("Client_PlatformName", name, "asking for the platform");
    this.platform = textAt(name.get("platform_name"), name.get("platform_name_size"));
    const version = new Struct("Client_PlatformVersion_Args", { client: this.handle });
    plugin.call("Client_PlatformVersion", version, "asking for the platform's version");
    this.platformVersion = textAt(
      version.get("platform_version"),
      version.get("platform_version_size"),
    );
    this.devices = this.#listDevices();
    const destroy = new Struct("Buffer_Destroy_Args");
    this.#destroyArgs = new BigUint64Array(destroy.bytes.buffer);
    const destroyFn = plugin.fn("Buffer_Destroy");
    this.#destroy = (args) => destroyFn.call(args);
  }

  #listDevices(): Device[] {
    const list = new Struct("Client_AddressableDevices_Args", { client: this.handle });
    this.plugin.call("Client_AddressableDevices", list, "listing devices");
    const view = new Deno.UnsafePointerView(
      Deno.UnsafePointer.create(list.get("addressable_devices"))!,
    );
    return Array.from({ length: Number(list.get("num_addressable_devices")) }, (_, i) => {
      const handle = view.getBigUint64(8 * i);
      const description = this.plugin.call(
        "Device_GetDescription",
        new Struct("Device_GetDescription_Args", { device: handle }),
        "describing a device",
      ).get("device_description");
      const kind = this.plugin.call(
        "DeviceDescription_Kind",
        new Struct("DeviceDescription_Kind_Args", { device_description: description }),
        "describing a device",
      );
      return { handle, kind: textAt(kind.get("device_kind"), kind.get("device_kind_size")) };
    });
  }

  /** Copies dense row-major host data to a device. The data may be reused as soon as this returns. */
  bufferFromHost(
    data: ArrayBufferView<ArrayBuffer>,
    type: ElementType,
    shape: readonly number[],
    device = 0,
  ): BufferHandle {
    const args = new Struct("Client_BufferFromHostBuffer_Args", {
      client: this.handle,
      data: data.byteLength === 0 ? new Uint8Array(8) : data,
      type: BUFFER_TYPES[type],
      dims: BigInt64Array.from([...shape, 0], BigInt),
      num_dims: BigInt(shape.length),
      host_buffer_semantics: HOST_DATA_COPIED_DURING_CALL,
      device: this.devices[device]!.handle,
    });
    const action = `copying ${type}[${shape}] to the device`;
    this.plugin.call("Client_BufferFromHostBuffer", args, action);
    this.#await(args.get("done_with_host_buffer"), action);
    return args.get("buffer");
  }

  /** Starts the copy of a buffer into `out` and returns the event of its end. */
  #startRead(buffer: BufferHandle, out: ArrayBufferView<ArrayBuffer>, action: string): bigint {
    const args = new Struct("Buffer_ToHostBuffer_Args", {
      src: buffer,
      dst: out.byteLength === 0 ? new Uint8Array(8) : out,
      dst_size: BigInt(out.byteLength),
    });
    return this.plugin.call("Buffer_ToHostBuffer", args, action).get("event");
  }

  /** Waits for the buffer and copies it to `out`, blocking this thread. */
  readSync(buffer: BufferHandle, out: ArrayBufferView<ArrayBuffer>): void {
    const action = "reading a tensor from the device";
    this.#await(this.#startRead(buffer, out, action), action);
  }

  /** As {@link readSync}, without blocking this thread. */
  async read(buffer: BufferHandle, out: ArrayBufferView<ArrayBuffer>): Promise<void> {
    const action = "reading a tensor from the device";
    await this.#awaitAsync(this.#startRead(buffer, out, action), action);
  }

  /** Blocks until the computation that makes `buffer` has ended; throws what went wrong in it. */
  awaitBuffer(buffer: BufferHandle): void {
    const action = "waiting for a tensor";
    const args = new Struct("Buffer_ReadyEvent_Args", { buffer });
    this.#await(this.plugin.call("Buffer_ReadyEvent", args, action).get("event"), action);
  }

  #await(event: bigint, action: string): void {
    if (event === 0n) return;
    try {
      this.plugin.call("Event_Await", new Struct("Event_Await_Args", { event }), action);
    } finally {
      this.#destroyEvent(event);
    }
  }

  async #awaitAsync(event: bigint, action: string): Promise<void> {
    if (event === 0n) return;
    try {
      const ready = new Struct("Event_IsReady_Args", { event });
      this.plugin.call("Event_IsReady", ready, action);
      const args = new Struct("Event_Await_Args", { event });
      if (ready.getBool("is_ready")) this.plugin.call("Event_Await", args, action);
      else this.plugin.check(await this.plugin.asyncFn("Event_Await").call(args.bytes), action);
    } finally {
      this.#destroyEvent(event);
    }
  }

  #destroyEvent(event: bigint): void {
    this.plugin.call(
      "Event_Destroy",
      new Struct("Event_Destroy_Args", { event }),
      "freeing an event",
    );
  }

  /** Ends the client; its buffers and programs must not be used afterwards. */
  destroy(): void {
    const args = new Struct("Client_Destroy_Args", { client: this.handle });
    this.plugin.call("Client_Destroy", args, "ending a client");
  }

  destroyBuffer(buffer: BufferHandle): void {
    this.#destroyArgs[2] = buffer;
    const error = this.#destroy(this.#destroyArgs);
    if (error !== null) this.plugin.check(error, "freeing a tensor");
  }

  /**
   * Compiles StableHLO text.
   * @param name appears in errors
   */
  compile(text: string, name: string, options: CompileOptions = SINGLE_DEVICE): Executable {
    const code = new TextEncoder().encode(text);
    const format = new TextEncoder().encode("mlir");
    const program = new Struct("Program", {
      code,
      code_size: BigInt(code.length),
      format,
      format_size: BigInt(format.length),
    });
    const proto = encodeCompileOptions(options);
    const args = new Struct("Client_Compile_Args", {
      client: this.handle,
      program: program.bytes,
      compile_options: proto,
      compile_options_size: BigInt(proto.length),
    });
    this.plugin.call("Client_Compile", args, `compiling ${name}`);
    return new Executable(this, args.get("executable"), name, options.numPartitions);
  }

  /**
   * Loads what {@link Executable.serialize} wrote, for the same plugin and kind of device.
   * @param devices that the program was compiled for
   */
  deserialize(bytes: Uint8Array<ArrayBuffer>, name: string, devices = 1): Executable {
    const args = new Struct("Executable_DeserializeAndLoad_Args", {
      client: this.handle,
      serialized_executable: bytes,
      serialized_executable_size: BigInt(bytes.length),
    });
    this.plugin.call("Executable_DeserializeAndLoad", args, `loading the compiled ${name}`);
    return new Executable(this, args.get("loaded_executable"), name, devices);
  }

  /** Bytes in use and the limit, where the platform reports them. */
  memoryStats(device = 0): { bytesInUse: number; peakBytes?: number; limit?: number } | undefined {
    const args = new Struct("Device_MemoryStats_Args", { device: this.devices[device]!.handle });
    try {
      this.plugin.call("Device_MemoryStats", args, "asking for the device's memory");
    } catch (error) {
      if (error instanceof PjrtError && error.code === "UNIMPLEMENTED") return undefined;
      throw error;
    }
    return {
      bytesInUse: Number(args.get("bytes_in_use")),
      ...(args.getBool("peak_bytes_in_use_is_set") &&
        { peakBytes: Number(args.get("peak_bytes_in_use")) }),
      ...(args.getBool("bytes_limit_is_set") && { limit: Number(args.get("bytes_limit")) }),
    };
  }
}

const NAMED_VALUE_INT64 = 1;

/** An array of `PJRT_NamedValue`. */
function namedIntegers(options: Readonly<Record<string, number>>) {
  const structs = Object.entries(options).map(([name, value]) => {
    const text = new TextEncoder().encode(name);
    return new Struct("NamedValue", {
      name: text,
      name_size: BigInt(text.length),
      type: NAMED_VALUE_INT64,
      value: BigInt(value),
      value_size: 1n,
    });
  });
  const bytes = new Uint8Array(Math.max(1, structs.reduce((n, s) => n + s.bytes.length, 0)));
  let at = 0;
  for (const struct of structs) {
    bytes.set(struct.bytes, at);
    at += struct.bytes.length;
  }
  return { bytes, count: structs.length, structs };
}
