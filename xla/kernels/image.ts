/** Resizing, cropping and turning of images [batch, rows, columns, channels], and their gradients. */
import { tf } from "../tf.ts";
import { type Builder, tensor, type Value } from "../hlo/mod.ts";
import { lower } from "./registry.ts";
import { asFloat, range } from "./util.ts";

interface ResizeAttrs {
  alignCorners: boolean;
  halfPixelCenters: boolean;
  size: [number, number];
}

/** Where an output element of one axis reads: two neighbours and the weight of the second. */
interface Sample {
  low: number;
  high: number;
  weight: number;
}

function scaleOf(from: number, to: number, alignCorners: boolean): number {
  return alignCorners && to > 1 ? (from - 1) / (to - 1) : from / to;
}

function bilinearSamples(
  from: number,
  to: number,
  alignCorners: boolean,
  halfPixelCenters: boolean,
): Sample[] {
  const scale = scaleOf(from, to, alignCorners);
  return range(to).map((i) => {
    const place = halfPixelCenters ? scale * (i + 0.5) - 0.5 : scale * i;
    const low = Math.max(0, Math.floor(place));
    return { low, high: Math.min(from - 1, Math.ceil(place)), weight: place - low };
  });
}

function nearestPlaces(
  from: number,
  to: number,
  alignCorners: boolean,
  halfPixelCenters: boolean,
): number[] {
  const scale = scaleOf(from, to, alignCorners);
  return range(to).map((i) => {
    const place = halfPixelCenters ? scale * (i + 0.5) : scale * i;
    return Math.max(0, Math.min(from - 1, alignCorners ? Math.round(place) : Math.floor(place)));
  });
}

/** Elements at constant places along an axis. */
function take(b: Builder, x: Value, axis: number, places: readonly number[]): Value {
  const { shape } = x.type;
  return b.gather(x, b.constant(places, tensor([places.length], "i32")), shape.with(axis, 1), {
    offsetDims: range(shape.length).filter((i) => i !== axis),
    collapsedSliceDims: [axis],
    startIndexMap: [axis],
    indexVectorDim: 1,
  });
}

function interpolate(b: Builder, x: Value, axis: number, samples: readonly Sample[]): Value {
  const low = take(b, x, axis, samples.map((s) => s.low));
  const high = take(b, x, axis, samples.map((s) => s.high));
  const weights = b.constant(samples.map((s) => s.weight), tensor([samples.length], x.type.dtype));
  return b.add(low, b.mul(b.sub(high, low), b.broadcastInDim(weights, low.type.shape, [axis])));
}

lower(
  "ResizeBilinear",
  (b, { images }: { images: Value }, { alignCorners, halfPixelCenters, size }: ResizeAttrs) =>
    [2, 1].reduce(
      (x, axis) =>
        interpolate(
          b,
          x,
          axis,
          bilinearSamples(x.type.shape[axis]!, size[axis - 1]!, alignCorners, halfPixelCenters),
        ),
      asFloat(b, images),
    ),
);

lower(
  "ResizeNearestNeighbor",
  (b, { images }: { images: Value }, { alignCorners, halfPixelCenters, size }: ResizeAttrs) =>
    [1, 2].reduce(
      (x, axis) =>
        take(
          b,
          x,
          axis,
          nearestPlaces(x.type.shape[axis]!, size[axis - 1]!, alignCorners, halfPixelCenters),
        ),
      images,
    ),
);

interface ResizeGradInputs {
  images: Value;
  dy: Value;
}

/** dy times, on both image axes, the matrix [output, input] whose rows hold each output's weights. */
function spreadBack(
  b: Builder,
  { images, dy }: ResizeGradInputs,
  rowsOf: (from: number, to: number) => Sample[],
): Value {
  return [1, 2].reduce((gradient, axis) => {
    const from = images.type.shape[axis]!;
    const samples = rowsOf(from, dy.type.shape[axis]!);
    const matrix = new Float32Array(samples.length * from);
    for (const [i, { low, high, weight }] of samples.entries()) {
      matrix[i * from + low]! += 1 - weight;
      matrix[i * from + high]! += weight;
    }
    const product = b.dotGeneral(
      gradient,
      b.constant(matrix, tensor([samples.length, from], "f32")),
      {
        lhsContracting: [axis],
        rhsContracting: [0],
      },
    );
    // The contracted axis comes last; put it back.
    return b.transpose(product, axis === 1 ? [0, 3, 1, 2] : [0, 1, 3, 2]);
  }, b.convert(dy, "f32"));
}

lower(
  "ResizeBilinearGrad",
  (b, inputs: ResizeGradInputs, { alignCorners }: ResizeAttrs) =>
    spreadBack(b, inputs, (from, to) => bilinearSamples(from, to, alignCorners, false)),
);

lower(
  "ResizeNearestNeighborGrad",
  (b, inputs: ResizeGradInputs, { alignCorners }: ResizeAttrs) =>
    b.convert(
      spreadBack(
        b,
        inputs,
        (from, to) =>
          nearestPlaces(from, to, alignCorners, false).map((low) => ({
            low,
            high: low,
            weight: 0,
          })),
      ),
      inputs.images.type.dtype,
    ),
);

interface CropInputs {
  image: Value;
  boxes: Value;
  boxInd: Value;
}
interface CropAttrs {
  cropSize: [number, number];
  method: "bilinear" | "nearest";
  extrapolationValue: number;
}

