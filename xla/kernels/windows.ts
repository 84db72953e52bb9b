/** What convolutions and pooling share: tfjs's window geometry as one record a spatial axis. */
import { tf } from "../tf.ts";
import type { Builder, Value } from "../hlo/mod.ts";

/** One spatial axis of a sliding window. */
export interface Axis {
  /** Sizes of the input, the output and the window. */
  input: number;
  output: number;
  filter: number;
  stride: number;
  dilation: number;
  /** Padding before the first element. */
  low: number;
}

/** From tfjs's convolution info (2-D or 3-D). */
export function axesOfInfo(info: tf.backend_util.Conv2DInfo | tf.backend_util.Conv3DInfo): Axis[] {
  const rows: Axis = {
    input: info.inHeight,
    output: info.outHeight,
    filter: info.filterHeight,
    stride: info.strideHeight,
    dilation: info.dilationHeight,
    low: info.padInfo.top,
  };
  const columns: Axis = {
    input: info.inWidth,
    output: info.outWidth,
    filter: info.filterWidth,
    stride: info.strideWidth,
    dilation: info.dilationWidth,
    low: info.padInfo.left,
  };
  if (!("inDepth" in info)) return [rows, columns];
  const depth: Axis = {
    input: info.inDepth,
    output: info.outDepth,
    filter: info.filterDepth,
    stride: info.strideDepth,
    dilation: info.dilationDepth,
    low: info.padInfo.front,
  };
  return [depth, rows, columns];
}

/** Elements a dilated window spans. */
export function extent(axis: Axis): number {
  return (axis.filter - 1) * axis.dilation + 1;
}

/** Low and high padding that give exactly `output` windows (high may crop). */
export function forwardPadding(axis: Axis): [number, number] {
  return [axis.low, (axis.output - 1) * axis.stride + extent(axis) - axis.input - axis.low];
}

/** Padding of the strided-apart output under which a full window gives exactly `input` elements. */
export function backwardPadding(axis: Axis): [number, number] {
  const low = extent(axis) - 1 - axis.low;
  const spread = (axis.output - 1) * axis.stride + 1;
  return [low, axis.input - spread - low + extent(axis) - 1];
}

/** The positions of the window, row-major, each with its element offset on every axis. */
export function taps(axes: readonly Axis[]): number[][] {
  return axes.reduce<number[][]>(
    (list, axis) =>
      list.flatMap((tap) =>
        Array.from({ length: axis.filter }, (_, i) => [...tap, i * axis.dilation])
      ),
    [[]],
  );
}

/** Pads the spatial axes 1, 2, ... of a channels-last value with `fill` so that every window fits. */
export function padForWindows(b: Builder, x: Value, axes: readonly Axis[], fill: number): Value {
  const padding = axes.map(forwardPadding);
  return b.pad(x, b.scalar(fill, x.type.dtype), [0, ...padding.map((p) => p[0]), 0], [
    0,
    ...padding.map((p) => p[1]),
    0,
  ]);
}

/** Undoes `padForWindows`: back to the input's sizes. */
export function unpad(b: Builder, x: Value, axes: readonly Axis[]): Value {
  const padding = axes.map(forwardPadding);
  return b.pad(x, b.scalar(0, x.type.dtype), [0, ...padding.map((p) => -p[0]), 0], [
    0,
    ...padding.map((p) => -p[1]),
    0,
  ]);
}

/** The element at `tap` of every window of a padded channels-last value. */
export function elementAt(
  b: Builder,
  padded: Value,
  axes: readonly Axis[],
  tap: readonly number[],
): Value {
  const [batch, channels] = [padded.type.shape[0]!, padded.type.shape.at(-1)!];
  return b.slice(
    padded,
    [0, ...tap, 0],
    [batch, ...axes.map((axis, i) => tap[i]! + (axis.output - 1) * axis.stride + 1), channels],
    [1, ...axes.map((axis) => axis.stride), 1],
  );
}

/** The transpose of `elementAt`: a padded value with `values` at the places `tap` reads, else 0. */
export function spreadTo(
  b: Builder,
  values: Value,
  axes: readonly Axis[],
  tap: readonly number[],
): Value {
  const total = (axis: Axis) => (axis.output - 1) * axis.stride + extent(axis);
  return b.pad(
    values,
    b.scalar(0, values.type.dtype),
    [0, ...tap, 0],
    [0, ...axes.map((axis, i) => total(axis) - tap[i]! - (axis.output - 1) * axis.stride - 1), 0],
    [0, ...axes.map((axis) => axis.stride - 1), 0],
  );
}
