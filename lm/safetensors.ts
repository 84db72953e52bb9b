/**
 * Safetensors files: an 8-byte little-endian header length, a JSON header, then the tensors' bytes
 * (format: github.com/huggingface/safetensors, README "Format"). Reading is tensor by tensor, so host
 * memory holds the header and one tensor. Every number in the header is checked against the file's real
 * size before anything is allocated; a file that lies is refused with its name, the tensor, what was
 * expected and what was found.
 */
import { open, stat } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { UserError } from "../errors.ts";
import { readJson } from "./json.ts";
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16 } from "./floats.ts";

export const bytesPerElement = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
} as const;
export type SafetensorsType = keyof typeof bytesPerElement;

/** Where a tensor lies: its element type, its shape and its absolute byte range in a file. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: SafetensorsType;
  readonly shape: readonly number[];
  readonly file: string;
  readonly begin: number;
  readonly end: number;
}

/** The reference implementation refuses headers above this size as well. */
const MAX_HEADER_BYTES = 100_000_000;

const headerEntry = z.strictObject({
  dtype: z.string(),
  shape: z.array(z.number().int().nonnegative()),
  data_offsets: z.tuple([z.number().int().nonnegative(), z.number().int().nonnegative()]),
});

/** Memory that tensors are read into one after the other, as large as the largest so far. */
export class ReadRoom {
  #buffer = new ArrayBuffer(0);