/** Boxes are [y1, x1, y2, x2] in parts of the image; places outside it read `extrapolationValue`. */
lower(
  "CropAndResize",
  (
    b,
    { image, boxes, boxInd }: CropInputs,
    { cropSize, method, extrapolationValue }: CropAttrs,
  ) => {
    const x = asFloat(b, image);
    const [, rows, columns, channels] = x.type.shape as [number, number, number, number];
    const count = boxes.type.shape[0]!;
    const shape = [count, cropSize[0], cropSize[1]];
    const edge = (i: number) => b.reshape(b.slice(boxes, [0, i], [count, i + 1]), [count]);
    const placesAlong = (axis: 0 | 1, size: number): Value => {
      const [from, to] = [edge(axis), edge(axis + 2)];
      const n = cropSize[axis];
      const last = b.like(size - 1, from);
      const column = (v: Value) => b.broadcastInDim(v, [count, n], [0]);
      const places = n > 1
        ? b.add(
          column(b.mul(from, last)),
          b.mul(
            b.iota([count, n], "f32", 1),
            column(b.div(b.mul(b.sub(to, from), last), b.like(n - 1, from))),
          ),
        )
        : column(b.mul(b.mul(b.like(0.5, from), b.add(from, to)), last));
      return b.broadcastInDim(places, shape, [0, axis + 1]);
    };
    const [y, xs] = [placesAlong(0, rows), placesAlong(1, columns)];
    const inside = (v: Value, size: number) =>
      b.and(b.compare("GE", v, b.like(0, v)), b.compare("LE", v, b.like(size - 1, v)));
    const valid = b.and(inside(y, rows), inside(xs, columns));
    const batch = b.broadcastInDim(b.convert(boxInd, "i32"), shape, [0]);
    const read = (row: Value, column: Value) =>
      readPixels(b, x, batch, b.convert(row, "i32"), b.convert(column, "i32"));
    const floor = (v: Value) => b.unary("floor", v);
    const ceil = (v: Value) => b.unary("ceil", v);
    const wide = (v: Value) => b.broadcastInDim(v, [...shape, channels], [0, 1, 2]);
    const lerp = (from: Value, to: Value, weight: Value) =>
      b.add(from, b.mul(b.sub(to, from), wide(weight)));
    const half = (v: Value) => floor(b.add(v, b.like(0.5, v)));
    const values = method === "bilinear"
      ? lerp(
        lerp(read(floor(y), floor(xs)), read(floor(y), ceil(xs)), b.sub(xs, floor(xs))),
        lerp(read(ceil(y), floor(xs)), read(ceil(y), ceil(xs)), b.sub(xs, floor(xs))),
        b.sub(y, floor(y)),
      )
      : read(half(y), half(xs));
    return b.select(wide(valid), values, b.like(extrapolationValue, values));
  },
);

/** image[batch, row, column, :] for index arrays of one shape (clamped). */
function readPixels(b: Builder, image: Value, batch: Value, row: Value, column: Value): Value {
  const shape = row.type.shape;
  const tuples = b.concatenate(
    [batch, row, column].map((v) => b.reshape(v, [...shape, 1])),
    shape.length,
  );
  return b.gather(image, tuples, [1, 1, 1, image.type.shape[3]!], {
    offsetDims: [shape.length],
    collapsedSliceDims: [0, 1, 2],
    startIndexMap: [0, 1, 2],
    indexVectorDim: shape.length,
  });
}

interface RotateAttrs {
  radians: number;
  fillValue: number | [number, number, number];
  center: number | [number, number];
}

/** The places are known beforehand, so this is one gather of pixels and a mask. */
lower(
  "RotateWithOffset",
  (b, { image }: { image: Value }, { radians, fillValue, center }: RotateAttrs) => {
    const [batch, rows, columns, channels] = image.type.shape as [number, number, number, number];
    const [centerX, centerY] = tf.backend_util.getImageCenter(center, rows, columns);
    const [sin, cos] = [Math.sin(radians), Math.cos(radians)];
    const places = new Int32Array(rows * columns);
    const visible = new Uint8Array(rows * columns);
    for (const i of range(rows * columns)) {
      const [dx, dy] = [i % columns - centerX, Math.floor(i / columns) - centerY];
      const x = Math.round(dx * cos - dy * sin + centerX);
      const y = Math.round(dx * sin + dy * cos + centerY);
      if (x < 0 || x >= columns || y < 0 || y >= rows) continue;
      visible[i] = 1;
      places[i] = y * columns + x;
    }
    const flat = b.reshape(image, [batch, rows * columns, channels]);
    const turned = take(b, flat, 1, [...places]);
    const mask = b.broadcastInDim(
      b.constant(visible, tensor([rows * columns], "i1")),
      turned.type.shape,
      [1],
    );
    const fill = range(channels).map((c) =>
      typeof fillValue === "number" ? fillValue : c === 3 ? 255 : fillValue[c] ?? 0
    );
    const background = b.broadcastInDim(
      b.constant(fill, tensor([channels], image.type.dtype)),
      turned.type.shape,
      [2],
    );
    return b.reshape(b.select(mask, turned, background), image.type.shape);
  },
);

lower(
  "FlipLeftRight",
  (b, { image }: { image: Value }) => b.reverse(image, [image.type.shape.length - 2]),
);
