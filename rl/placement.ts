/**
 * Where training lies: on one device, or over several, each of which holds a part of every parameter,
 * gradient and moment and computes on its own rows of a batch (fully sharded data parallelism, ZeRO-3,
 * arXiv 1910.02054). XLA's partitioner works out from these layouts what devices must send each other.
 */
import { meshFor, parameterSpec } from "../lm/mod.ts";
import {
  deviceMemory,
  jit,
  leavesOf,
  mapTree,
  type Mesh,
  shard,
  tf,
  type Tree,
} from "../xla/mod.ts";

const PARALLELISM = "fsdp";

export class Placement {
  readonly devices: number;
  /** None where there is one device: its programs are then the plain ones. */
  readonly #mesh: Mesh | undefined;
  readonly #copies = jit((xs: tf.Tensor[]) => this.constrain(xs.map((x) => x.clone())), {
    name: "copy",
  });

  /**
   * @param devices how many; all of the backend's where left out
   * @throws UserError where the backend has fewer
   */
  constructor(devices?: number) {
    this.devices = devices ?? deviceMemory().length;
    this.#mesh = this.devices === 1 ? undefined : meshFor(PARALLELISM, this.devices);
  }

  /** New tensors with the data of any others, laid out. */
  place<T extends Tree>(tree: T): T {
    return mapped(
      tree,
      (x) => this.#mesh === undefined ? tf.tidy(() => x.mul(1)) : this.#lay(x, this.#mesh),
    );
  }

  /** As `place`, of tensors that are laid out already: the data stay on their devices. */
  copy<T extends Tree>(tree: T): T {
    if (this.#mesh === undefined) return this.place(tree);
    const copies = this.#copies(leavesOf(tree));
    return mapped(tree, (_, i) => copies[i]!);
  }

  /** Tensors laid out, in place of these, which are disposed of. */
  take<T extends Tree>(tree: T): T {
    if (this.#mesh === undefined) return tree;
    const placed = this.place(tree);
    leavesOf(tree).forEach((x) => x.dispose());
    return placed;
  }

  /** Inside a program: asks that parameters, or what goes by their shapes, be cut as they are. */
  constrain<T extends Tree>(tree: T): T {
    const mesh = this.#mesh;
    return mesh === undefined ? tree : mapped(tree, (x) => this.#lay(x, mesh));
  }

  /** Batches cut into rows, in place of whole ones; what has not enough rows stays whole. */
  takeRows<T extends Tree>(batch: T): T {
    const mesh = this.#mesh;
    if (mesh === undefined) return batch;
    const placed = mapped(
      batch,
      (x) => shard(x, mesh, (x.shape[0] ?? 1) % mesh.size === 0 ? Object.keys(mesh.axes) : []),
    );
    leavesOf(batch).forEach((x) => x.dispose());
    return placed;
  }

  /**
   * The same data in tensors that belong to no mesh, in place of these: in host memory, from where they
   * go to a device when used.
   */
  async takeOff<T extends Tree>(tree: T): Promise<T> {
    if (this.#mesh === undefined) return tree;
    const host = await Promise.all(leavesOf(tree).map((x) => x.data()));
    return mapped(tree, (x, i) => {
      x.dispose();
      return tf.tensor(host[i]!, x.shape, x.dtype);
    });
  }

  /** Bytes of a tree of parameters on each device. */
  bytes(tree: Tree): number {
    return leavesOf(tree).reduce((sum, { shape, size }) => {
      const mesh = this.#mesh;
      const cut = mesh !== undefined && parameterSpec("", shape, PARALLELISM, mesh).length > 0;
      return sum + 4 * size / (cut ? this.devices : 1);
    }, 0);
  }

  #lay(x: tf.Tensor, mesh: Mesh): tf.Tensor {
    return shard(x, mesh, parameterSpec("", x.shape, PARALLELISM, mesh));
  }
}

/** The same structure with other tensors. */
function mapped<T extends Tree>(tree: T, map: (x: tf.Tensor, index: number) => tf.Tensor): T {
  return mapTree(tree as unknown, map) as T;
}
