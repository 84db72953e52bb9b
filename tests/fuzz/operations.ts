/** The operations that random programs are made of, each as an expression on values chosen at random. */
import type { Choice, Known } from "./program.ts";

/** An expression over earlier values, or undefined where none of them fits. */
export type Operation = (choice: Choice) => string | undefined;

type Fits = (value: Known) => boolean;

const float: Fits = ({ dtype }) => dtype === "float32";
const number: Fits = ({ dtype }) => dtype === "float32" || dtype === "int32";
const bool: Fits = ({ dtype }) => dtype === "bool";
const both = (...all: Fits[]): Fits => (value) => all.every((fits) => fits(value));
const rank = (least: number, most = 4): Fits => ({ shape }) =>
  shape.length >= least && shape.length <= most;
const upTo = (largest: number): Fits => (value) => value.largest <= largest;
/** Kinks, ties and steps are only where every backend sees the same bits. */
const exact: Fits = (value) => value.exact;

/** An operation on one value that fits. */
const on = (fits: Fits, text: (x: Known, choice: Choice) => string | undefined): Operation =>
(
  choice,
) => {
  const x = choice.value(fits);
  return x === undefined ? undefined : text(x, choice);
};

const named = (names: readonly string[], fits: Fits): Operation[] =>
  names.map((name) => on(fits, (x) => `tf.${name}(${x.name})`));

function broadcasts(a: readonly number[], b: readonly number[]): boolean {
  for (let i = 1; i <= Math.min(a.length, b.length); i++) {
    const [x, y] = [a.at(-i), b.at(-i)];
    if (x !== y && x !== 1 && y !== 1) return false;
  }
  return true;
}

/** Two values of one dtype whose shapes broadcast. */
const pairs = (fits: Fits, text: (a: string, b: string) => string): Operation =>
  on(fits, (a, choice) => {
    const b = choice.value((value) =>
      fits(value) && value.dtype === a.dtype && broadcasts(a.shape, value.shape)
    );
    return b === undefined ? undefined : text(a.name, b.name);
  });

const binary = (names: readonly string[], fits: Fits): Operation[] =>
  names.map((name) => pairs(fits, (a, b) => `tf.${name}(${a}, ${b})`));

const positive = (x: string) => `tf.add(tf.square(${x}), 0.5)`;

const elementwise: Operation[] = [
  ...named(["sin", "cos", "tanh", "sigmoid", "softplus", "erf", "atan", "asinh"], both(float)),
  ...named(["exp", "expm1", "sinh", "cosh"], both(float, upTo(4))),
  ...named(["square", "neg"], number),
  ...named(["relu", "relu6", "abs", "elu", "selu", "leakyRelu"], both(float, exact)),
  ...named(["floor", "ceil", "round", "sign", "step"], both(float, exact)),
  ...["log", "sqrt", "rsqrt", "reciprocal", "log1p"].map((name) =>
    on(both(float, upTo(10)), (x) => `tf.${name}(${positive(x.name)})`)
  ),
  ...["asin", "acos", "atanh"].map((name) =>
    on(float, (x) => `tf.${name}(tf.mul(tf.sin(${x.name}), 0.8))`)
  ),
  on(both(float, exact), (x, c) => `tf.clipByValue(${x.name}, -${c.below(3)}.5, ${c.below(3)}.5)`),
  on(number, (x, c) => `tf.cast(${x.name}, "${c.of(["float32", "bool"])}")`),
  on(both(float, exact), (x) => `tf.cast(${x.name}, "int32")`),
  on(bool, (x, c) => `tf.cast(${x.name}, "${c.of(["float32", "int32"])}")`),
  on(bool, (x) => `tf.logicalNot(${x.name})`),
  ...binary(["add", "sub", "mul", "squaredDifference"], number),
  ...binary(["maximum", "minimum"], both(number, exact)),
  ...binary(
    ["greater", "greaterEqual", "less", "lessEqual", "equal", "notEqual"],
    both(number, exact),
  ),
  ...binary(["logicalAnd", "logicalOr", "logicalXor"], bool),
  pairs(float, (a, b) => `tf.div(${a}, ${positive(b)})`),
  pairs(both(float, upTo(3)), (a, b) => `tf.pow(${positive(a)}, ${b})`),
  pairs(float, (a, b) => `tf.atan2(${a}, ${positive(b)})`),
  pairs(both(float, exact), (a, b) => `tf.mod(${a}, ${positive(b)})`),
  pairs(
    ({ dtype }) => dtype === "int32",
    (a, b) => `tf.floorDiv(${a}, tf.add(tf.square(${b}), tf.scalar(1, "int32")))`,
  ),
  pairs(both(float, exact), (a, b) => `tf.prelu(${a}, ${b})`),
  on(bool, (condition, c) => {
    const a = c.value((x) => number(x) && broadcasts(condition.shape, x.shape));
    const b = c.value((x) =>
      a !== undefined && x.dtype === a.dtype && broadcasts(a.shape, x.shape) &&
      broadcasts(condition.shape, x.shape)
    );
    if (a === undefined || b === undefined) return undefined;
    return `tf.where(${condition.name}, ${a.name}, ${b.name})`;
  }),
  on(
    number,
    (x) =>
      `tf.where(tf.greater(${x.name}, tf.neg(${x.name})), ${x.name}, tf.mul(${x.name}, tf.scalar(2, "${x.dtype}")))`,
  ),
];

