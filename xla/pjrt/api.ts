/**
 * The PJRT C API of one plugin: opens the library, checks its version against our tables, and calls its
 * functions. Every function takes one pointer to an argument struct and returns a `PJRT_Error*`; an
 * error becomes a {@link PjrtError} with PJRT's message and code.
 */
import { UserError } from "../../errors.ts";
import {
  API,
  API_FUNCTIONS_OFFSET,
  API_VERSION_OFFSET,
  type ApiFunction,
  ERROR_CODES,
  type Layout,
  layoutOf,
  PJRT_API_MAJOR,
  PJRT_API_MINOR,
  type StructName,
  STRUCTS,
} from "./layout.ts";

/** The oldest plugin that has every function and field we use. */
const OLDEST_MINOR = 54;

const SIGNATURE = { parameters: ["buffer"], result: "pointer" } as const;
const ASYNC_SIGNATURE = { ...SIGNATURE, nonblocking: true } as const;
type Call = Deno.UnsafeFnPointer<typeof SIGNATURE>;
type FnPointer = Deno.PointerObject<typeof SIGNATURE>;
type AsyncCall = Deno.UnsafeFnPointer<typeof ASYNC_SIGNATURE>;

export type PjrtCode = (typeof ERROR_CODES)[number] | `code ${number}`;

/** An error that the plugin reported: the action, PJRT's code and PJRT's message. */
export class PjrtError extends Error {
  override name = "PjrtError";
  readonly code: PjrtCode;
  readonly detail: string;
  constructor(action: string, code: PjrtCode, detail: string) {
    super(`${action}: ${code}: ${detail}`);
    this.code = code;
    this.detail = detail;
  }
}

const LAYOUTS = Object.fromEntries(
  Object.entries(STRUCTS).map(([name, fields]) => [name, layoutOf(fields)]),
) as Record<StructName, Layout>;

type FieldOf<S extends StructName> = keyof (typeof STRUCTS)[S] & string;

/** An argument struct in memory: fields by name, pointers as bigint. */
export class Struct<S extends StructName> {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  readonly #layout: Layout;
  /** Memory that the struct points to and that must live as long. */
  readonly #kept = new Map<string, ArrayBufferView>();

  constructor(name: S, values: Partial<Record<FieldOf<S>, bigint | number | Pointee>> = {}) {
    this.#layout = LAYOUTS[name];
    this.bytes = new Uint8Array(Math.ceil(this.#layout.size / 8) * 8);
    this.#view = new DataView(this.bytes.buffer);
    this.#view.setBigUint64(0, BigInt(this.#layout.size), true);
    for (const [field, value] of Object.entries(values)) {
      this.set(field as FieldOf<S>, value as bigint | number | Pointee);
    }
  }

  set(field: FieldOf<S>, value: bigint | number | Pointee): void {
    const offset = this.offset(field);
    if (typeof value === "number") this.#view.setInt32(offset, value, true);
    else if (typeof value === "bigint") this.#view.setBigUint64(offset, value, true);
    else {
      this.#kept.set(field, value);
      this.#view.setBigUint64(offset, addressOf(value), true);
    }
  }

  /** A pointer, size or 64-bit integer. */
  get(field: FieldOf<S>): bigint {
    return this.#view.getBigUint64(this.offset(field), true);
  }

  /** An `int` or enum. */
  getInt(field: FieldOf<S>): number {
    return this.#view.getInt32(this.offset(field), true);
  }

  getBool(field: FieldOf<S>): boolean {
    return this.bytes[this.offset(field)] !== 0;
  }

  offset(field: FieldOf<S>): number {
    const offset = this.#layout.offsets[field];
    if (offset === undefined) throw new Error(`no field ${field} in the PJRT struct`);
    return offset;
  }
}

/** Memory of ours that a struct points to. */
export type Pointee = ArrayBufferView<ArrayBuffer>;

/** The address of a typed array's first byte; the array must outlive the use. */
export function addressOf(view: ArrayBufferView<ArrayBuffer>): bigint {
  return BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(view as Uint8Array<ArrayBuffer>)));
}

/** Copies `size` bytes from a foreign address. */
export function bytesAt(address: bigint, size: bigint): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(Number(size));
  if (out.length > 0) {
    new Deno.UnsafePointerView(Deno.UnsafePointer.create(address)!).copyInto(out);
  }
  return out;
}

export function textAt(address: bigint, size: bigint): string {
  return new TextDecoder().decode(bytesAt(address, size));
}

export class Plugin {
  readonly path: string;
  readonly version: { major: number; minor: number };
  readonly #table: Deno.UnsafePointerView;
  readonly #calls = new Map<ApiFunction, Call>();

  private constructor(path: string, api: Deno.PointerObject) {
    this.path = path;
    this.#table = new Deno.UnsafePointerView(api);
    this.version = {
      major: this.#table.getInt32(API_VERSION_OFFSET),
      minor: this.#table.getInt32(API_VERSION_OFFSET + 4),
    };
  }

