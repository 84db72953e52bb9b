/**
 * Tracing and running compiled functions on the xla backend: `jit` and `whileLoop` as `core.ts` offers
 * them to the public operations.
 */
import { tf } from "./tf.ts";
import type { Core } from "./core.ts";
import type { Compiled, JitOptions } from "./compile.ts";
import type { Entry } from "./entry.ts";
import { Flattening } from "./flatten.ts";
import type { XlaBackend } from "./backend.ts";
import type { Executable, MemoryPlan } from "./pjrt/executable.ts";
import type { DType, TensorType, Value } from "./hlo/mod.ts";
import { sameShape, sameType } from "./hlo/mod.ts";
import { fillTree, leavesOf, type Tree, typeOf } from "./tree.ts";
import { isTapeOn, recordUndifferentiable, withFreshTape } from "./tape.ts";
import { type Mesh, meshText, type Sharding } from "./mesh.ts";
import { type Hoisted, Trace } from "./trace.ts";

/** What one run of a function under a trace gave. */
interface Recording {
  readonly structure: Tree;
  readonly results: readonly Value[];
  readonly types: readonly TensorType[];
  readonly donated: readonly { leaf: number; after: string }[];
}

/** A traced and compiled function for one structure of arguments. */
interface Program {
  readonly executable: Executable;
  readonly hoisted: readonly Hoisted[];
  readonly results: readonly TensorType[];
  readonly structure: Tree;
  /** Leaves to donate, with the error for a later use of each. */
  readonly donated: readonly { leaf: number; after: string }[];
  /** Layouts over a mesh where the program runs on one: of the arguments, hoisted ones too, and results. */
  readonly layout: { arguments: readonly Sharding[]; results: readonly Sharding[] } | undefined;
}

export class XlaCore implements Core {
  readonly #backend: XlaBackend;

  constructor(backend: XlaBackend) {
    this.#backend = backend;
  }

  get platform(): string {
    return this.#backend.client.platform;
  }

  get inline(): boolean {
    return this.#backend.trace !== undefined || isTapeOn();
  }

  run(kernel: string, inputs: Record<string, tf.Tensor>, attrs: Record<string, unknown>) {
    return tf.engine().runKernel(kernel, inputs, attrs as tf.NamedAttrMap) as tf.Tensor;
  }

  runAll(kernel: string, inputs: Record<string, tf.Tensor>, attrs: Record<string, unknown>) {
    return tf.engine().runKernel(kernel, inputs, attrs as tf.NamedAttrMap) as tf.Tensor[];
  }

  upload(data: ArrayBufferView<ArrayBuffer>, shape: readonly number[], dtype: DType): tf.Tensor {
    const buffer = this.#backend.client.bufferFromHost(data, dtype as "bf16", shape);
    return this.#backend.tensorOf(buffer, { shape, dtype });
  }

  elementType(x: tf.Tensor): DType {
    return this.#backend.entryOf(x.dataId).hlo;
  }

