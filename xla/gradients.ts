/**
 * Gradients that TensorFlow.js lacks: contractions, gathers and scatters by n-dimensional index, strided
 * slices, the k largest, cumulative products, and the zero gradients of comparisons (without them
 * `tf.where(tf.greater(x, 0), x, y)` has no derivative). They are written in tfjs's own operations, so
 * they serve every backend. Those of squaredDifference, cumsum and unstack replace tfjs's, which fail or
 * are wrong in some cases. Importing this module registers them.
 *
 * Not here: complex parts and Fourier transforms. tfjs's tape refuses gradients that are not float32.
 */
import { tf } from "./tf.ts";

type Gradients = Record<string, () => tf.Tensor>;
type Attrs = Record<string, unknown>;

function register(kernelName: string, config: Omit<tf.GradConfig, "kernelName">): void {
  if (tf.getGradient(kernelName) == null) tf.registerGradient({ kernelName, ...config });
}

/** A gradient of one input called `x` that needs nothing but dy and the attributes. */
function linear(kernelName: string, transposed: (dy: tf.Tensor, attrs: Attrs) => tf.Tensor): void {
  const gradFunc = (dy: tf.Tensor | tf.Tensor[], _: tf.Tensor[], attrs: Attrs): Gradients => {
    const input = kernelName === "FlipLeftRight" ? "image" : "x";
    return { [input]: () => transposed(dy as tf.Tensor, attrs) };
  };
  register(kernelName, { gradFunc: gradFunc as tf.GradFunc });
}

/** A gradient from dy and the inputs named in `saves`. */
function saving(
  kernelName: string,
  saves: string[],
  gradients: (dy: tf.Tensor, saved: tf.Tensor[], attrs: Attrs) => Gradients,
): void {
  register(kernelName, { inputsToSave: saves, gradFunc: gradients as unknown as tf.GradFunc });
}

const zeros = (x: tf.Tensor) => tf.zeros(x.shape, "float32");

for (
  const name of ["Equal", "NotEqual", "Greater", "Less", "LessEqual", "LogicalAnd", "LogicalOr"]
) {
  saving(name, ["a", "b"], (_, [a, b]) => ({ a: () => zeros(a!), b: () => zeros(b!) }));
}
for (const name of ["LogicalNot", "All", "Any"]) {
  saving(name, ["x"], (_, [x]) => ({ x: () => zeros(x!) }));
}

register("Einsum", {
  saveAllInputs: true,
  gradFunc: ((dy: tf.Tensor, inputs: tf.Tensor[], { equation }: Attrs): Gradients =>
    einsumGradients(dy, inputs, equation as string)) as unknown as tf.GradFunc,
});

/**
 * d einsum("A,B->O") / dA = einsum("O,B->A"): the same sum with the roles exchanged. A label that only A
 * has was summed alone, so its gradient is the same along it.
 */
function einsumGradients(dy: tf.Tensor, inputs: tf.Tensor[], equation: string): Gradients {
  const [left, output] = equation.replaceAll(" ", "").split("->") as [string, string];
  const terms = left.split(",");
  return Object.fromEntries(
    inputs.map((x, i) => [i, () => {
      const others = terms.flatMap((labels, j) => j === i ? [] : [{ labels, x: inputs[j]! }]);
      const labels = [...terms[i]!];
      const known = labels.filter((label) =>
        output.includes(label) || others.some((other) => other.labels.includes(label))
      );
      const operands = output === "" ? others : [{ labels: output, x: dy }, ...others];
      const sum = operands.length === 0 ? dy : contract(operands, known.join(""));
      const kept = x.shape.map((size, axis) => known.includes(labels[axis]!) ? size : 1);
      const wide = tf.reshape(output === "" && others.length > 0 ? tf.mul(sum, dy) : sum, kept);
      return known.length === labels.length ? wide : tf.broadcastTo(wide, x.shape);
    }]),
  );
}

interface Operand {
  labels: string;
  x: tf.Tensor;
}

/** The einsum of `operands`; labels that one of them has alone are summed first, as tfjs's cpu kernel cannot. */
function contract(operands: readonly Operand[], output: string): tf.Tensor {
  const summed = operands.map(({ labels, x }, i): Operand => {
    const needed = [...labels].map((label) =>
      output.includes(label) || operands.some((other, j) => j !== i && other.labels.includes(label))
    );
    const axes = needed.flatMap((isNeeded, axis) => isNeeded ? [] : [axis]);
    const kept = [...labels].filter((_, axis) => needed[axis]).join("");
    return axes.length === 0 ? { labels, x } : { labels: kept, x: tf.sum(x, axes) };
  });
  const left = summed.map(({ labels }) => labels).join(",");
  return left === output
    ? summed[0]!.x
    : tf.einsum(`${left}->${output}`, ...summed.map((o) => o.x));
}

/** Sums dy over what broadcasting repeated. */
function unbroadcast(dy: tf.Tensor, shape: number[]): tf.Tensor {
  const axes = tf.broadcast_util.getReductionAxes(shape, dy.shape);
  return tf.reshape(axes.length === 0 ? dy : tf.sum(dy, axes), shape);
}