/** An axis list or none, and whether it is kept. */
function reduction(x: Known, c: Choice): string {
  const axes = x.shape.map((_, i) => i).filter(() => c.below(2) === 0);
  return `${x.name}, ${axes.length === 0 ? "undefined" : `[${axes}]`}, ${c.below(2) === 0}`;
}

const reductions: Operation[] = [
  ...["sum", "mean"].map((name) => on(number, (x, c) => `tf.${name}(${reduction(x, c)})`)),
  ...["max", "min"].map((name) =>
    on(both(number, exact, rank(1)), (x, c) => `tf.${name}(${reduction(x, c)})`)
  ),
  ...["any", "all"].map((name) =>
    on(both(bool, rank(1)), (x, c) => `tf.${name}(${reduction(x, c)})`)
  ),
  on(both(float, rank(1), upTo(20)), (x, c) => `tf.logSumExp(${reduction(x, c)})`),
  on(both(float, rank(1), upTo(3)), (x, c) => `tf.prod(${x.name}, [${c.axis(x)}])`),
  on(both(number, exact, rank(1)), (x, c) => `tf.argMax(${x.name}, ${c.axis(x)})`),
  on(both(number, exact, rank(1)), (x, c) => `tf.argMin(${x.name}, ${c.axis(x)})`),
  ...["softmax", "logSoftmax"].map((name) =>
    on(both(float, rank(1), upTo(20)), (x) => `tf.${name}(${x.name})`)
  ),
  on(
    both(number, rank(1)),
    (x, c) => `tf.cumsum(${x.name}, ${c.axis(x)}, ${c.below(2) === 0}, ${c.below(2) === 0})`,
  ),
  on(
    both(float, rank(1), upTo(3)),
    (x, c) => `tf.cumprod(${x.name}, ${c.axis(x)}, ${c.below(2) === 0}, ${c.below(2) === 0})`,
  ),
  on(both(float, rank(1)), (x, c) => `tf.moments(${x.name}, [${c.axis(x)}]).variance`),
  on(
    both(float, exact, rank(1)),
    (x, c) => `tf.topk(${x.name}, ${1 + c.below(x.shape.at(-1)!)}).values`,
  ),
];

