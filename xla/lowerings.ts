/**
 * StableHLO of the kernels that tfjs does not have: slices at traced starts, the compute dtype, the
 * optimisation barrier and threefry random bits. Same form as `kernels/`.
 */
import type { Builder, Value } from "./hlo/mod.ts";
import { int8Product, quantized } from "./int8.ts";
import type { KernelAttrs, KernelInputs, Lowering } from "./kernels/mod.ts";

const ROTATIONS = [[13, 15, 26, 6], [17, 29, 16, 24]] as const;

/** One Threefry-2x32 block on ui32 values of one shape; see `random.ts` for the source. */
function threefry(
  b: Builder,
  [k0, k1]: readonly [Value, Value],
  counter: readonly [Value, Value],
): [Value, Value] {
  const constant = (value: number) => b.splat(value, k0.type);
  const schedule = [
    k0,
    k1,
    b.binary("xor", b.binary("xor", k0, k1), constant(0x1bd11bda)),
  ] as const;
  let [x0, x1] = [b.add(counter[0], k0), b.add(counter[1], k1)];
  for (let round = 0; round < 5; round++) {
    for (const r of ROTATIONS[round % 2]!) {
      x0 = b.add(x0, x1);
      const left = b.binary("shift_left", x1, constant(r));
      const right = b.binary("shift_right_logical", x1, constant(32 - r));
      x1 = b.binary("xor", b.or(left, right), x0);
    }
    x0 = b.add(x0, schedule[(round + 1) % 3]!);
    x1 = b.add(b.add(x1, schedule[(round + 2) % 3]!), constant(round + 1));
  }
  return [x0, x1];
}

/** The two words of a key, each broadcast to [n]. */
function keyWords(b: Builder, key: Value, n: number): [Value, Value] {
  const words = b.bitcastConvert(key, "ui32");
  const word = (i: number) =>
    b.broadcastInDim(b.reshape(b.slice(words, [i], [i + 1]), []), [n], []);
  return [word(0), word(1)];
}

function blocks(b: Builder, key: Value, n: number): [Value, Value] {
  const words = keyWords(b, key, n);
  const counter = b.iota([n], "ui32", 0);
  return threefry(b, words, [b.splat(0, counter.type), counter]);
}

function one(inputs: KernelInputs, name: string): Value {
  const value = inputs[name];
  if (value === undefined || Array.isArray(value)) throw new Error(`kernel needs input ${name}`);
  return value;
}

function starts(inputs: KernelInputs): Value[] {
  const list: Value[] = [];
  while (`start${list.length}` in inputs) list.push(one(inputs, `start${list.length}`));
  return list;
}

/** float32 or bfloat16 by name. */
function asType(b: Builder, x: Value, dtype: "bf16" | "f32"): Value {
  return x.type.dtype === dtype ? x : b.convert(x, dtype);
}

export const OWN_LOWERINGS: ReadonlyMap<string, Lowering> = new Map<string, Lowering>([
  [
    "DynamicSlice",
    (b, inputs, attrs) => b.dynamicSlice(one(inputs, "x"), starts(inputs), attrs.sizes as number[]),
  ],
  ["DynamicUpdateSlice", (b, inputs) => {
    const x = one(inputs, "x");
    const update = one(inputs, "update");
    const fitting = update.type.dtype === x.type.dtype ? update : b.convert(update, x.type.dtype);
    return b.dynamicUpdateSlice(x, fitting, starts(inputs));
  }],
  ["AsType", (b, inputs, attrs: KernelAttrs) => {
    const x = one(inputs, "x");
    return asType(b, x, attrs.dtype === "bfloat16" ? "bf16" : "f32");
  }],
  ["AsTypeOf", (b, inputs) => {
    const like = one(inputs, "like").type.dtype;
    return asType(b, one(inputs, "x"), like === "bf16" ? "bf16" : "f32");
  }],
  ["MatMulRows", (b, inputs) => {
    // The barriers keep XLA from folding the turns into the product, which would undo them.
    const [turned] = b.optimizationBarrier([b.transpose(one(inputs, "x"), [1, 0])]);
    const dims = { lhsContracting: [1], rhsContracting: [0] };
    const [product] = b.optimizationBarrier([b.dotGeneral(one(inputs, "w"), turned!, dims)]);
    return b.transpose(product!, [1, 0]);
  }],
  ["QuantizeRows", (b, inputs) => quantized(b, one(inputs, "x"))],
  [
    "Int8MatMul",
    (b, inputs) => int8Product(b, one(inputs, "x"), one(inputs, "values"), one(inputs, "scales")),
  ],
  [
    "OptimizationBarrier",
    (b, inputs) => b.optimizationBarrier([one(inputs, "x"), one(inputs, "after")])[0]!,
  ],
  [
    "ShardingConstraint",
    (b, inputs, attrs) => b.shardingConstraint(one(inputs, "x"), attrs.sharding as string),
  ],
  ["ThreefryBlocks", (b, inputs, attrs) => {
    const n = attrs.n as number;
    const words = blocks(b, one(inputs, "key"), n).map((x) => b.reshape(x, [n, 1]));
    return b.bitcastConvert(b.concatenate(words, 1), "i32");
  }],
  ["ThreefryFoldIn", (b, inputs) => {
    const words = keyWords(b, one(inputs, "key"), 1);
    const data = b.reshape(b.bitcastConvert(one(inputs, "data"), "ui32"), [1]);
    const both = threefry(b, words, [b.splat(0, data.type), data]);
    return b.bitcastConvert(b.concatenate(both, 0), "i32");
  }],
  ["ThreefryUniform", (b, inputs, attrs) => {
    const shape = attrs.shape as number[];
    const n = shape.reduce((product, size) => product * size, 1);
    const [x0, x1] = blocks(b, one(inputs, "key"), n);
    const bits = b.binary("xor", x0, x1);
    const mantissa = b.binary("shift_right_logical", bits, b.splat(9, bits.type));
    const oneToTwo = b.bitcastConvert(b.or(mantissa, b.splat(0x3f800000, bits.type)), "f32");
    return b.reshape(b.sub(oneToTwo, b.splat(1, oneToTwo.type)), shape);
  }],
]);