  /**
   * Opens a plugin and initialises it.
   * @throws UserError where the file is missing, is no plugin, or has a version we cannot drive.
   */
  static open(path: string): Plugin {
    const what = `opening the PJRT plugin '${path}'`;
    if (!exists(path)) throw new UserError(`${what}: there is no such file`, { exitCode: 2 });
    let library;
    try {
      library = Deno.dlopen(path, { GetPjrtApi: { parameters: [], result: "pointer" } });
    } catch (cause) {
      const detail = (cause as Error).message;
      const reason = /GetPjrtApi/.test(detail)
        ? "it is a library, but not a PJRT plugin (it has no function GetPjrtApi)"
        : `it does not load as a library (${detail})`;
      throw new UserError(`${what}: ${reason}`, { exitCode: 2, cause });
    }
    pin(path);
    const api = library.symbols.GetPjrtApi();
    if (api === null) throw new UserError(`${what}: GetPjrtApi returned nothing`);
    const plugin = new Plugin(path, api);
    plugin.#checkVersion(what);
    plugin.call("Plugin_Initialize", new Struct("Plugin_Initialize_Args"), "starting the plugin");
    return plugin;
  }

  #checkVersion(what: string): void {
    const { major, minor } = this.version;
    const ours = `${PJRT_API_MAJOR}.${PJRT_API_MINOR}`;
    if (major !== PJRT_API_MAJOR) {
      throw new UserError(
        `${what}: it speaks PJRT ${major}.${minor}, this program ${ours}; take a plugin of version ${PJRT_API_MAJOR}.x`,
      );
    }
    if (minor < OLDEST_MINOR) {
      throw new UserError(
        `${what}: it speaks PJRT ${major}.${minor}, older than ${PJRT_API_MAJOR}.${OLDEST_MINOR}, the oldest this program can drive; take a newer plugin`,
      );
    }
  }

  /** The function pointer of `name`, made once. */
  fn(name: ApiFunction): Call {
    let call = this.#calls.get(name);
    if (call === undefined) {
      call = new Deno.UnsafeFnPointer(this.#pointer(name) as FnPointer, SIGNATURE);
      this.#calls.set(name, call);
    }
    return call;
  }

  /** As {@link fn}, run on another thread. */
  asyncFn(name: ApiFunction): AsyncCall {
    return new Deno.UnsafeFnPointer(this.#pointer(name) as FnPointer, ASYNC_SIGNATURE);
  }

  #pointer(name: ApiFunction): Deno.PointerObject {
    const offset = API_FUNCTIONS_OFFSET + 8 * API.indexOf(name);
    const known = offset + 8 <= Number(this.#table.getBigUint64(0));
    const pointer = known ? this.#table.getPointer(offset) : null;
    if (pointer === null) {
      throw new UserError(
        `the PJRT plugin '${this.path}' (version ${this.version.major}.${this.version.minor}) does not have PJRT_${name}; take a newer plugin`,
      );
    }
    return pointer;
  }

  /** Calls `name`; an error becomes a PjrtError that begins with `action`. */
  call<S extends StructName>(name: ApiFunction, args: Struct<S>, action: string): Struct<S> {
    this.check(this.fn(name).call(args.bytes), action);
    return args;
  }

  /** Throws what `error` says and frees it; does nothing for null. */
  check(error: Deno.PointerValue, action: string): void {
    if (error === null) return;
    const pointer = BigInt(Deno.UnsafePointer.value(error));
    const code = new Struct("Error_GetCode_Args", { error: pointer });
    const inner = this.fn("Error_GetCode").call(code.bytes);
    const number = inner === null ? code.getInt("code") : 2;
    const message = new Struct("Error_Message_Args", { error: pointer });
    this.fn("Error_Message").call(message.bytes);
    const detail = textAt(message.get("message"), message.get("message_size"));
    this.fn("Error_Destroy").call(new Struct("Error_Destroy_Args", { error: pointer }).bytes);
    // A plugin refuses argument structs that lack fields which it knows and this program does not.
    if (this.version.minor > PJRT_API_MINOR && /Unexpected PJRT_\w+ size/.test(detail)) {
      throw new UserError(
        `${action}: the PJRT plugin '${this.path}' speaks PJRT ${this.version.major}.${this.version.minor}, newer than this program's ` +
          `${PJRT_API_MAJOR}.${PJRT_API_MINOR}, and no longer understands it (${detail}); take an older plugin`,
      );
    }
    throw new PjrtError(action, ERROR_CODES[number] ?? `code ${number}`, detail);
  }
}

/**
 * Keeps a library mapped until the process is gone. Deno closes libraries on its way out, and a plugin's
 * threads still run then: they would crash in code that is no longer there.
 */
function pin(path: string): void {
  if (Deno.build.os !== "linux") return;
  const RTLD_NOW = 0x2;
  const RTLD_NODELETE = 0x1000;
  const file = new TextEncoder().encode(`${path}\0`);
  for (const name of ["libc.so.6", "libdl.so.2"]) {
    try {
      const libc = Deno.dlopen(name, {
        dlopen: { parameters: ["buffer", "i32"], result: "pointer" },
      });
      const handle = libc.symbols.dlopen(file, RTLD_NOW | RTLD_NODELETE);
      libc.close();
      if (handle !== null) return;
    } catch {
      // Older C libraries keep dlopen in libdl; the next name is tried.
    }
  }
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return false;
    }
    throw error;
  }
}