// tfjs's own forgets that its operands may have been broadcast.
tf.unregisterGradient("SquaredDifference");
saving("SquaredDifference", ["a", "b"], (dy, saved) => {
  const [a, b] = saved as [tf.Tensor, tf.Tensor];
  const slope = () => tf.mul(dy, tf.mul(2, tf.sub(a, b)));
  return { a: () => unbroadcast(slope(), a.shape), b: () => unbroadcast(tf.neg(slope()), b.shape) };
});

// tfjs's own leaves the axes of dy in the wrong order where three or more of them were moved.
tf.unregisterGradient("Cumsum");
linear(
  "Cumsum",
  (dy, { axis, exclusive, reverse }) =>
    tf.cumsum(dy, axis as number, exclusive as boolean, !reverse),
);

// tfjs's own takes the gradients for a list, which one of a single result is not.
tf.unregisterGradient("Unpack");
register("Unpack", {
  gradFunc: ((dys: tf.Tensor | tf.Tensor[], _: tf.Tensor[], { axis }: Attrs): Gradients => ({
    value: () => tf.stack([dys].flat(), axis as number),
  })) as tf.GradFunc,
});

saving("GatherNd", ["params", "indices"], (dy, [params, indices]) => ({
  params: () => tf.scatterND(indices!, dy, params!.shape),
  indices: () => zeros(indices!),
}));

saving("ScatterNd", ["indices"], (dy, [indices]) => ({
  indices: () => zeros(indices!),
  updates: () => tf.gatherND(dy, indices!),
}));

// Where an index repeats, the value that was overwritten gets the gradient too, as in TensorFlow.
saving("TensorScatterUpdate", ["indices", "updates"], (dy, [indices, updates]) => ({
  tensor: () => {
    const hits = tf.scatterND(indices!, tf.ones(updates!.shape), dy.shape);
    return tf.mul(dy, tf.cast(tf.equal(hits, 0), "float32"));
  },
  indices: () => zeros(indices!),
  updates: () => tf.gatherND(dy, indices!),
}));

saving("StridedSlice", ["x"], (dy, [x], attrs) => ({
  x: () => {
    const positions = tf.reshape(tf.range(0, x!.size, 1, "int32"), x!.shape);
    const taken = tf.engine().runKernel("StridedSlice", { x: positions }, attrs as tf.NamedAttrMap);
    const places = tf.reshape(taken as tf.Tensor, [dy.size]) as tf.Tensor1D;
    return tf.reshape(tf.unsortedSegmentSum(tf.reshape(dy, [dy.size]), places, x!.size), x!.shape);
  },
}));

register("TopK", {
  inputsToSave: ["x"],
  outputsToSave: [false, true],
  gradFunc: (dys, saved): Gradients => {
    const [x, indices] = saved as [tf.Tensor, tf.Tensor];
    const dy = (dys as tf.Tensor[])[0]!;
    return {
      x: () => {
        const chosen = tf.cast(tf.oneHot(tf.cast(indices, "int32"), x.shape.at(-1)!), "float32");
        return tf.sum(tf.mul(chosen, tf.expandDims(dy, -1)), -2);
      },
    };
  },
});

/** d cumprod_j / dx_i is the product without x_i, for j >= i: taken with x_i set to 1, so zeros are no division by zero. */
saving("Cumprod", ["x"], (dy, [x], attrs) => ({
  x: () => {
    const axis = ((attrs.axis as number) + x!.rank) % x!.rank;
    const n = x!.shape[axis]!;
    const order = x!.shape.map((_, i) => i).filter((i) => i !== axis).concat(axis);
    const last = tf.transpose(x!, order);
    const row = tf.expandDims(last, -2);
    const diagonal = tf.eye(n);
    const without = tf.add(tf.mul(row, tf.sub(1, diagonal)), diagonal);
    const products = tf.cumprod(
      without,
      x!.rank,
      attrs.exclusive as boolean,
      attrs.reverse as boolean,
    );
    // Entry (i, j) counts where x_i is among the factors of output j.
    const ones = tf.sub(1, diagonal);
    const factors = tf.sub(
      1,
      tf.cumprod(ones, 1, attrs.exclusive as boolean, attrs.reverse as boolean),
    );
    const slopes = tf.expandDims(tf.transpose(dy, order), -2);
    const summed = tf.sum(tf.mul(tf.mul(products, factors), slopes), -1);
    return tf.transpose(summed, order.map((_, i) => order.indexOf(i)));
  },
}));

linear("FlipLeftRight", (dy) => tf.image.flipLeftRight(dy as tf.Tensor4D));

linear("DepthToSpace", (dy, { blockSize, dataFormat }) => {
  const block = blockSize as number;
  const first = dataFormat === "NCHW";
  const image = first ? tf.transpose(dy, [0, 2, 3, 1]) : dy;
  const [batch, height, width, depth] = image.shape as [number, number, number, number];
  const [h, w] = [height / block, width / block];
  const cells = tf.transpose(
    tf.reshape(image, [batch, h, block, w, block, depth]),
    [0, 1, 3, 2, 4, 5],
  );
  const deep = tf.reshape(cells, [batch, h, w, block * block * depth]);
  return first ? tf.transpose(deep, [0, 3, 1, 2]) : deep;
});

linear("Diag", (dy) => {
  const shape = dy.shape.slice(0, dy.rank / 2);
  const size = tf.util.sizeFromShape(shape);
  return tf.reshape(tf.sum(tf.mul(tf.reshape(dy, [size, size]), tf.eye(size)), 1), shape);
});
