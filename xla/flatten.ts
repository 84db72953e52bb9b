/**
 * A jit call's arguments, flattened: the tensors in order, and a key of everything else about them
 * (structure, types, static values) that decides which program runs.
 */
import { tf } from "./tf.ts";
import type { XlaBackend } from "./backend.ts";
import type { Entry } from "./entry.ts";
import { layoutText } from "./mesh.ts";
import { describe } from "./tree.ts";

const functionIds = new WeakMap<object, number>();
let nextFunctionId = 0;

/** Reused across the calls of one compiled function. */
export class Flattening {
  key = "";
  readonly tensors: tf.Tensor[] = [];
  readonly entries: Entry[] = [];
  readonly #backend: XlaBackend;
  readonly #name: string;

  constructor(backend: XlaBackend, name: string) {
    this.#backend = backend;
    this.#name = name;
  }

  read(args: readonly unknown[]): void {
    this.clear();
    let key = "";
    for (let i = 0; i < args.length; i++) key += this.#visit(args[i], i) + ";";
    this.key = key;
  }

  /** Drops the tensors, so that a past call keeps nothing alive. */
  clear(): void {
    this.tensors.length = 0;
    this.entries.length = 0;
  }

  #visit(node: unknown, argument: number): string {
    if (node instanceof tf.Tensor) {
      if (node.isDisposed) (node as unknown as { throwIfDisposed(): void }).throwIfDisposed();
      const entry = this.#backend.entryOf(node.dataId);
      this.tensors.push(node);
      this.entries.push(entry);
      const type = `${entry.hlo}[${node.shape}]`;
      return entry.shards === undefined ? type : `${type}@${layoutText(entry.shards.sharding)}`;
    }
    if (Array.isArray(node)) {
      let key = "(";
      for (const child of node) key += this.#visit(child, argument) + ",";
      return key + ")";
    }
    switch (typeof node) {
      case "object": {
        if (node === null) return "null";
        const prototype = Object.getPrototypeOf(node);
        if (prototype !== Object.prototype && prototype !== null) break;
        let key = "{";
        for (const name in node) {
          key += `${JSON.stringify(name)}:${
            this.#visit((node as Record<string, unknown>)[name], argument)
          },`;
        }
        return key + "}";
      }
      case "function": {
        let id = functionIds.get(node);
        if (id === undefined) functionIds.set(node, id = nextFunctionId++);
        return `f${id}`;
      }
      case "string":
        return JSON.stringify(node);
      case "number":
        return Object.is(node, -0) ? "-0" : String(node);
      case "boolean":
      case "undefined":
        return String(node);
      case "bigint":
        return `${node}n`;
    }
    throw new TypeError(
      `jit '${this.#name}': argument ${argument} holds ${describe(node)}; arguments are tensors, ` +
        `plain arrays and objects of them, or static values`,
    );
  }
}