  /** Room for so many bytes, which the next call gives away again. */
  take(length: number): Uint8Array<ArrayBuffer> {
    if (this.#buffer.byteLength < length) this.#buffer = new ArrayBuffer(length);
    return new Uint8Array(this.#buffer, 0, length);
  }
}

/** One open safetensors file. Close it, or use `await using`. */
export class SafetensorsFile implements AsyncDisposable {
  private constructor(
    readonly path: string,
    private readonly handle: FileHandle,
    readonly entries: ReadonlyMap<string, TensorEntry>,
    readonly metadata: Readonly<Record<string, string>>,
  ) {}

  /** @throws UserError where the file is missing, truncated or its header is not true. */
  static async open(path: string): Promise<SafetensorsFile> {
    const handle = await openForReading(path);
    try {
      const { size } = await handle.stat();
      const { entries, metadata } = await readHeader(path, handle, size);
      return new SafetensorsFile(path, handle, entries, metadata);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  #entry(name: string): TensorEntry {
    const entry = this.entries.get(name);
    if (entry === undefined) throw new UserError(`${this.path} has no tensor '${name}'`);
    return entry;
  }

  /** The bytes of one tensor, little-endian and row-major, as they stand in the file. */
  async bytes(name: string, room?: ReadRoom): Promise<Uint8Array<ArrayBuffer>> {
    const { begin, end } = this.#entry(name);
    const into = room?.take(end - begin) ?? new Uint8Array(end - begin);
    await readInto(this.path, this.handle, begin, into);
    return into;
  }

  /** One tensor as the bits of bfloat16, rounded where the file has more; in `room` where it has not. */
  async bfloat16(name: string, room?: ReadRoom): Promise<Uint16Array<ArrayBuffer>> {
    if (this.#entry(name).dtype !== "BF16") return float32ToBfloat16(await this.float32(name));
    const bytes = await this.bytes(name, room);
    return new Uint16Array(bytes.buffer, 0, bytes.length / 2);
  }

  /** One tensor as float32: F32, F16, BF16 and F64 (rounded). */
  async float32(name: string): Promise<Float32Array> {
    const { dtype } = this.#entry(name);
    const bytes = await this.bytes(name);
    switch (dtype) {
      case "F32":
        return new Float32Array(bytes.buffer);
      case "F16":
        return float16ToFloat32(new Uint16Array(bytes.buffer));
      case "BF16":
        return bfloat16ToFloat32(new Uint16Array(bytes.buffer));
      case "F64":
        return Float32Array.from(new Float64Array(bytes.buffer));
      default:
        throw new UserError(`${this.path}: tensor '${name}' is ${dtype}, expected a float type`);
    }
  }

  /** One integer or bool tensor as numbers; 64-bit values beyond 2^53 are refused. */
  async integers(name: string): Promise<number[]> {
    const { dtype } = this.#entry(name);
    const { buffer } = await this.bytes(name);
    switch (dtype) {
      case "I64":
      case "U64":
        return Array.from(
          dtype === "I64" ? new BigInt64Array(buffer) : new BigUint64Array(buffer),
          (value) => {
            const number = Number(value);
            if (!Number.isSafeInteger(number)) {
              throw new UserError(`${this.path}: tensor '${name}' holds ${value}, beyond 2^53`);
            }
            return number;
          },
        );
      case "I32":
        return Array.from(new Int32Array(buffer));
      case "U32":
        return Array.from(new Uint32Array(buffer));
      case "I16":
        return Array.from(new Int16Array(buffer));
      case "U16":
        return Array.from(new Uint16Array(buffer));
      case "I8":
        return Array.from(new Int8Array(buffer));
      case "U8":
      case "BOOL":
        return Array.from(new Uint8Array(buffer));
      default:
        throw new UserError(`${this.path}: tensor '${name}' is ${dtype}, expected integers`);
    }
  }

  async close(): Promise<void> {
    await this.handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function openForReading(path: string): Promise<FileHandle> {
  try {
    return await open(path, "r");
  } catch (cause) {
    throw new UserError(`cannot open ${path}: ${(cause as Error).message}`, { cause });
  }
}

async function readExactly(
  path: string,
  handle: FileHandle,
  position: number,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  await readInto(path, handle, position, bytes);
  return bytes;
}

async function readInto(
  path: string,
  handle: FileHandle,
  position: number,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const { length } = bytes;
  let done = 0;
  while (done < length) {
    // One read call takes at most 2^31 - 1 bytes.
    const part = Math.min(length - done, 1 << 30);
    const { bytesRead } = await handle.read(bytes, done, part, position + done);
    if (bytesRead === 0) {
      throw new UserError(`${path} ends at byte ${position + done}, expected ${position + length}`);
    }
    done += bytesRead;
  }
}

async function readHeader(path: string, handle: FileHandle, size: number) {
  if (size < 10) {
    throw new UserError(
      `${path} is not a safetensors file: it has ${size} bytes, at least 10 expected`,
    );
  }
  const prefix = await readExactly(path, handle, 0, 8);
  const headerBytes = Number(new DataView(prefix.buffer).getBigUint64(0, true));
  if (headerBytes > MAX_HEADER_BYTES || headerBytes > size - 8) {
    throw new UserError(
      `${path}: the header claims ${headerBytes} bytes, expected at most ` +
        `${
          Math.min(MAX_HEADER_BYTES, size - 8)
        } in a file of ${size}; truncated or not safetensors?`,
    );
  }
  const text = await readExactly(path, handle, 8, headerBytes);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(text));
  } catch (cause) {
    throw new UserError(`${path}: the header is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) {
    throw new UserError(`${path}: the header must be a JSON object`);
  }
  const entries: TensorEntry[] = [];
  let metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") {
      const parsed = z.record(z.string(), z.string()).safeParse(value);
      if (!parsed.success) throw new UserError(`${path}: __metadata__ must map strings to strings`);
      metadata = parsed.data;
    } else {
      entries.push(checkedEntry(path, name, value, 8 + headerBytes, size));
    }
  }
  checkLayout(path, entries, 8 + headerBytes, size);
  return { entries: new Map(entries.map((entry) => [entry.name, entry])), metadata };
}

function checkedEntry(
  path: string,
  name: string,
  value: unknown,
  dataStart: number,
  size: number,
): TensorEntry {
  const refuse = (found: string, expected: string) =>
    new UserError(`${path}: tensor '${name}' has ${found}, expected ${expected}`);
  const parsed = headerEntry.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw refuse(
      `a bad entry (${issue.path.join(".")}: ${issue.message})`,
      "dtype, shape, offsets",
    );
  }
  const { dtype, shape, data_offsets: [begin, end] } = parsed.data;
  if (!Object.hasOwn(bytesPerElement, dtype)) {
    throw refuse(`dtype ${dtype}`, `one of ${Object.keys(bytesPerElement).join(", ")}`);
  }
  const type = dtype as SafetensorsType;
  const elements = shape.reduce((product, dim) => product * dim, 1);
  const expected = elements * bytesPerElement[type];
  if (!Number.isSafeInteger(expected) || end - begin !== expected) {
    throw refuse(`offsets [${begin}, ${end}]`, `${expected} bytes for ${type} [${shape}]`);
  }
  if (dataStart + end > size) {
    throw refuse(`data up to byte ${dataStart + end}`, `a file longer than its ${size} bytes`);
  }
  return { name, dtype: type, shape, file: path, begin: dataStart + begin, end: dataStart + end };
}

/** The tensors must tile the data: no overlap, no hole, no trailing bytes. */
function checkLayout(path: string, entries: TensorEntry[], dataStart: number, size: number): void {
  const sorted = entries.toSorted((a, b) => a.begin - b.begin || a.end - b.end);
  let at = dataStart;
  for (const entry of sorted) {
    if (entry.begin !== at) {
      throw new UserError(
        `${path}: tensor '${entry.name}' starts at byte ${entry.begin}, expected ${at}: ` +
          (entry.begin < at ? "it overlaps the one before" : "there is a hole before it"),
      );
    }
    at = entry.end;
  }
  if (at !== size) throw new UserError(`${path} has ${size} bytes, its tensors end at ${at}`);
}

const indexFile = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

/** The tensors of a checkpoint folder: `model.safetensors`, or the shards its index names. */
export class SafetensorsFolder implements AsyncDisposable {
  private constructor(
    readonly folder: string,
    private readonly files: readonly SafetensorsFile[],
    private readonly fileOf: ReadonlyMap<string, SafetensorsFile>,
  ) {}

  /** @throws UserError where files are missing or the index and its shards disagree. */
  static async open(folder: string): Promise<SafetensorsFolder> {
    const single = join(folder, "model.safetensors");
    const index = join(folder, "model.safetensors.index.json");
    if (await exists(single)) {
      const file = await SafetensorsFile.open(single);
      const fileOf = new Map([...file.entries.keys()].map((name) => [name, file]));
      return new SafetensorsFolder(folder, [file], fileOf);
    }
    if (!(await exists(index))) {
      throw new UserError(
        `${folder} holds neither model.safetensors nor model.safetensors.index.json`,
      );
    }
    return await SafetensorsFolder.#openShards(folder, index);
  }

  static async #openShards(folder: string, index: string): Promise<SafetensorsFolder> {
    const parsed = indexFile.safeParse(await readJson(index));
    if (!parsed.success) throw new UserError(`${index} must have a weight_map of tensors to files`);
    const shards = new Map<string, SafetensorsFile>();
    try {
      const fileOf = new Map<string, SafetensorsFile>();
      for (const [name, shard] of Object.entries(parsed.data.weight_map)) {
        if (basename(shard) !== shard || shard.startsWith(".")) {
          throw new UserError(
            `${index}: tensor '${name}' points outside the folder, at '${shard}'`,
          );
        }
        let file = shards.get(shard);
        if (file === undefined) {
          file = await SafetensorsFile.open(join(folder, shard));
          shards.set(shard, file);
        }
        if (!file.entries.has(name)) {
          throw new UserError(`${index} expects tensor '${name}' in ${shard}, which lacks it`);
        }
        fileOf.set(name, file);
      }
      return new SafetensorsFolder(folder, [...shards.values()], fileOf);
    } catch (error) {
      for (const file of shards.values()) await file.close();
      throw error;
    }
  }

  names(): string[] {
    return [...this.fileOf.keys()];
  }

  entry(name: string): TensorEntry | undefined {
    return this.fileOf.get(name)?.entries.get(name);
  }

  async float32(name: string): Promise<Float32Array> {
    return await this.#file(name).float32(name);
  }

  /** As {@link SafetensorsFile.bfloat16}. */
  async bfloat16(name: string, room?: ReadRoom): Promise<Uint16Array<ArrayBuffer>> {
    return await this.#file(name).bfloat16(name, room);
  }

  #file(name: string): SafetensorsFile {
    const file = this.fileOf.get(name);
    if (file === undefined) throw new UserError(`${this.folder} has no tensor '${name}'`);
    return file;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const file of this.files) await file.close();
  }
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(() => true, () => false);
}