  jit<A extends unknown[], R extends Tree>(
    fn: (...args: A) => R,
    options: JitOptions,
  ): Compiled<A, R> {
    const programs = new Map<string, Program>();
    const { memoryHint } = options;
    const donate = new Set(options.donate ?? []);
    const name = options.name ?? (fn.name || "anonymous");
    const flat = new Flattening(this.#backend, name);
    const prepare = (args: A): Program => {
      flat.read(args);
      let program = programs.get(flat.key);
      if (program === undefined) {
        program = this.#trace(fn, args, name, donate, memoryHint);
        programs.set(flat.key, program);
        flat.read(args);
      }
      return program;
    };
    const call = (...args: A) => this.#call(prepare(args), flat) as R;
    return Object.assign(call, {
      memoryPlan(...args: A): MemoryPlan {
        const { executable } = prepare(args);
        flat.clear();
        return executable.memoryPlan();
      },
    });
  }

  /** Traces `fn` on stand-ins for the tensors of `args`, and compiles it. */
  #trace<A extends unknown[], R extends Tree>(
    fn: (...args: A) => R,
    args: A,
    name: string,
    donate: ReadonlySet<number>,
    hint?: string,
  ): Program {
    let trace = new Trace(name);
    try {
      let recorded = this.#record(trace, fn, args, donate);
      if (trace.kernels.length === 1 && trace.kernels[0] === "BatchMatMul") {
        this.#release(trace.hoisted);
        trace = new Trace(name, { lone: true });
        recorded = this.#record(trace, fn, args, donate);
      }
      const { structure, results, types, donated } = recorded;
      const reused = alias(trace, donated, types, results);
      const layout = trace.mesh === undefined ? undefined : layOut(trace, results, reused);
      const text = trace.builder.module(results, {
        name,
        ...(layout && { resultAttributes: layout.results.map(shardingAttribute) }),
      });
      return {
        executable: this.#backend.programs.get(text, name, {
          ops: trace.ops,
          ...(trace.mesh && { partitions: trace.mesh.size }),
          ...(hint !== undefined && { hint }),
        }),
        hoisted: trace.hoisted,
        results: results.map((value) => value.type),
        structure,
        donated,
        layout,
      };
    } catch (error) {
      this.#release(trace.hoisted);
      throw error;
    }
  }

  #release(hoisted: readonly Hoisted[]): void {
    for (const { entry, variable } of hoisted) {
      if (variable === undefined) this.#backend.release(entry);
    }
  }

  /** Runs `fn` once with every kernel going into `trace`. */
  #record<A extends unknown[], R extends Tree>(
    trace: Trace,
    fn: (...args: A) => R,
    args: A,
    donate: ReadonlySet<number>,
  ): Recording {
    const backend = this.#backend;
    const { name } = trace;
    const types: TensorType[] = [];
    const donated: { leaf: number; after: string }[] = [];
    const standIn = (leaf: tf.Tensor, path: string, argument: number): tf.Tensor => {
      const entry = backend.entryOf(leaf.dataId);
      if (!entry.onDevice) {
        throw new TypeError(`jit '${name}': argument ${path} is a ${leaf.dtype} tensor`);
      }
      if (donate.has(argument)) {
        donated.push({
          leaf: types.length,
          after: `argument ${path} of jit '${name}' (${typeOf(leaf)}) was donated to an earlier ` +
            `call and is gone; use the call's result, or do not donate argument ${argument}`,
        });
      }
      types.push({ shape: [...leaf.shape], dtype: entry.hlo });
      const value = trace.argument(types.at(-1)!);
      if (entry.shards !== undefined && sameShape(entry.shape, leaf.shape)) {
        trace.setSharding(value, entry.shards.sharding);
      }
      return backend.tracedTensor(value, `argument ${path}`);
    };
    let structure: Tree | undefined;
    const results: Value[] = [];
    this.#recording(trace, () => {
      tf.tidy(() => {
        const traced = args.map((arg, i) =>
          mapWithPath(arg, `${i}`, (leaf, path) => standIn(leaf, path, i))
        ) as A;
        structure = fn(...traced);
        for (const leaf of leavesOf(structure, `the result of jit '${name}'`)) {
          results.push(trace.valueOf(leaf, backend.entryOf(leaf.dataId), "returning a result"));
        }
      });
    });
    return { structure: structure!, results, types, donated };
  }

  #recording(trace: Trace, body: () => void): void {
    const backend = this.#backend;
    const outer = backend.trace;
    backend.trace = trace;
    try {
      withFreshTape(body);
    } finally {
      backend.trace = outer;
      trace.close();
    }
  }

  #call(program: Program, flat: Flattening): Tree {
    const { executable, hoisted, donated } = program;
    const backend = this.#backend;
    if (program.layout !== undefined) return this.#callOnMesh(program, program.layout, flat);
    const entries = flat.entries;
    const addresses = executable.inputs(entries.length + hoisted.length);
    for (let i = 0; i < entries.length; i++) addresses[i] = backend.bufferOf(entries[i]!);
    for (const { argument, entry, variable } of hoisted) {
      const current = variable === undefined ? entry : backend.entryOf(variable.dataId);
      addresses[argument] = backend.bufferOf(current);
    }
    executable.run(donated.length === 0 ? undefined : shared(donated, entries));
    const results = program.results.map((type, i) =>
      backend.tensorOf(executable.outputs[i]!, type)
    );
    for (const { leaf, after } of donated) consume(flat.tensors[leaf]!, entries[leaf]!, after);
    flat.clear();
    return isSingle(program.structure) ? results[0]! : fillTree(program.structure, results);
  }

  #callOnMesh(
    program: Program,
    layout: NonNullable<Program["layout"]>,
    flat: Flattening,
  ): Tree {
    const { executable, hoisted, donated } = program;
    const backend = this.#backend;
    const { entries, tensors } = flat;
    const count = entries.length + hoisted.length;
    const put = (argument: number, entry: Entry, shape: readonly number[]) => {
      const parts = backend.partsOf(entry, layout.arguments[argument]!, shape);
      parts.forEach((buffer, device) => executable.inputs(count, device)[argument] = buffer);
    };
    for (let i = 0; i < entries.length; i++) put(i, entries[i]!, tensors[i]!.shape);
    for (const { argument, entry, variable } of hoisted) {
      const current = variable === undefined ? entry : backend.entryOf(variable.dataId);
      put(argument, current, current.shape);
    }
    executable.run(donated.length === 0 ? undefined : shared(donated, entries));
    const devices = Array.from({ length: executable.devices }, (_, device) => device);
    const results = program.results.map((type, i) => {
      const buffers = devices.map((device) => executable.outputsOf(device)[i]!);
      return backend.tensorOfParts(buffers, type, layout.results[i]!);
    });
    for (const { leaf, after } of donated) consume(tensors[leaf]!, entries[leaf]!, after);
    flat.clear();
    return isSingle(program.structure) ? results[0]! : fillTree(program.structure, results);
  }

  get devices(): number {
    return this.#backend.client.devices.length;
  }

  get mesh(): Mesh | undefined {
    return this.#backend.trace?.mesh;
  }

  shard(x: tf.Tensor, sharding: Sharding): tf.Tensor {
    const { trace } = this.#backend;
    if (trace === undefined) return this.#backend.place(x, sharding);
    trace.useMesh(sharding.mesh);
    const result = this.run("ShardingConstraint", { x }, { sharding: sharding.text });
    trace.setSharding(this.#backend.entryOf(result.dataId).value!, sharding);
    return result;
  }

  whileLoop<S extends Tree>(cond: (state: S) => tf.Tensor, body: (state: S) => S, init: S): S {
    const backend = this.#backend;
    leavesOf(init, "whileLoop state");
    if (backend.trace !== undefined) return this.#tracedLoop(backend.trace, cond, body, init);
    const flat = new Flattening(backend, "whileLoop");
    const program = this.#trace(
      (state: S) => this.#tracedLoop(backend.trace!, cond, body, state),
      [init],
      "whileLoop",
      new Set(),
    );
    flat.read([init]);
    const result = this.#call(program, flat);
    this.#release(program.hoisted);
    if (isTapeOn()) {
      refuseGradient(leavesOf(init), leavesOf(result));
    }
    return result as S;
  }

  #tracedLoop<S extends Tree>(
    trace: Trace,
    cond: (state: S) => tf.Tensor,
    body: (state: S) => S,
    init: S,
  ): S {
    const backend = this.#backend;
    const first = leavesOf(init);
    const values = first.map((leaf) =>
      trace.valueOf(leaf, backend.entryOf(leaf.dataId), "whileLoop")
    );
    const inRegion = (args: Value[], f: (state: S) => Value[]): Value[] =>
      trace.inScope(() => {
        let out: Value[] = [];
        withFreshTape(() =>
          tf.tidy(() => {
            const leaves = args.map((value, i) =>
              backend.tracedTensor(value, `whileLoop state leaf ${i}`)
            );
            out = f(fillTree(init, leaves));
          })
        );
        return out;
      });
    const read = (leaf: tf.Tensor) =>
      trace.valueOf(leaf, backend.entryOf(leaf.dataId), "whileLoop");
    let results: Value[] = [];
    const captured = trace.collectCaptured(() => {
      results = trace.builder.while(
        values,
        (...args) => inRegion(args, (state) => [condition(trace, read(cond(state)))])[0]!,
        (...args) =>
          inRegion(args, (state) => {
            const next = leavesOf(body(state), "whileLoop state");
            checkLoopTypes(values, first, next, next.map(read));
            return next.map(read);
          }),
      );
    });
    const outputs = results.map((value) => backend.tracedTensor(value, "whileLoop"));
    if (isTapeOn()) {
      const inputs = [...first, ...[...captured].filter((x) => !x.isDisposed)];
      refuseGradient(inputs, outputs);
    }
    return fillTree(init, outputs);
  }
}

