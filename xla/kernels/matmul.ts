/** Contractions: matrix products with their fused epilogues, and einsum. No operand is transposed or copied beforehand. */
import { type Builder, type DotDimensions, type Value } from "../hlo/mod.ts";
import { tf } from "../tf.ts";
import { type KernelInputs, lower } from "./registry.ts";
import { activate } from "./unary.ts";
import { type AB, align, broadcastShapes, broadcastTo, commonType, listOf, range } from "./util.ts";

/**
 * a @ b over the last two dimensions; leading dimensions broadcast. Where only `a` has leading
 * dimensions (a batch times one weight matrix) they stay free dimensions of one large product.
 */
export function matMul(
  b: Builder,
  lhs: Value,
  rhs: Value,
  transposeA: boolean,
  transposeB: boolean,
): Value {
  if (lhs.type.shape.length < 2 || rhs.type.shape.length < 2) {
    throw new Error(
      `matMul takes matrices, got shapes [${lhs.type.shape}] and [${rhs.type.shape}]`,
    );
  }
  const [x, y] = matchFloats(b, lhs, rhs);
  const contractX = x.type.shape.length - (transposeA ? 2 : 1);
  const rankY = y.type.shape.length;
  const batchX = x.type.shape.slice(0, -2);
  const batchY = y.type.shape.slice(0, -2);
  const contracting = (rank: number, transposed: boolean, left: boolean) =>
    rank - (transposed === left ? 2 : 1);
  if (
    batchY.every((size) => size === 1) && batchX.length >= batchY.length &&
    (!transposeA || batchX.length === 0)
  ) {
    const matrix = b.reshape(y, y.type.shape.slice(-2));
    return dot(b, x, matrix, {
      lhsContracting: [contractX],
      rhsContracting: [contracting(2, transposeB, false)],
    });
  }
  const batch = broadcastShapes(batchX, batchY);
  const wideX = broadcastTo(b, x, [...batch, ...x.type.shape.slice(-2)]);
  const wideY = rankY === batch.length + 2 && batchY.every((size, i) => size === batch[i])
    ? y
    : broadcastTo(b, y, [...batch, ...y.type.shape.slice(-2)]);
  return dot(b, wideX, wideY, {
    lhsContracting: [contracting(batch.length + 2, transposeA, true)],
    rhsContracting: [contracting(batch.length + 2, transposeB, false)],
    lhsBatching: range(batch.length),
    rhsBatching: range(batch.length),
  });
}

/**
 * Products of bfloat16 are summed in float32 and rounded once. Said so in the program, because the CPU's
 * fast kernels give float32 and XLA then drops the rounding where what follows wants float32 anyway.
 */
function dot(b: Builder, x: Value, y: Value, dims: DotDimensions): Value {
  if (x.type.dtype !== "bf16") return b.dotGeneral(x, y, dims);
  return b.convert(b.dotGeneral(x, y, dims, "f32"), "bf16");
}

/** Operands in one type; tfjs multiplies bool and int32 matrices too. */
function matchFloats(b: Builder, x: Value, y: Value): [Value, Value] {
  if (x.type.dtype === y.type.dtype) {
    return x.type.dtype === "i1" ? [b.convert(x, "i32"), b.convert(y, "i32")] : [x, y];
  }
  const dtype = commonType(x, y);
  return [b.convert(x, dtype), b.convert(y, dtype)];
}

interface MatMulAttrs {
  transposeA: boolean;
  transposeB: boolean;
}

lower(
  "BatchMatMul",
  (b, inputs: AB, { transposeA, transposeB }: MatMulAttrs) =>
    matMul(b, inputs.a, inputs.b, transposeA, transposeB),
);

interface FusedInputs extends AB {
  bias?: Value;
  preluActivationWeights?: Value;
}

interface FusedAttrs extends MatMulAttrs {
  activation?: string;
  leakyreluAlpha?: number;
}

lower("_FusedMatMul", (b, inputs: FusedInputs, attrs: FusedAttrs) => {
  const product = matMul(b, inputs.a, inputs.b, attrs.transposeA, attrs.transposeB);
  const sum = inputs.bias === undefined ? product : b.add(...align(b, product, inputs.bias));
  return activate(b, sum, attrs.activation, {
    preluWeights: inputs.preluActivationWeights,
    leakyreluAlpha: attrs.leakyreluAlpha,
  });
});

interface Labelled {
  value: Value;
  labels: string[];
}

/**
 * Einstein summation: operands are contracted left to right, each pair by one `dot_general` whose
 * batching labels are those both have and are needed later.
 */
lower("Einsum", (b, inputs: KernelInputs, { equation }: { equation: string }) => {
  const values = listOf(inputs);
  // tfjs's own reading throws what its users expect for a malformed equation.
  const { allDims, idDims } = tf.backend_util.decodeEinsumEquation(equation, values.length);
  const tensors = values.map((v) => ({ shape: [...v.type.shape] }) as tf.Tensor);
  tf.backend_util.checkEinsumDimSizes(allDims.length, idDims, tensors);
  const [left, output] = equation.replaceAll(" ", "").split("->");
  const terms = left!.split(",");
  const out = [...output!];
  let rest: Labelled[] = terms.map((term, i) => ({ value: values[i]!, labels: [...term] }));
  while (rest.length > 1) {
    const [first, second, ...others] = rest as [Labelled, Labelled, ...Labelled[]];
    const needed = new Set([...out, ...others.flatMap((term) => term.labels)]);
    rest = [contract(b, first, second, needed), ...others];
  }
  const result = sumOut(b, rest[0]!, new Set(out));
  return b.transpose(result.value, out.map((label) => result.labels.indexOf(label)));
});

function contract(
  b: Builder,
  first: Labelled,
  second: Labelled,
  needed: ReadonlySet<string>,
): Labelled {
  const x = sumOut(b, first, new Set([...needed, ...second.labels]));
  const y = sumOut(b, second, new Set([...needed, ...first.labels]));
  const shared = x.labels.filter((label) => y.labels.includes(label));
  const batch = shared.filter((label) => needed.has(label));
  const summed = shared.filter((label) => !needed.has(label));
  const free = (term: Labelled) => term.labels.filter((label) => !shared.includes(label));
  const at = (term: Labelled, labels: string[]) =>
    labels.map((label) => term.labels.indexOf(label));
  const [xv, yv] = matchFloats(b, x.value, y.value);
  const value = b.dotGeneral(xv, yv, {
    lhsContracting: at(x, summed),
    rhsContracting: at(y, summed),
    lhsBatching: at(x, batch),
    rhsBatching: at(y, batch),
  });
  return { value, labels: [...batch, ...free(x), ...free(y)] };
}

/** Sums away the labels that nothing else needs. */
function sumOut(b: Builder, { value, labels }: Labelled, needed: ReadonlySet<string>): Labelled {
  const axes = range(labels.length).filter((i) => !needed.has(labels[i]!));
  if (axes.length === 0) return { value, labels };
  return {
    value: b.reduce(value, b.scalar(0, value.type.dtype), axes, "add"),
    labels: labels.filter((label) => needed.has(label)),
  };
}
