import assert from "node:assert/strict";
import { Builder, HloError, scalarText, tensor } from "./mod.ts";

/** The body of a module, without the frame. */
function body(text: string): string[] {
  return text.split("\n").slice(2, -4).map((line) => line.trim());
}

Deno.test("a small program prints as expected, names in order", () => {
  const b = new Builder();
  const x = b.argument(tensor([2, 3], "f32"), { "tf.aliasing_output": "0 : i32" });
  const y = b.argument(tensor([3], "f32"));
  const sum = b.add(x, b.broadcastInDim(y, [2, 3], [1]));
  const total = b.reduce(sum, b.scalar(0, "f32"), [1], "add");
  b.setArgumentAttribute(1, "jax.buffer_donor", "true");
  assert.equal(
    b.module([sum, total], { name: "a-b" }),
    `module @a_b {
  func.func public @main(%arg0: tensor<2x3xf32> {tf.aliasing_output = 0 : i32}, %arg1: tensor<3xf32> {jax.buffer_donor = true}) -> (tensor<2x3xf32>, tensor<2xf32>) {
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1] : (tensor<3xf32>) -> tensor<2x3xf32>
    %1 = stablehlo.add %arg0, %0 : tensor<2x3xf32>
    %2 = stablehlo.constant dense<0.0> : tensor<f32>
    %3 = stablehlo.reduce(%1 init: %2) applies stablehlo.add across dimensions = [1] : (tensor<2x3xf32>, tensor<f32>) -> tensor<2xf32>
    return %1, %3 : tensor<2x3xf32>, tensor<2xf32>
  }
}
`,
  );
});

Deno.test("regions nest, capture outer values and take part in the numbering", () => {
  const b = new Builder();
  const x = b.argument(tensor([4], "f32"));
  const [, last] = b.while(
    [b.scalar(0, "i32"), x],
    (i) => b.compare("LT", i!, b.scalar(3, "i32")),
    (i, v) => [b.add(i!, b.scalar(1, "i32")), b.add(v!, x)],
  );
  assert.deepEqual(body(b.module([last!])), [
    "%0 = stablehlo.constant dense<0> : tensor<i32>",
    '%10:2 = "stablehlo.while"(%0, %arg0) ({',
    "^bb0(%1: tensor<i32>, %2: tensor<4xf32>):",
    "%3 = stablehlo.constant dense<3> : tensor<i32>",
    "%4 = stablehlo.compare LT, %1, %3, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>",
    "stablehlo.return %4 : tensor<i1>",
    "}, {",
    "^bb0(%5: tensor<i32>, %6: tensor<4xf32>):",
    "%7 = stablehlo.constant dense<1> : tensor<i32>",
    "%8 = stablehlo.add %5, %7 : tensor<i32>",
    "%9 = stablehlo.add %6, %arg0 : tensor<4xf32>",
    "stablehlo.return %8, %9 : tensor<i32>, tensor<4xf32>",
    "}) : (tensor<i32>, tensor<4xf32>) -> (tensor<i32>, tensor<4xf32>)",
  ]);
});

Deno.test("ops that change nothing cost nothing", () => {
  const b = new Builder();
  const x = b.argument(tensor([2, 3], "f32"));
  const same = [
    b.reshape(x, [2, 3]),
    b.transpose(x, [0, 1]),
    b.broadcastInDim(x, [2, 3], [0, 1]),
    b.slice(x, [0, 0], [2, 3]),
    b.pad(x, b.scalar(0, "f32"), [0, 0], [0, 0]),
    b.convert(x, "f32"),
    b.reduce(x, b.scalar(0, "f32"), [], "add"),
    b.concatenate([x], 0),
    b.reverse(x, []),
  ];
  for (const value of same) assert.equal(value, x);
});

Deno.test("shapes are inferred for the ops that change them", () => {
  const b = new Builder();
  const f32 = (...shape: number[]) => b.argument(tensor(shape, "f32"));
  const x = f32(4, 6);
  const zero = b.scalar(0, "f32");
  const shapes = (values: { type: { shape: readonly number[] } }[]) =>
    values.map((v) => [...v.type.shape]);
  assert.deepEqual(
    shapes([
      b.transpose(x, [1, 0]),
      b.slice(x, [0, 1], [4, 6], [2, 1]),
      b.pad(x, zero, [1, -1], [0, 2], [1, 0]),
      b.concatenate([x, f32(4, 2)], 1),
      b.dotGeneral(f32(2, 3, 4), f32(2, 5, 4), {
        lhsContracting: [2],
        rhsContracting: [2],
        lhsBatching: [0],
        rhsBatching: [0],
      }),
      b.reduceWindow(
        x,
        zero,
        { dimensions: [2, 2], strides: [2, 1], padding: [[0, 1], [1, 0]] },
        "maximum",
      ),
      b.convolution(f32(2, 9, 8, 4), f32(3, 3, 2, 6), {
        input: "b01f",
        kernel: "01io",
        output: "bf01",
        strides: [2, 1],
        padding: [[1, 1], [0, 0]],
        featureGroups: 2,
      }),
      b.gather(x, b.argument(tensor([5, 7], "i32")), [1, 6], {
        offsetDims: [2],
        collapsedSliceDims: [0],
        startIndexMap: [0],
        indexVectorDim: 2,
      }),
      b.fft(x, "RFFT", [6]),
      b.topK(x, 2)[1],
    ]),
    [[6, 4], [2, 5], [8, 7], [4, 8], [2, 3, 5], [2, 6], [2, 6, 5, 6], [5, 7, 6], [4, 4], [4, 2]],
  );
});

