/**
 * Convolutions and their gradients, two- and three-dimensional, plain and depthwise: each is one XLA
 * convolution, told apart by its layouts, dilations and groups.
 */
import { tf } from "../tf.ts";
import { type Builder, type Value } from "../hlo/mod.ts";
import { lower } from "./registry.ts";
import { activate } from "./unary.ts";
import { align } from "./util.ts";
import { axesOfInfo, type Axis, backwardPadding, extent, forwardPadding } from "./windows.ts";

const { backend_util } = tf;

type Pad = "valid" | "same" | number | tf.backend_util.ExplicitPadding;

interface ConvAttrs {
  strides: number | [number, number];
  pad: Pad;
  dataFormat?: "NHWC" | "NCHW";
  dilations?: number | [number, number] | null;
  dimRoundingMode?: "floor" | "round" | "ceil";
}

type Shape = readonly number[];

function axes2d(x: Shape, filter: Shape, attrs: ConvAttrs, depthwise: boolean): Axis[] {
  return axesOfInfo(backend_util.computeConv2DInfo(
    x as [number, number, number, number],
    filter as [number, number, number, number],
    attrs.strides,
    attrs.dilations ?? [1, 1],
    attrs.pad,
    attrs.dimRoundingMode,
    depthwise,
    backend_util.convertConv2DDataFormat(attrs.dataFormat ?? "NHWC"),
  ));
}

interface Conv3DAttrs {
  strides: number | [number, number, number];
  pad: "valid" | "same";
  dilations?: number | [number, number, number];
}

function axes3d(x: Shape, filter: Shape, attrs: Conv3DAttrs): Axis[] {
  type Five = [number, number, number, number, number];
  return axesOfInfo(
    backend_util.computeConv3DInfo(
      x as Five,
      filter as Five,
      attrs.strides,
      attrs.dilations ?? 1,
      attrs.pad,
    ),
  );
}

const digits = (axes: readonly Axis[]) => axes.map((_, i) => i).join("");

/** Layout of the image: `b01f`, or `bf01` where channels come first. */
function imageLayout(axes: readonly Axis[], dataFormat: string | undefined): string {
  return dataFormat === "NCHW" ? `bf${digits(axes)}` : `b${digits(axes)}f`;
}

/** The filter of a depthwise convolution, [rows, columns, channels, multiplier], as XLA groups it. */
function grouped(b: Builder, filter: Value): Value {
  const [rows, columns, channels, multiplier] = filter.type.shape as [
    number,
    number,
    number,
    number,
  ];
  return b.reshape(filter, [rows, columns, 1, channels * multiplier]);
}

function forward(
  b: Builder,
  x: Value,
  filter: Value,
  axes: Axis[],
  dataFormat?: string,
  groups = 1,
): Value {
  const layout = imageLayout(axes, dataFormat);
  return b.convolution(x, filter, {
    input: layout,
    kernel: `${digits(axes)}io`,
    output: layout,
    strides: axes.map((axis) => axis.stride),
    padding: axes.map(forwardPadding),
    kernelDilations: axes.map((axis) => axis.dilation),
    featureGroups: groups,
  });
}

/** tfjs lets the output's gradient be larger than the output; what lies beyond is not read. */
function fitted(b: Builder, dy: Value, axes: Axis[], layout: string): Value {
  const limits = dy.type.shape.map((size, i) => axes[Number(layout[i])]?.output ?? size);
  return b.slice(dy, limits.map(() => 0), limits);
}

/** dx: the output's gradient, spread apart by the strides, under the reversed filter. */
function backwardInput(
  b: Builder,
  dy: Value,
  filter: Value,
  axes: Axis[],
  dataFormat?: string,
  groups = 1,
): Value {
  const layout = imageLayout(axes, dataFormat);
  return b.convolution(fitted(b, dy, axes, layout), b.reverse(filter, axes.map((_, i) => i)), {
    input: layout,
    kernel: `${digits(axes)}oi`,
    output: layout,
    strides: axes.map(() => 1),
    padding: axes.map(backwardPadding),
    inputDilations: axes.map((axis) => axis.stride),
    kernelDilations: axes.map((axis) => axis.dilation),
    featureGroups: groups,
  });
}

/** The filter's gradient: the input under the output's gradient, the batch being what is summed. */
function backwardFilter(
  b: Builder,
  x: Value,
  dy: Value,
  axes: Axis[],
  dataFormat?: string,
  groups = 1,
): Value {
  const swap = (layout: string, batch: string, feature: string) =>
    [...layout].map((letter) => letter === "b" ? batch : letter === "f" ? feature : letter).join(
      "",
    );
  const layout = imageLayout(axes, dataFormat);
  return b.convolution(x, dy, {
    input: swap(layout, "f", "b"),
    kernel: swap(layout, "i", "o"),
    output: `${digits(axes)}bf`,
    strides: axes.map((axis) => axis.dilation),
    padding: axes.map((axis) => {
      const spread = (axis.output - 1) * axis.stride + 1;
      return [axis.low, extent(axis) - 1 + spread - axis.input - axis.low];
    }),
    kernelDilations: axes.map((axis) => axis.stride),
    batchGroups: groups,
  });
}

