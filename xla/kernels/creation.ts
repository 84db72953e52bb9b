/** Kernels that make tensors from attributes alone, and one-hot encoding. */
import { type tf } from "../tf.ts";
import { tensor, type Value } from "../hlo/mod.ts";
import { lower, Unsupported } from "./registry.ts";
import { hloType } from "./util.ts";

lower(
  "Fill",
  (
    b,
    _,
    { shape, value, dtype }: { shape: number[]; value: number | string; dtype?: tf.DataType },
  ) => {
    if (typeof value === "string") throw new Unsupported("Fill with a string");
    return b.splat(Number(value), tensor(shape, hloType(dtype ?? "float32")));
  },
);

/** tfjs flips the sign of a step of 1 where stop lies below start. */
lower(
  "Range",
  (
    b,
    _,
    { start, stop, step, dtype }: {
      start: number;
      stop: number;
      step: number;
      dtype?: tf.DataType;
    },
  ) => {
    const type = hloType(dtype ?? "float32");
    const empty = start === stop || (start < stop && step < 0) || (stop < start && step > 1);
    const count = empty ? 0 : Math.abs(Math.ceil((stop - start) / step));
    const stride = stop < start && step === 1 ? -1 : step;
    const result = tensor([count], type);
    return b.add(b.mul(b.iota([count], type, 0), b.splat(stride, result)), b.splat(start, result));
  },
);

lower("LinSpace", (b, _, { start, stop, num }: { start: number; stop: number; num: number }) => {
  const type = tensor([num], "f32");
  const step = num > 1 ? (stop - start) / (num - 1) : 0;
  return b.add(b.mul(b.iota([num], "f32", 0), b.splat(step, type)), b.splat(start, type));
});

interface OneHotAttrs {
  depth: number;
  onValue: number;
  offValue: number;
  dtype: tf.DataType;
}

lower(
  "OneHot",
  (b, { indices }: { indices: Value }, { depth, onValue, offValue, dtype }: OneHotAttrs) => {
    const shape = [...indices.type.shape, depth];
    const wide = b.broadcastInDim(
      b.convert(indices, "i32"),
      shape,
      indices.type.shape.map((_, i) => i),
    );
    const hit = b.compare("EQ", wide, b.iota(shape, "i32", shape.length - 1));
    const type = tensor(shape, hloType(dtype ?? "float32"));
    return b.select(hit, b.splat(onValue, type), b.splat(offValue, type));
  },
);