Deno.test("a wrong program is an error that names the op and the types", () => {
  const b = new Builder();
  const x = b.argument(tensor([2, 3], "f32"));
  const i = b.argument(tensor([2, 3], "i32"));
  const wrong: [() => unknown, RegExp][] = [
    [() => b.add(x, i), /add: operand types differ: tensor<2x3xf32> and tensor<2x3xi32>/],
    [() => b.unary("tanh", i), /tanh: operand is tensor<2x3xi32>, must be one of: float, complex/],
    [() => b.reshape(x, [4]), /reshape: tensor<2x3xf32>/],
    [() => b.slice(x, [0, 0], [2, 4]), /slice: \[0,0\] to \[2,4\]/],
    [() => b.dotGeneral(x, x, { lhsContracting: [1], rhsContracting: [0] }), /dot_general/],
    [
      () => b.while([x], () => b.scalar(1, "i1"), () => [i]),
      /while: body returns \(tensor<2x3xi32>\)/,
    ],
    [() => b.select(x, x, x), /select: condition tensor<2x3xf32>/],
    [() => b.concatenate([x, i], 0), /concatenate: tensor<2x3xi32>/],
    [() => b.constant([1, 2], tensor([3], "f32")), /constant: 2 elements given for tensor<3xf32>/],
  ];
  for (const [run, message] of wrong) {
    assert.throws(
      run,
      (error) => error instanceof HloError && message.test(error.message),
      String(message),
    );
  }
});

Deno.test("an error inside a region leaves the builder usable", () => {
  const b = new Builder();
  const x = b.argument(tensor([2], "f32"));
  assert.throws(() => b.if(b.scalar(1, "i1"), () => [b.reshape(x, [3])], () => [x]));
  b.neg(x);
  assert.match(b.module([x]), /\n {4}%\d+ = stablehlo.negate %arg0/);
});

Deno.test("numbers print so that they read back as the same bits", () => {
  const printed = ([value, dtype]: readonly [number, "f32" | "bf16" | "i32" | "ui32" | "i1"]) =>
    scalarText(value, dtype);
  assert.deepEqual(
    ([
      [1, "f32"],
      [-0, "f32"],
      [0.1, "f32"],
      [1e-7, "f32"],
      [-3e38, "f32"],
      [Infinity, "f32"],
      [NaN, "bf16"],
      [
        -1,
        "ui32",
      ],
      [2 ** 31, "i32"],
      [2, "i1"],
    ] as const).map(printed),
    [
      "1.0",
      "-0.0",
      "0.1",
      "1.0e-7",
      "-3.0e+38",
      "0x7F800000",
      "0x7FC0",
      "4294967295",
      "-2147483648",
      "true",
    ],
  );
});

Deno.test("constants are splats where they can be, else raw bytes", () => {
  const b = new Builder();
  b.constant([2, 2], tensor([2], "f32"));
  b.constant(new Int32Array([1, -1]), tensor([2], "i32"));
  b.constant([1, 0], tensor([2], "i1"));
  b.constant([], tensor([0], "f32"));
  b.constant([1, 2], tensor([1], "c64"));
  const lines = body(b.module([]));
  assert.deepEqual(lines, [
    "%0 = stablehlo.constant dense<2.0> : tensor<2xf32>",
    '%1 = stablehlo.constant dense<"0x01000000FFFFFFFF"> : tensor<2xi32>',
    '%2 = stablehlo.constant dense<"0x0100"> : tensor<2xi8>',
    "%3 = stablehlo.convert %2 : (tensor<2xi8>) -> tensor<2xi1>",
    "%4 = stablehlo.constant dense<0.0> : tensor<0xf32>",
    '%5 = stablehlo.constant dense<"0x0000803F00000040"> : tensor<1xcomplex<f32>>',
  ]);
});