interface XFilter {
  x: Value;
  filter: Value;
}

function conv2d(b: Builder, { x, filter }: XFilter, attrs: ConvAttrs): Value {
  const axes = axes2d(x.type.shape, filter.type.shape, attrs, false);
  // Fewer filter channels than input channels mean grouped convolution.
  const channels = x.type.shape[attrs.dataFormat === "NCHW" ? 1 : 3]!;
  return forward(b, x, filter, axes, attrs.dataFormat, channels / filter.type.shape[2]!);
}

function depthwise(b: Builder, { x, filter }: XFilter, attrs: ConvAttrs): Value {
  const axes = axes2d(x.type.shape, filter.type.shape, attrs, true);
  return forward(b, x, grouped(b, filter), axes, attrs.dataFormat, filter.type.shape[2]!);
}

lower("Conv2D", conv2d);
lower("DepthwiseConv2dNative", depthwise);

lower(
  "Conv3D",
  (b, { x, filter }: XFilter, attrs: Conv3DAttrs) =>
    forward(b, x, filter, axes3d(x.type.shape, filter.type.shape, attrs)),
);

interface DyFilter {
  dy: Value;
  filter: Value;
}
interface InputShape {
  inputShape: number[];
}

lower("Conv2DBackpropInput", (b, { dy, filter }: DyFilter, attrs: ConvAttrs & InputShape) => {
  const axes = axes2d(attrs.inputShape, filter.type.shape, { ...attrs, dilations: 1 }, false);
  return backwardInput(b, dy, filter, axes, attrs.dataFormat);
});

lower(
  "DepthwiseConv2dNativeBackpropInput",
  (b, { dy, filter }: DyFilter, attrs: ConvAttrs & InputShape) => {
    const axes = axes2d(attrs.inputShape, filter.type.shape, attrs, true);
    return backwardInput(b, dy, filter, axes, attrs.dataFormat, filter.type.shape[2]!);
  },
);

lower(
  "Conv3DBackpropInputV2",
  (b, { dy, filter }: DyFilter, attrs: Conv3DAttrs & InputShape) =>
    backwardInput(
      b,
      dy,
      filter,
      axes3d(attrs.inputShape, filter.type.shape, { ...attrs, dilations: 1 }),
    ),
);

interface XDy {
  x: Value;
  dy: Value;
}
interface FilterShape {
  filterShape: number[];
}

lower("Conv2DBackpropFilter", (b, { x, dy }: XDy, attrs: ConvAttrs & FilterShape) => {
  const axes = axes2d(x.type.shape, attrs.filterShape, { ...attrs, dilations: 1 }, false);
  return backwardFilter(b, x, dy, axes, attrs.dataFormat);
});

lower(
  "DepthwiseConv2dNativeBackpropFilter",
  (b, { x, dy }: XDy, attrs: ConvAttrs & FilterShape) => {
    const axes = axes2d(x.type.shape, attrs.filterShape, attrs, true);
    return b.reshape(
      backwardFilter(b, x, dy, axes, attrs.dataFormat, attrs.filterShape[2]!),
      attrs.filterShape,
    );
  },
);

lower(
  "Conv3DBackpropFilterV2",
  (b, { x, dy }: XDy, attrs: Conv3DAttrs & FilterShape) =>
    backwardFilter(b, x, dy, axes3d(x.type.shape, attrs.filterShape, { ...attrs, dilations: 1 })),
);

interface FusedInputs extends XFilter {
  bias?: Value;
  preluActivationWeights?: Value;
}
interface FusedAttrs extends ConvAttrs {
  activation?: string;
  leakyreluAlpha?: number;
}

const FUSED = { FusedConv2D: conv2d, FusedDepthwiseConv2D: depthwise };

for (const [name, convolve] of Object.entries(FUSED)) {
  lower(name, (b, inputs: FusedInputs, attrs: FusedAttrs) => {
    const product = convolve(b, inputs, attrs);
    const perChannel = (v: Value) =>
      attrs.dataFormat === "NCHW" && v.type.shape.length === 1 && v.type.shape[0] !== 1
        ? b.reshape(v, [v.type.shape[0]!, 1, 1])
        : v;
    const sum = inputs.bias === undefined
      ? product
      : b.add(...align(b, product, perChannel(inputs.bias)));
    const weights = inputs.preluActivationWeights;
    return activate(b, sum, attrs.activation, {
      preluWeights: weights === undefined ? undefined : perChannel(weights),
      leakyreluAlpha: attrs.leakyreluAlpha,
    });
  });
}