const movement: Operation[] = [
  on(rank(0), (x) => `tf.reshape(${x.name}, [${x.shape.length === 1 ? `1, ${x.shape}` : -1}])`),
  on(rank(2), (x, c) => {
    const order = x.shape.map((_, i) => i);
    return `tf.transpose(${x.name}, [${order.toSorted(() => c.below(3) - 1)}])`;
  }),
  on(rank(0, 3), (x, c) => `tf.expandDims(${x.name}, ${c.below(x.shape.length + 1)})`),
  on(({ shape }) => shape.includes(1), (x) => `tf.squeeze(${x.name}, [${x.shape.indexOf(1)}])`),
  on(rank(1), (x, c) => {
    const begin = x.shape.map((size) => c.below(size));
    return `tf.slice(${x.name}, [${begin}], [${
      x.shape.map((size, i) => 1 + c.below(size - begin[i]!))
    }])`;
  }),
  on(both(number, rank(1, 3)), (x, c) => {
    const strides = x.shape.map(() => c.of([1, 2, -1]));
    const begin = x.shape.map((size, i) => strides[i]! < 0 ? size - 1 : 0);
    const end = x.shape.map((size, i) => strides[i]! < 0 ? -size - 1 : size);
    return `tf.stridedSlice(${x.name}, [${begin}], [${end}], [${strides}])`;
  }),
  on(rank(1), (x, c) => {
    const other = c.value((y) => y.dtype === x.dtype && `${y.shape}` === `${x.shape}`)!;
    return `tf.concat([${x.name}, ${other.name}], ${c.axis(x)})`;
  }),
  on(rank(0, 3), (x, c) => {
    const other = c.value((y) => y.dtype === x.dtype && `${y.shape}` === `${x.shape}`)!;
    return `tf.stack([${x.name}, ${other.name}], ${c.below(x.shape.length + 1)})`;
  }),
  on(rank(1), (x, c) => {
    const axis = c.axis(x);
    return `tf.unstack(${x.name}, ${axis})[${c.below(x.shape[axis]!)}]`;
  }),
  on(rank(1, 3), (x, c) => `tf.tile(${x.name}, [${x.shape.map(() => 1 + c.below(2))}])`),
  on(
    both(number, rank(1)),
    (x, c) =>
      `tf.pad(${x.name}, [${x.shape.map(() => `[${c.below(3)}, ${c.below(2)}]`)}], ${c.below(3)})`,
  ),
  on(both(float, rank(1)), (x, c) => {
    const pads = x.shape.map((size) =>
      `[${c.below(Math.min(size, 3))}, ${c.below(Math.min(size, 2))}]`
    );
    return `tf.mirrorPad(${x.name}, [${pads}], "${c.of(["reflect", "symmetric"])}")`;
  }),
  on(both(number, rank(1)), (x, c) => `tf.reverse(${x.name}, [${c.axis(x)}])`),
  on(both(number, rank(1)), (x, c) => {
    const axis = c.axis(x);
    const at = [0, 1, 2].map(() => c.below(x.shape[axis]!));
    return `tf.gather(${x.name}, tf.tensor1d([${at}], "int32"), ${axis})`;
  }),
  on(both(number, rank(2, 2)), (x, c) => {
    const at = [0, 1].map(() => `[${c.below(x.shape[0]!)}, ${c.below(x.shape[1]!)}]`);
    return `tf.gatherND(${x.name}, tf.tensor2d([${at}], [2, 2], "int32"))`;
  }),
  on(both(float, rank(1, 1)), (x) => {
    const at = Array.from({ length: x.shape[0]! }, (_, i) => `[${(i * 2) % 5}]`);
    return `tf.scatterND(tf.tensor2d([${at}], [${x.shape[0]}, 1], "int32"), ${x.name}, [6])`;
  }),
  on(both(float, rank(1)), (x, c) => {
    const ids = Array.from({ length: x.shape[0]! }, () => c.below(3));
    return `tf.unsortedSegmentSum(${x.name}, tf.tensor1d([${ids}], "int32"), 3)`;
  }),
  on(rank(1, 3), (x) => `tf.broadcastTo(${x.name}, [2, ${x.shape}])`),
  on(
    both(({ dtype }) => dtype === "int32", rank(0, 3)),
    (x, c) => `tf.oneHot(${x.name}, ${2 + c.below(4)})`,
  ),
  on(
    ({ shape }) => (shape[0] ?? 0) % 2 === 0 && shape.length > 0,
    (x, c) => `tf.split(${x.name}, 2, 0)[${c.below(2)}]`,
  ),
];