/** A gradient that passes through a loop must be an error, not a silent zero. */
function refuseGradient(inputs: tf.Tensor[], outputs: tf.Tensor[]): void {
  recordUndifferentiable(
    "whileLoop",
    inputs,
    outputs,
    "whileLoop and scan have no reverse-mode derivative on the xla backend: take the gradient " +
      "inside the loop's body, or unroll the loop",
  );
}

/** An i1 scalar from a bool or int32 scalar. */
function condition(trace: Trace, value: Value): Value {
  if (value.type.shape.some((size) => size !== 1)) {
    throw new TypeError(`whileLoop: the condition must be a scalar, found [${value.type.shape}]`);
  }
  const scalar = trace.builder.reshape(value, []);
  return scalar.type.dtype === "i1"
    ? scalar
    : trace.builder.compare("NE", scalar, trace.builder.scalar(0, scalar.type.dtype));
}

function checkLoopTypes(
  before: readonly Value[],
  first: readonly tf.Tensor[],
  next: readonly tf.Tensor[],
  after: readonly Value[],
): void {
  if (next.length !== first.length) {
    throw new TypeError(
      `whileLoop: the body returned ${next.length} tensors for a state of ${first.length}`,
    );
  }
  for (const [i, value] of before.entries()) {
    if (sameType(value.type, after[i]!.type)) continue;
    const inner = (v: Value) => v.type.dtype === "bf16" ? " (bfloat16)" : "";
    throw new TypeError(
      `whileLoop: the body turned state leaf ${i} from ${typeOf(first[i]!)}${inner(value)} into ${
        typeOf(next[i]!)
      }${inner(after[i]!)}`,
    );
  }
}

