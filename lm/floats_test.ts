import assert from "node:assert/strict";
import {
  bfloat16ToFloat32,
  float16ToFloat32,
  float32ToBfloat16,
  float32ToFloat16,
} from "./floats.ts";

const patterns = Uint16Array.from({ length: 65536 }, (_, bits) => bits);

Deno.test("every 16-bit pattern survives the way to float32 and back", () => {
  const pairs = [
    [float16ToFloat32, float32ToFloat16, 0x7c00, 0x3ff],
    [bfloat16ToFloat32, float32ToBfloat16, 0x7f80, 0x7f],
  ] as const;
  for (const [widen, narrow, infinity, fraction] of pairs) {
    const wide = widen(patterns);
    const back = narrow(wide);
    for (let bits = 0; bits < 65536; bits++) {
      const isNaNPattern = (bits & infinity) === infinity && (bits & fraction) !== 0;
      assert.equal(Number.isNaN(wide[bits]!), isNaNPattern);
      if (!isNaNPattern) assert.equal(back[bits], bits);
      else assert.ok(Number.isNaN(widen(back.subarray(bits, bits + 1))[0]!));
    }
  }
});

Deno.test("float32 rounds to the nearest half, ties to even, and overflows to infinity", () => {
  const half = (x: number) => float16ToFloat32(float32ToFloat16(Float32Array.of(x)))[0]!;
  // Deno's own Float16Array rounds as IEEE 754 says.
  for (const base of [1, 2 ** -14, 2 ** -24, 65504, 0.1, 1 / 3, 2 ** -15, 1023 * 2 ** -24]) {
    for (const factor of [1, 1 + 2 ** -12, 1 + 2 ** -11, 1 + 3 * 2 ** -12, 0.5, 1.5, -1.0003]) {
      const x = Math.fround(base * factor);
      assert.equal(half(x), Math.f16round(x), `${x}`);
    }
  }
  assert.equal(half(65520), Infinity);
  assert.equal(half(-1e30), -Infinity);
});

Deno.test("float32 rounds to the nearest bfloat16, ties to even", () => {
  const brain = (x: number) => bfloat16ToFloat32(float32ToBfloat16(Float32Array.of(x)))[0]!;
  assert.equal(brain(1 + 2 ** -8), 1);
  assert.equal(brain(1 + 3 * 2 ** -8), 1 + 2 ** -6);
  assert.equal(brain(1 + 2 ** -8 + 2 ** -20), 1 + 2 ** -7);
  assert.equal(brain(3.4e38), Infinity);
});