const EINSUMS: readonly [string, number, number][] = [
  ["ij,kj->ik", 2, 2],
  ["ij,ij->i", 2, 2],
  ["ij,ij->", 2, 2],
  ["bij,bkj->bik", 3, 3],
  ["bij,bij->bj", 3, 3],
  ["ij,jk->ki", 2, 2],
];

/** True where equal labels have equal sizes. */
function fitsEinsum(equation: string, a: Known, b: Known): boolean {
  const sizes = new Map<string, number>();
  return equation.split("->")[0]!.split(",").every((labels, t) =>
    [...labels].every((label, i) => {
      const size = [a, b][t]!.shape[i]!;
      const same = (sizes.get(label) ?? size) === size;
      sizes.set(label, size);
      return same;
    })
  );
}

const contractions: Operation[] = [
  on(both(float, rank(2, 3), upTo(30)), (x) => `tf.matMul(${x.name}, ${x.name}, false, true)`),
  on(
    both(float, rank(2, 3), upTo(30)),
    (x) => `tf.matMul(${x.name}, tf.neg(${x.name}), true, false)`,
  ),
  on(both(float, rank(2, 2), upTo(30)), (a, c) => {
    const b = c.value((x) => float(x) && x.shape.length === 2 && x.shape[0] === a.shape[1]);
    return b === undefined ? undefined : `tf.matMul(${a.name}, ${b.name})`;
  }),
  on(both(float, rank(2, 3), upTo(30)), (a, c) => {
    const [equation, ranks] = c.of(EINSUMS);
    const b = c.value((x) =>
      both(float, rank(ranks, ranks), upTo(30))(x) && fitsEinsum(equation, a, x)
    );
    if (a.shape.length !== ranks || b === undefined) return undefined;
    return `tf.einsum("${equation}", ${a.name}, ${b.name})`;
  }),
  on(both(float, rank(1, 1), upTo(30)), (a) => `tf.outerProduct(${a.name}, ${a.name})`),
];

const image: Fits = both(
  float,
  rank(4, 4),
  upTo(50),
  ({ shape }) => shape[1]! > 1 && shape[2]! > 1,
);
const padding = (c: Choice) => `"${c.of(["same", "valid"])}"`;

const images: Operation[] = [
  on(image, (x, c) => {
    const shape = [2, 2, x.shape[3]!, 1 + c.below(3)];
    const size = shape.reduce((a, b) => a * b);
    const filter = Array.from({ length: size }, () => (c.below(9) - 4) / 4);
    return `tf.conv2d(${x.name}, tf.tensor4d([${filter}], [${shape}]), ${1 + c.below(2)}, ${
      padding(c)
    })`;
  }),
  on(image, (x, c) => `tf.avgPool(${x.name}, 2, ${1 + c.below(2)}, ${padding(c)})`),
  on(both(image, exact), (x, c) => `tf.maxPool(${x.name}, 2, ${1 + c.below(2)}, ${padding(c)})`),
  // The gradient of tfjs's cpu kernel confuses height and width.
  on(
    both(image, ({ shape }) => shape[1] === shape[2]),
    (x, c) => `tf.image.resizeBilinear(${x.name}, [${2 + c.below(4)}, ${2 + c.below(4)}])`,
  ),
  on(image, (x) => `tf.image.flipLeftRight(${x.name})`),
];

/** Every operation, some twice to be drawn more often. */
export const operations: readonly Operation[] = [
  ...elementwise,
  ...reductions,
  ...movement,
  ...contractions,
  ...contractions,
  ...images,
  ...images,
];
