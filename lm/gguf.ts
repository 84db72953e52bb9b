/**
 * GGUF files (ggml-org/ggml, docs/gguf.md, versions 2 and 3): metadata, tensors by name and
 * dequantisation to float32 of F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K and Q6_K. GGUF keeps Llama's
 * query and key rows in the order of interleaved rotary embeddings; {@link GgufFile.asHuggingFace}
 * puts them back. Sizes in the file are checked against its real size before they are used.
 */
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { UserError } from "../errors.ts";
import type { ModelConfig } from "./config.ts";
import { type Format, formats } from "./gguf_formats.ts";

export type GgufValue = number | bigint | boolean | string | GgufValue[];

interface GgufTensor {
  readonly name: string;
  /** Row-major, outermost first, as everywhere else (the file has it reversed). */
  readonly shape: readonly number[];
  readonly format: Format;
  readonly begin: number;
}

/** Vocabularies with scores, types and merges have a million at most. */
const MOST_ELEMENTS = 2 ** 22;

/** Reads little-endian fields one after another and knows where the file ends. */
class Cursor {
  private buffer: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  private start = 0;
  position = 0;
  #elements = 0;

  constructor(readonly path: string, readonly handle: FileHandle, readonly size: number) {}

  /** A view of the next `count` bytes. */
  async take(count: number): Promise<DataView<ArrayBuffer>> {
    if (count > this.size - this.position) {
      throw new UserError(
        `${this.path} ends at byte ${this.size}, expected ${count} more bytes at ${this.position}`,
      );
    }
    if (this.position + count > this.start + this.buffer.length) {
      const length = Math.min(Math.max(count, 1 << 20), this.size - this.position);
      const bytes = new Uint8Array(length);
      const { bytesRead } = await this.handle.read(bytes, 0, length, this.position);
      if (bytesRead < count) throw new UserError(`${this.path} ends in the middle of its header`);
      this.buffer = bytes.subarray(0, bytesRead);
      this.start = this.position;
    }
    const view = new DataView(this.buffer.buffer, this.position - this.start, count);
    this.position += count;
    return view;
  }

  /** Counts what becomes objects, which take several times their size in the file. */
  count(elements: number, what: string): void {
    this.#elements += elements;
    if (this.#elements <= MOST_ELEMENTS) return;
    throw new UserError(
      `${this.path}: ${what} make more than ${MOST_ELEMENTS} values and tensors in the header`,
    );
  }

  async u32(): Promise<number> {
    return (await this.take(4)).getUint32(0, true);
  }

  async u64(): Promise<number> {
    const value = (await this.take(8)).getBigUint64(0, true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new UserError(
        `${this.path}: the number ${value} at byte ${this.position} is too large`,
      );
    }
    return Number(value);
  }

  async string(): Promise<string> {
    const view = await this.take(await this.u64());
    return new TextDecoder().decode(view);
  }
}

const ARRAY = 9;
const STRING = 8;

async function readValue(cursor: Cursor, type: number, depth = 0): Promise<GgufValue> {
  switch (type) {
    case 0:
      return (await cursor.take(1)).getUint8(0);
    case 1:
      return (await cursor.take(1)).getInt8(0);
    case 2:
      return (await cursor.take(2)).getUint16(0, true);
    case 3:
      return (await cursor.take(2)).getInt16(0, true);
    case 4:
      return await cursor.u32();
    case 5:
      return (await cursor.take(4)).getInt32(0, true);
    case 6:
      return (await cursor.take(4)).getFloat32(0, true);
    case 7:
      return (await cursor.take(1)).getUint8(0) !== 0;
    case STRING:
      return await cursor.string();
    case ARRAY:
      return await readArray(cursor, depth);
    case 10:
      return (await cursor.take(8)).getBigUint64(0, true);
    case 11:
      return (await cursor.take(8)).getBigInt64(0, true);
    case 12:
      return (await cursor.take(8)).getFloat64(0, true);
    default:
      throw new UserError(`${cursor.path}: unknown metadata type ${type}`);
  }
}

async function readArray(cursor: Cursor, depth: number): Promise<GgufValue[]> {
  const type = await cursor.u32();
  const count = await cursor.u64();
  // Every element takes at least a byte, so a lying count cannot make a large array.
  if (depth > 4 || count > cursor.size - cursor.position) {
    throw new UserError(`${cursor.path}: an array of ${count} elements does not fit the file`);
  }
  cursor.count(count, `an array of ${count} elements and others`);
  const values: GgufValue[] = [];
  for (let i = 0; i < count; i++) values.push(await readValue(cursor, type, depth + 1));
  return values;
}

/** One open GGUF file. Close it, or use `await using`. */
export class GgufFile implements AsyncDisposable {
  private constructor(
    readonly path: string,
    private readonly handle: FileHandle,
    readonly metadata: ReadonlyMap<string, GgufValue>,
    private readonly tensors: ReadonlyMap<string, GgufTensor>,
  ) {}