/** Lets each donated argument's memory become a result of the same type. */
function alias(
  trace: Trace,
  donated: readonly { leaf: number }[],
  types: readonly TensorType[],
  results: readonly Value[],
): Map<number, number> {
  const reused = new Map<number, number>();
  const free = new Set(results.keys());
  for (const { leaf } of donated) {
    for (const result of free) {
      if (!sameType(types[leaf]!, results[result]!.type)) continue;
      trace.builder.setArgumentAttribute(leaf, "tf.aliasing_output", `${result} : i32`);
      free.delete(result);
      reused.set(result, leaf);
      break;
    }
  }
  return reused;
}

/**
 * Says in the program how arguments and results lie on its mesh. A result in the memory of a donated
 * argument lies as that does; any other as was asked for with `shard`, or whole on every device.
 */
function layOut(trace: Trace, results: readonly Value[], reused: ReadonlyMap<number, number>) {
  const { builder } = trace;
  const mesh: Mesh = trace.mesh!;
  builder.setModuleAttribute("mhlo.num_partitions", `${mesh.size} : i32`);
  builder.setModuleAttribute("mhlo.num_replicas", "1 : i32");
  builder.declare(`sdy.mesh @mesh = ${meshText(mesh)}`);
  const layouts = builder.argumentTypes.map((type, i) => {
    const sharding = trace.shardingOf({ id: `%arg${i}`, type });
    for (const [name, text] of Object.entries(shardingAttribute(sharding))) {
      builder.setArgumentAttribute(i, name, text);
    }
    return sharding;
  });
  return {
    arguments: layouts,
    results: results.map((value, i) => {
      const leaf = reused.get(i);
      return leaf === undefined ? trace.shardingOf(value) : layouts[leaf]!;
    }),
  };
}

function shardingAttribute({ text }: Sharding): Record<string, string> {
  return { "sdy.sharding": `#sdy.sharding<@mesh, ${text}>` };
}

/** Donated arguments whose data someone else still needs, which must be copied instead. */
function shared(
  donated: readonly { leaf: number }[],
  entries: readonly Entry[],
): number[] | undefined {
  let keep: number[] | undefined;
  for (const { leaf } of donated) {
    const entry = entries[leaf]!;
    if (entry.refs > 1 || entry.holds > 0 || isRepeated(entries, leaf)) (keep ??= []).push(leaf);
  }
  return keep;
}

function isRepeated(entries: readonly Entry[], leaf: number): boolean {
  const entry = entries[leaf]!;
  return entries.indexOf(entry) !== leaf || entries.indexOf(entry, leaf + 1) !== -1;
}

function consume(tensor: tf.Tensor, entry: Entry, after: string): void {
  if (tensor.isDisposed) return;
  tensor.dispose();
  (tensor as unknown as { throwIfDisposed(): void }).throwIfDisposed = () => {
    throw new Error(after);
  };
  if (entry.gone !== undefined) entry.gone = after;
}

function isSingle(tree: Tree): boolean {
  return tree instanceof tf.Tensor;
}

function mapWithPath(
  node: unknown,
  path: string,
  map: (leaf: tf.Tensor, path: string) => tf.Tensor,
): unknown {
  if (node instanceof tf.Tensor) return map(node, path);
  if (Array.isArray(node)) return node.map((x, i) => mapWithPath(x, `${path}[${i}]`, map));
  if (typeof node === "object" && node !== null) {
    return Object.fromEntries(
      Object.entries(node).map(([key, x]) => [key, mapWithPath(x, `${path}.${key}`, map)]),
    );
  }
  return node;
}
