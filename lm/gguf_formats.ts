/**
 * The number formats of GGUF tensors, dequantised to float32 (layouts: ggml-org/ggml,
 * src/ggml-common.h, the `block_*` structs). Each decoder takes whole blocks.
 */
import { bfloat16ToFloat32, float16ToFloat32, float16Values } from "./floats.ts";

/** How a ggml type packs values: fixed blocks, each decoded alone. */
export interface Format {
  readonly name: string;
  readonly blockElements: number;
  readonly blockBytes: number;
  readonly decode: (bytes: Uint8Array<ArrayBuffer>, out: Float32Array) => void;
}

/** ggml's numeric type ids. */
export const formats: ReadonlyMap<number, Format> = new Map<number, Format>([
  [0, { name: "F32", blockElements: 1, blockBytes: 4, decode: (b, o) => o.set(floats(b)) }],
  [1, { name: "F16", blockElements: 1, blockBytes: 2, decode: (b, o) => o.set(halves(b)) }],
  [2, { name: "Q4_0", blockElements: 32, blockBytes: 18, decode: decodeQ4_0 }],
  [3, { name: "Q4_1", blockElements: 32, blockBytes: 20, decode: decodeQ4_1 }],
  [8, { name: "Q8_0", blockElements: 32, blockBytes: 34, decode: decodeQ8_0 }],
  [12, { name: "Q4_K", blockElements: 256, blockBytes: 144, decode: decodeQ4K }],
  [14, { name: "Q6_K", blockElements: 256, blockBytes: 210, decode: decodeQ6K }],
  [30, { name: "BF16", blockElements: 1, blockBytes: 2, decode: (b, o) => o.set(brains(b)) }],
]);

const floats = (b: Uint8Array<ArrayBuffer>) =>
  new Float32Array(b.buffer, b.byteOffset, b.length / 4);
const halves = (b: Uint8Array<ArrayBuffer>) =>
  float16ToFloat32(new Uint16Array(b.buffer, b.byteOffset, b.length / 2));
const brains = (b: Uint8Array<ArrayBuffer>) =>
  bfloat16ToFloat32(new Uint16Array(b.buffer, b.byteOffset, b.length / 2));

/** The float16 at byte `at`. */
function half(bytes: Uint8Array, at: number): number {
  return float16Values()[bytes[at]! | (bytes[at + 1]! << 8)]!;
}

/** 32 values: scale, then 16 bytes of which the low nibbles are the first half. */
function decodeQ4_0(bytes: Uint8Array, out: Float32Array): void {
  for (let block = 0, at = 0; at < bytes.length; block += 32, at += 18) {
    const scale = half(bytes, at);
    for (let i = 0; i < 16; i++) {
      const byte = bytes[at + 2 + i]!;
      out[block + i] = scale * ((byte & 15) - 8);
      out[block + 16 + i] = scale * ((byte >> 4) - 8);
    }
  }
}

/** As Q4_0, with a minimum instead of the fixed -8. */
function decodeQ4_1(bytes: Uint8Array, out: Float32Array): void {
  for (let block = 0, at = 0; at < bytes.length; block += 32, at += 20) {
    const scale = half(bytes, at);
    const minimum = half(bytes, at + 2);
    for (let i = 0; i < 16; i++) {
      const byte = bytes[at + 4 + i]!;
      out[block + i] = scale * (byte & 15) + minimum;
      out[block + 16 + i] = scale * (byte >> 4) + minimum;
    }
  }
}

function decodeQ8_0(bytes: Uint8Array, out: Float32Array): void {
  for (let block = 0, at = 0; at < bytes.length; block += 32, at += 34) {
    const scale = half(bytes, at);
    for (let i = 0; i < 32; i++) out[block + i] = scale * ((bytes[at + 2 + i]! << 24) >> 24);
  }
}

/**
 * 256 values in 8 groups of 32, each with a 6-bit scale and minimum. The first four groups' are the
 * low 6 bits of 12 packed bytes; the others' are put together from nibbles and the spare top bits.
 */
function decodeQ4K(bytes: Uint8Array, out: Float32Array): void {
  for (let block = 0, at = 0; at < bytes.length; block += 256, at += 144) {
    const scale = half(bytes, at);
    const minimum = half(bytes, at + 2);
    const packed = at + 4;
    for (let group = 0; group < 8; group++) {
      const low = bytes[packed + group]!;
      const next = bytes[packed + group + 4]!;
      let scale6: number;
      let minimum6: number;
      if (group < 4) {
        scale6 = low & 63;
        minimum6 = next & 63;
      } else {
        scale6 = (next & 15) | ((bytes[packed + group - 4]! >> 6) << 4);
        minimum6 = (next >> 4) | ((low >> 6) << 4);
      }
      const d = scale * scale6;
      const m = minimum * minimum6;
      const nibbles = at + 16 + (group >> 1) * 32;
      const shift = (group & 1) * 4;
      const to = block + group * 32;
      for (let i = 0; i < 32; i++) out[to + i] = d * ((bytes[nibbles + i]! >> shift) & 15) - m;
    }
  }
}

/** 256 values of 6 bits (4 low, 2 high), an 8-bit scale for each 16. */
function decodeQ6K(bytes: Uint8Array, out: Float32Array): void {
  for (let block = 0, at = 0; at < bytes.length; block += 256, at += 210) {
    const scale = half(bytes, at + 208);
    for (let part = 0; part < 2; part++) {
      const low = at + part * 64;
      const high = at + 128 + part * 32;
      const scales = at + 192 + part * 8;
      for (let quarter = 0; quarter < 4; quarter++) {
        const to = block + part * 128 + quarter * 32;
        for (let i = 0; i < 32; i++) {
          const nibble = (bytes[low + (quarter & 1) * 32 + i]! >> ((quarter >> 1) * 4)) & 15;
          const top = (bytes[high + i]! >> (quarter * 2)) & 3;
          const scale8 = (bytes[scales + quarter * 2 + (i >> 4)]! << 24) >> 24;
          out[to + i] = scale * scale8 * ((nibble | (top << 4)) - 32);
        }
      }
    }
  }
}
