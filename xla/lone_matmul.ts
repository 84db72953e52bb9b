/**
 * Matrix products that are a whole program on the CPU. XLA's CPU runtime shares a product of about a
 * hundred rows between two threads, and where nothing else keeps them awake, waking the second costs
 * more than it brings (measured for 128 × 128: 130 µs a call, 60 µs cut up). Such a product is cut into
 * blocks of rows small enough that the runtime keeps each on the calling thread. In longer programs the
 * threads are awake, and the product stays whole.
 */
import type { Value } from "./hlo/mod.ts";
import type { Lowering } from "./kernels/mod.ts";

/** Multiply-adds up to which the runtime uses one thread. */
const ONE_THREAD = 700_000;
/** Multiply-adds above which a second thread pays, woken or not. */
const WORTH_WAKING = 3_200_000;

/** `lowering` of BatchMatMul, cut into blocks of rows where that is faster. */
export function cutIntoBlocks(lowering: Lowering): Lowering {
  return (b, inputs, attrs) => {
    const { a, b: right } = inputs as { a: Value; b: Value };
    const rank = a.type.shape.length;
    const rowAxis = rank - (attrs.transposeA ? 1 : 2);
    const rows = a.type.shape[rowAxis]!;
    const inner = a.type.shape[rank - (attrs.transposeA ? 2 : 1)]!;
    const columns = right.type.shape.at(attrs.transposeB ? -2 : -1)!;
    const batch = [...a.type.shape.slice(0, -2), ...right.type.shape.slice(0, -2)];
    const work = rows * inner * columns;
    const whole = rank < 2 || batch.some((size) => size !== 1) || a.type.dtype !== "f32" ||
      work <= ONE_THREAD || work > WORTH_WAKING;
    const blocks = Math.ceil(work / ONE_THREAD);
    if (whole || rows < 8 * blocks) return lowering(b, inputs, attrs);
    const cuts = Array.from({ length: blocks + 1 }, (_, i) => Math.round(rows * i / blocks));
    const products = cuts.slice(1).map((end, i) => {
      const start = a.type.shape.map((_, axis) => axis === rowAxis ? cuts[i]! : 0);
      const limit = a.type.shape.map((size, axis) => axis === rowAxis ? end : size);
      return lowering(b, { ...inputs, a: b.slice(a, start, limit) }, attrs) as Value;
    });
    return b.concatenate(products, products[0]!.type.shape.length - 2);
  };
}
