/**
 * Meshes of devices and how a tensor lies on one. A sharding names, for each dimension of the tensor, the
 * mesh axes that it is cut along; what it does not name is replicated. XLA's partitioner (Shardy) works
 * out the rest of a program from the shardings of its arguments.
 */
import { UserError } from "../errors.ts";

/** Devices in a grid with named axes, in row-major order: the first axis changes slowest. */
export interface Mesh {
  readonly axes: Readonly<Record<string, number>>;
  /** Number of devices. */
  readonly size: number;
}

/** For each dimension the axis (or axes) that cut it, null where it is whole. Missing ones are whole. */
export type Spec = readonly (string | readonly string[] | null)[];

/** A tensor's place on a mesh. */
export interface Sharding {
  readonly mesh: Mesh;
  readonly spec: Spec;
  /** `[{"data"}, {}]`, as Shardy writes it: equal text means equal layout. */
  readonly text: string;
}

/** A mesh over the first devices; `available` is how many there are. */
export function meshOf(axes: Readonly<Record<string, number>>, available: number): Mesh {
  const entries = Object.entries(axes);
  for (const [name, size] of entries) {
    if (!/^[A-Za-z_]\w*$/.test(name) || !Number.isInteger(size) || size < 1) {
      throw new RangeError(`mesh: axis '${name}' of size ${size}; sizes are whole numbers from 1`);
    }
  }
  const size = entries.reduce((product, [, n]) => product * n, 1);
  if (size > available) {
    const shape = entries.map(([name, n]) => `${name}=${n}`).join(", ");
    throw new UserError(
      `mesh (${shape}): it takes ${size} devices, there are ${available}; on the CPU set ` +
        `XLA_CPU_DEVICES=${size}, or take a smaller mesh`,
      { exitCode: 2 },
    );
  }
  return Object.freeze({ axes: Object.freeze({ ...axes }), size });
}

const axesOf = (part: Spec[number] | undefined): readonly string[] =>
  part === undefined || part === null ? [] : typeof part === "string" ? [part] : part;

/**
 * @throws RangeError where the spec names an axis that the mesh lacks or names one twice, has more
 *   dimensions than the shape, or cuts a dimension into unequal pieces
 */
export function shardingOf(mesh: Mesh, spec: Spec, shape: readonly number[]): Sharding {
  const what = `sharding ${JSON.stringify(spec)} of shape [${shape}]`;
  if (spec.length > shape.length) throw new RangeError(`${what}: more dimensions than the tensor`);
  const used = new Set<string>();
  const dimensions = shape.map((size, i) => {
    const axes = axesOf(spec[i]);
    for (const axis of axes) {
      if (mesh.axes[axis] === undefined) {
        throw new RangeError(
          `${what}: the mesh has no axis '${axis}', only ${Object.keys(mesh.axes).join(", ")}`,
        );
      }
      if (used.has(axis)) throw new RangeError(`${what}: axis '${axis}' is used twice`);
      used.add(axis);
    }
    const pieces = axes.reduce((product, axis) => product * mesh.axes[axis]!, 1);
    if (size % pieces !== 0) {
      throw new RangeError(
        `${what}: dimension ${i} of ${size} does not fall into ${pieces} equal pieces`,
      );
    }
    return `{${axes.map((axis) => JSON.stringify(axis)).join(", ")}}`;
  });
  return { mesh, spec, text: `[${dimensions.join(", ")}]` };
}

/** `<["data"=2, "model"=2]>`, the mesh as Shardy declares it. */
export function meshText({ axes }: Mesh): string {
  return `<[${
    Object.entries(axes).map(([name, n]) => `${JSON.stringify(name)}=${n}`).join(", ")
  }]>`;
}

/** The mesh and the layout on it: equal text means that buffers can take each other's place. */
export function layoutText({ mesh, text }: Sharding): string {
  return meshText(mesh) + text;
}

/** Where one device's part of a tensor begins in each dimension, and its sizes. */
export interface Part {
  readonly starts: readonly number[];
  readonly sizes: readonly number[];
}

/** The part of a tensor of `shape` that lies on device number `device` of the mesh. */
export function partOf({ mesh, spec }: Sharding, shape: readonly number[], device: number): Part {
  const at: Record<string, number> = {};
  let rest = device;
  for (const [name, size] of Object.entries(mesh.axes).reverse()) {
    at[name] = rest % size;
    rest = Math.floor(rest / size);
  }
  const starts: number[] = [];
  const sizes = shape.map((size, i) => {
    let [index, pieces] = [0, 1];
    for (const axis of axesOf(spec[i])) {
      index = index * mesh.axes[axis]! + at[axis]!;
      pieces *= mesh.axes[axis]!;
    }
    const part = size / pieces;
    starts.push(index * part);
    return part;
  });
  return { starts, sizes };
}

/** True where every device has the whole tensor. */
export function isReplicated({ spec }: Sharding): boolean {
  return spec.every((part) => axesOf(part).length === 0);
}

type Numbers = Float32Array | Int32Array | Uint8Array | Uint16Array;

/**
 * Copies a part of a row-major tensor out of it or into it, a row of the last dimension at a time.
 * @param words array elements that make one element of the tensor (2 for complex numbers)
 */
export function copyPart(
  whole: Numbers,
  shape: readonly number[],
  { starts, sizes }: Part,
  part: Numbers,
  direction: "out" | "in",
  words = 1,
): void {
  if (part.length === 0) return;
  const rank = shape.length;
  const row = (sizes[rank - 1] ?? 1) * words;
  const index = new Array<number>(Math.max(0, rank - 1)).fill(0);
  for (let done = 0; done < part.length; done += row) {
    let offset = 0;
    for (let i = 0; i < rank; i++) {
      offset = offset * shape[i]! + starts[i]! + (i < rank - 1 ? index[i]! : 0);
    }
    offset *= words;
    if (direction === "out") part.set(whole.subarray(offset, offset + row), done);
    else whole.set(part.subarray(done, done + row), offset);
    for (let i = rank - 2; i >= 0 && ++index[i]! === sizes[i]!; i--) index[i] = 0;
  }
}
