/** Conversions between float32 and the two 16-bit float formats of checkpoints, exact both ways. */

/** All 65,536 float16 values, so that a conversion is one look-up. Made on first use. */
let halfTable: Float32Array | undefined;

function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The value of each float16 bit pattern. */
export function float16Values(): Float32Array {
  return halfTable ??= Float32Array.from({ length: 65536 }, (_, bits) => halfToNumber(bits));
}

/** IEEE half precision to single precision. */
export function float16ToFloat32(half: Uint16Array): Float32Array {
  const table = float16Values();
  const out = new Float32Array(half.length);
  for (let i = 0; i < half.length; i++) out[i] = table[half[i]!]!;
  return out;
}

/** bfloat16 (the upper half of a float32) to float32. */
export function bfloat16ToFloat32(brain: Uint16Array): Float32Array {
  const out = new Float32Array(brain.length);
  const bits = new Uint32Array(out.buffer);
  for (let i = 0; i < brain.length; i++) bits[i] = brain[i]! << 16;
  return out;
}

/** float32 to bfloat16, rounded to nearest even; NaN stays NaN. */
export function float32ToBfloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < out.length; i++) {
    const b = bits[i]!;
    out[i] = Number.isNaN(values[i]!) ? (b >>> 16) | 0x40 : (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
  }
  return out;
}

/** float32 to IEEE half precision, rounded to nearest even; too large becomes infinite. */
export function float32ToFloat16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < out.length; i++) {
    const b = bits[i]!;
    const sign = (b >>> 16) & 0x8000;
    const magnitude = b & 0x7fffffff;
    if (magnitude > 0x7f800000) out[i] = sign | 0x7e00;
    else if (magnitude >= 0x477ff000) out[i] = sign | 0x7c00;
    else if (magnitude >= 0x38800000) {
      const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
      out[i] = sign | ((rounded - 0x38000000) >>> 13);
    } else {
      // Subnormal: the value in units of 2^-24, rounded to nearest even.
      const scaled = Math.abs(values[i]!) * 2 ** 24;
      const floor = Math.floor(scaled);
      const rest = scaled - floor;
      const up = rest > 0.5 || (rest === 0.5 && floor % 2 === 1);
      out[i] = sign | (up ? floor + 1 : floor);
    }
  }
  return out;
}