  /** @throws UserError where the file is not GGUF, truncated, or has an unsupported format. */
  static async open(path: string): Promise<GgufFile> {
    const handle = await open(path, "r").catch((cause) => {
      throw new UserError(`cannot open ${path}: ${cause.message}`, { cause });
    });
    try {
      const { size } = await handle.stat();
      const cursor = new Cursor(path, handle, size);
      const { metadata, tensors } = await readHeader(cursor);
      return new GgufFile(path, handle, metadata, tensors);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  names(): string[] {
    return [...this.tensors.keys()];
  }

  shape(name: string): readonly number[] | undefined {
    return this.tensors.get(name)?.shape;
  }

  /** One tensor dequantised to float32, row-major. */
  async float32(name: string): Promise<Float32Array<ArrayBuffer>> {
    const tensor = this.tensors.get(name);
    if (tensor === undefined) throw new UserError(`${this.path} has no tensor '${name}'`);
    const elements = elementCount(tensor.shape);
    const bytes = new Uint8Array(byteCount(tensor));
    let done = 0;
    while (done < bytes.length) {
      const part = Math.min(bytes.length - done, 1 << 30);
      const { bytesRead } = await this.handle.read(bytes, done, part, tensor.begin + done);
      if (bytesRead === 0) throw new UserError(`${this.path} ends inside tensor '${name}'`);
      done += bytesRead;
    }
    const out = new Float32Array(elements);
    tensor.format.decode(bytes, out);
    return out;
  }

  /** The tensors under Hugging Face names, Llama's query and key rows in Hugging Face order. */
  asHuggingFace(config: ModelConfig) {
    const ggufName = new Map(
      this.names().flatMap((name) => {
        const translated = huggingFaceName(name);
        return translated === undefined ? [] : [[translated, name] as const];
      }),
    );
    const permuted = ["llama", "mistral", "minicpm"].includes(config.modelType);
    return {
      names: () => [...ggufName.keys()],
      entry: (name: string) => {
        const own = ggufName.get(name);
        return own === undefined ? undefined : { shape: this.shape(own)!, file: this.path };
      },
      float32: async (name: string) => {
        const values = await this.float32(ggufName.get(name) ?? name);
        const part = /self_attn\.([qk])_proj\.(weight|bias)$/.exec(name)?.[1];
        if (!permuted || part === undefined) return values;
        const heads = part === "q" ? config.numHeads : config.numKeyValueHeads;
        return unpermute(values, heads, config.headDim);
      },
    };
  }

  async close(): Promise<void> {
    await this.handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

function byteCount(tensor: Pick<GgufTensor, "shape" | "format">): number {
  return elementCount(tensor.shape) / tensor.format.blockElements * tensor.format.blockBytes;
}

async function readHeader(cursor: Cursor) {
  const { path, size } = cursor;
  const magic = new TextDecoder().decode(await cursor.take(4));
  if (magic !== "GGUF") {
    throw new UserError(`${path} is not a GGUF file: it starts with '${magic}'`);
  }
  const version = await cursor.u32();
  if (version !== 2 && version !== 3) {
    throw new UserError(`${path} is GGUF version ${version}, supported are 2 and 3`);
  }
  const tensorCount = await cursor.u64();
  const metadataCount = await cursor.u64();
  cursor.count(tensorCount + metadataCount, `${tensorCount} tensors and ${metadataCount} fields`);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < metadataCount; i++) {
    const key = await cursor.string();
    metadata.set(key, await readValue(cursor, await cursor.u32()));
  }
  const found: (Omit<GgufTensor, "begin"> & { offset: number })[] = [];
  for (let i = 0; i < tensorCount; i++) found.push(await readTensorInfo(cursor));
  const alignment = Number(metadata.get("general.alignment") ?? 32);
  if (!Number.isInteger(alignment) || alignment < 1) {
    throw new UserError(`${path}: general.alignment is ${alignment}, expected a positive integer`);
  }
  const dataStart = Math.ceil(cursor.position / alignment) * alignment;
  const tensors = new Map<string, GgufTensor>();
  for (const { name, shape, format, offset } of found) {
    const begin = dataStart + offset;
    const end = begin + byteCount({ shape, format });
    if (!(end <= size)) {
      throw new UserError(
        `${path}: tensor '${name}' (${format.name} [${shape}]) ends at byte ${end}, ` +
          `the file at ${size}`,
      );
    }
    tensors.set(name, { name, shape, format, begin });
  }
  return { metadata, tensors };
}

async function readTensorInfo(cursor: Cursor) {
  const name = await cursor.string();
  const rank = await cursor.u32();
  if (rank > 4) {
    throw new UserError(`${cursor.path}: tensor '${name}' has rank ${rank}, expected at most 4`);
  }
  const shape: number[] = [];
  for (let i = 0; i < rank; i++) shape.unshift(await cursor.u64());
  const type = await cursor.u32();
  const format = formats.get(type);
  if (format === undefined) {
    const known = [...formats.values()].map((f) => f.name).join(", ");
    throw new UserError(
      `${cursor.path}: tensor '${name}' has ggml type ${type}, supported are ${known}`,
    );
  }
  if ((shape.at(-1) ?? 1) % format.blockElements !== 0) {
    throw new UserError(
      `${cursor.path}: tensor '${name}' has rows of ${shape.at(-1)} values, ` +
        `expected a multiple of ${format.blockElements} for ${format.name}`,
    );
  }
  return { name, shape, format, offset: await cursor.u64() };
}

/** Within a block: ggml's short names to Hugging Face's. */
const layerNames: Record<string, string> = {
  attn_norm: "input_layernorm",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  attn_q_norm: "self_attn.q_norm",
  attn_k_norm: "self_attn.k_norm",
  ffn_norm: "post_attention_layernorm",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};

const topNames: Record<string, string> = {
  "token_embd.weight": "model.embed_tokens.weight",
  "output_norm.weight": "model.norm.weight",
  "output.weight": "lm_head.weight",
};

/** The Hugging Face name; undefined for what Hugging Face does not store (rotary frequencies). */
function huggingFaceName(name: string): string | undefined {
  if (name === "rope_freqs.weight") return undefined;
  const layer = /^blk\.(\d+)\.(\w+)\.(weight|bias)$/.exec(name);
  const inner = layer === null ? undefined : layerNames[layer[2]!];
  if (layer !== null && inner !== undefined) return `model.layers.${layer[1]}.${inner}.${layer[3]}`;
  return topNames[name] ?? name;
}

/** Undoes the interleaving of each head's rows: pairs (2i, 2i + 1) go to (i, i + headDim / 2). */
function unpermute(
  values: Float32Array<ArrayBuffer>,
  heads: number,
  headDim: number,
): Float32Array<ArrayBuffer> {
  const out = new Float32Array(values.length);
  const width = values.length / (heads * headDim);
  for (let head = 0; head < heads; head++) {
    for (let i = 0; i < headDim; i++) {
      const from = (head * headDim + i) * width;
      const to = (head * headDim + (i >> 1) + (i & 1) * (headDim / 2)) * width;
      out.set(values.subarray(from, from + width), to);
    }
  }
  return out;
}
