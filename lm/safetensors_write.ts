/**
 * Writing safetensors files, tensor by tensor and atomically: a temporary file, synced, then renamed.
 */
import { open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { UserError } from "../errors.ts";
import { float32ToBfloat16, float32ToFloat16 } from "./floats.ts";
import { bytesPerElement } from "./safetensors.ts";

/** A tensor to write; `data` is asked for when its turn comes, so that one is in memory at a time. */
export interface TensorToWrite {
  readonly shape: readonly number[];
  readonly dtype: "F32" | "F16" | "BF16" | "I64";
  /** Row-major values: floats for F*, integers for I64. */
  data(): Promise<Float32Array | BigInt64Array> | Float32Array | BigInt64Array;
}

function encode(tensor: TensorToWrite, values: Float32Array | BigInt64Array): Uint8Array {
  if (values instanceof BigInt64Array) return bytesOf(values);
  if (tensor.dtype === "F16") return bytesOf(float32ToFloat16(values));
  if (tensor.dtype === "BF16") return bytesOf(float32ToBfloat16(values));
  return bytesOf(values);
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/**
 * Writes one safetensors file atomically: after a crash or a full disk either the old file or the
 * whole new one is there.
 * @throws UserError where the disk refuses.
 */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, TensorToWrite>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const [name, tensor] of tensors) {
    const elements = tensor.shape.reduce((product, dim) => product * dim, 1);
    const end = offset + elements * bytesPerElement[tensor.dtype];
    header[name] = { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  // Spaces after the header keep the data aligned to 8 bytes, as the reference writer does.
  const padded = new Uint8Array(Math.ceil(json.length / 8) * 8).fill(0x20);
  padded.set(json);
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, BigInt(padded.length), true);

  const temporary = join(dirname(path), `.${basename(path)}.${crypto.randomUUID()}.tmp`);
  try {
    const handle = await open(temporary, "wx");
    try {
      await handle.writeFile(prefix);
      await handle.writeFile(padded);
      for (const [name, tensor] of tensors) {
        const values = await tensor.data();
        const elements = tensor.shape.reduce((product, dim) => product * dim, 1);
        if (values.length !== elements) {
          throw new TypeError(`tensor '${name}' has ${values.length} values for [${tensor.shape}]`);
        }
        await handle.writeFile(encode(tensor, values));
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    if (cause instanceof TypeError) throw cause;
    throw new UserError(`cannot write ${path}: ${(cause as Error).message}`, { cause });
  }
}
