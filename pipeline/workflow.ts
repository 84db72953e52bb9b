/**
 * How a workflow is declared: plain TypeScript that wires stages. The wiring is typed, so that a wrong
 * one does not compile, and checked again when the graph is built, before anything runs: names,
 * kinds, parameters, missing inputs, cycles.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { nearest, UserError } from "../errors.ts";
import type { Values } from "./events.ts";
import { type Graph, type GraphNode, type InputRef, orderNodes } from "./graph.ts";
import { parseParams } from "./params.ts";
import {
  type ArtifactKind,
  type InputSpec,
  type InputSpecs,
  kindOf,
  type ListInput,
  type OptionalInput,
  type OutputSpecs,
  type Resources,
  type Stage,
} from "./stage.ts";

/** An output of a stage, to be wired into inputs. */
export interface ArtifactRef<Kind extends ArtifactKind = ArtifactKind> {
  readonly node: string;
  readonly output: string;
  readonly kind: Kind;
}

/** A stage in the graph. */
export interface NodeHandle<Outputs extends OutputSpecs = OutputSpecs> {
  readonly id: string;
  readonly outputs: { readonly [Name in keyof Outputs]: ArtifactRef<Outputs[Name]> };
}

type OptionalNames<Inputs extends InputSpecs> = {
  [Name in keyof Inputs]: Inputs[Name] extends OptionalInput ? Name : never;
}[keyof Inputs];

type RefOf<Spec extends InputSpec> = Spec extends OptionalInput<infer Kind>
  ? ArtifactRef<Kind> | undefined
  : Spec extends ListInput<infer Kind> ? readonly ArtifactRef<Kind>[]
  : Spec extends ArtifactKind ? ArtifactRef<Spec>
  : never;

/** The wiring that a stage's inputs ask for. Where there are none, `{}` would take anything. */
export type InputRefs<Inputs extends InputSpecs> = [keyof Inputs] extends [never]
  ? Readonly<Record<string, never>>
  :
    & { readonly [Name in Exclude<keyof Inputs, OptionalNames<Inputs>>]: RefOf<Inputs[Name]> }
    & { readonly [Name in OptionalNames<Inputs>]?: RefOf<Inputs[Name]> };

type Need<Name extends string, Value> = Record<never, never> extends Value
  ? { readonly [N in Name]?: Value }
  : { readonly [N in Name]: Value };

/** Whether a node runs, decided when the nodes it looks at are done. */
export interface Condition {
  readonly of: readonly NodeHandle[];
  /** `values[i]` are the small results of `of[i]`; empty where that node was skipped. */
  readonly test: (...values: Values[]) => boolean;
  /** Shown where the node is skipped: "accuracy did not rise". */
  readonly otherwise: string;
}

/** How a stage is placed in the graph. */
export type NodeSpec<Params extends z.ZodObject, Inputs extends InputSpecs> =
  & Need<"params", z.input<Params>>
  & Need<"inputs", InputRefs<Inputs>>
  & {
    /** Nodes with the same seed, stage, parameters and inputs share one result. Default: from the
     * run's seed and the node's name. */
    readonly seed?: number;
    readonly when?: Condition;
    readonly resources?: Resources;
  };

/** What `build` wires the graph with. */
export interface WorkflowBuilder {
  /** The run's seed. */
  readonly seed: number;
  /** Adds a stage. `id` is its name in this graph, unique; letters, digits and `-_.[]`. */
  stage<Params extends z.ZodObject, Inputs extends InputSpecs, Outputs extends OutputSpecs>(
    id: string,
    stage: Stage<Params, Inputs, Outputs>,
    spec: NodeSpec<Params, Inputs>,
  ): NodeHandle<Outputs>;
  /** Adds `count` stages `id[0]`, `id[1]`...; wire their outputs into a `list` input to fan in. */
  shards<Params extends z.ZodObject, Inputs extends InputSpecs, Outputs extends OutputSpecs>(
    id: string,
    stage: Stage<Params, Inputs, Outputs>,
    count: number,
    each: (index: number) => NodeSpec<Params, Inputs>,
  ): NodeHandle<Outputs>[];
  /** Takes a file or folder of the user into the store, by its content. A file becomes a folder with
   * that one file. */
  import<Kind extends ArtifactKind>(id: string, kind: Kind, path: string): ArtifactRef<Kind>;
  /** Names a result: it is copied to the folder `name` in the run's folder; `.` is that folder itself. */
  output(name: string, ref: ArtifactRef): void;
  /** Names a small result of the run: `key` of what the node returned. */
  value(name: string, node: NodeHandle, key: string): void;
}

/** A declared workflow. */
export interface Workflow<Params extends z.ZodObject = z.ZodObject> {
  readonly name: string;
  /** One line, for lists of workflows. */
  readonly description: string;
  readonly params: Params;
  build(w: WorkflowBuilder, params: z.output<Params>): void;
}

/** Declares a workflow; the type of its parameters flows into `build`. */
export function defineWorkflow<Params extends z.ZodObject>(
  workflow: Workflow<Params>,
): Workflow<Params> {
  return workflow;
}

/** The stage behind `w.import`: it is done by the runner itself, which knows the file's content. */
export const IMPORT_STAGE = "import";

/**
 * Builds and checks the graph of a workflow.
 *
 * @param params as a user gave them, before defaults
 * @throws UserError that lists everything wrong with it
 */
export function buildGraph(workflow: Workflow, params: unknown, seed: number): Graph {
  const resolved = parseParams(workflow.params, params, `workflow '${workflow.name}'`);
  const builder = new Builder(seed);
  workflow.build(builder, resolved);
  return builder.finish(workflow.name, resolved as Values);
}

const NODE_ID = /^[A-Za-z0-9][A-Za-z0-9_.[\]-]*$/;
const OUTPUT_NAME = /^(\.|[A-Za-z0-9][A-Za-z0-9_.-]*)$/;

class Builder implements WorkflowBuilder {
  readonly seed: number;
  readonly #nodes = new Map<string, GraphNode>();
  readonly #outputs = new Map<string, InputRef>();
  readonly #values = new Map<string, { node: string; key: string }>();
  readonly #problems: string[] = [];

  constructor(seed: number) {
    this.seed = seed;
  }

  stage<Params extends z.ZodObject, Inputs extends InputSpecs, Outputs extends OutputSpecs>(
    id: string,
    stage: Stage<Params, Inputs, Outputs>,
    spec: NodeSpec<Params, Inputs>,
  ): NodeHandle<Outputs> {
    const given = spec as {
      params?: unknown;
      inputs?: Readonly<Record<string, ArtifactRef | readonly ArtifactRef[] | undefined>>;
      seed?: number;
      when?: Condition;
      resources?: Resources;
    };
    const where = id === stage.name ? `stage '${id}'` : `stage '${stage.name}' ('${id}')`;
    let params: Values = {};
    try {
      params = parseParams(stage.params, given.params ?? {}, where) as Values;
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      this.#problems.push(error.message);
    }
    this.#add({
      id,
      stage: stage as unknown as Stage,
      params,
      inputs: this.#wire(where, stage, given.inputs ?? {}),
      seed: given.seed ?? deriveSeed(this.seed, id),
      resources: { ...stage.resources, ...given.resources },
      ...(given.when === undefined ? {} : {
        when: {
          of: given.when.of.map((node) => node.id),
          test: given.when.test,
          otherwise: given.when.otherwise,
        },
      }),
    });
    const outputs = Object.fromEntries(
      Object.entries(stage.outputs).map(([output, kind]) => [output, { node: id, output, kind }]),
    );
    return { id, outputs: outputs as NodeHandle<Outputs>["outputs"] };
  }

  shards<Params extends z.ZodObject, Inputs extends InputSpecs, Outputs extends OutputSpecs>(
    id: string,
    stage: Stage<Params, Inputs, Outputs>,
    count: number,
    each: (index: number) => NodeSpec<Params, Inputs>,
  ): NodeHandle<Outputs>[] {
    if (!Number.isInteger(count) || count < 1) {
      this.#problems.push(`shards '${id}': the count must be a positive integer, got ${count}`);
      return [];
    }
    return Array.from({ length: count }, (_, i) => this.stage(`${id}[${i}]`, stage, each(i)));
  }

  import<Kind extends ArtifactKind>(id: string, kind: Kind, path: string): ArtifactRef<Kind> {
    this.#add({
      id,
      stage: {
        name: IMPORT_STAGE,
        version: 1,
        params: z.object({ path: z.string() }),
        inputs: {},
        outputs: { content: kind },
        run: () => Promise.reject(new Error("imports are done by the runner")),
      },
      params: { path },
      inputs: new Map(),
      seed: 0,
      resources: {},
      importPath: path,
    });
    return { node: id, output: "content", kind };
  }

  output(name: string, ref: ArtifactRef): void {
    if (!OUTPUT_NAME.test(name)) {
      this.#problems.push(`output '${name}': use letters, digits and -_. for the name of a folder`);
    }
    if (this.#outputs.has(name)) this.#problems.push(`two outputs are named '${name}'`);
    if (this.#known(ref, `output '${name}'`)) {
      this.#outputs.set(name, { node: ref.node, output: ref.output });
    }
  }

  value(name: string, node: NodeHandle, key: string): void {
    if (this.#values.has(name)) this.#problems.push(`two values are named '${name}'`);
    this.#values.set(name, { node: node.id, key });
  }

  finish(workflow: string, params: Values): Graph {
    for (const [name, { node }] of this.#values) {
      if (!this.#nodes.has(node)) {
        this.#problems.push(`value '${name}' is of '${node}', which is not in this graph`);
      }
    }
    for (const node of this.#nodes.values()) {
      for (const id of node.when?.of ?? []) {
        if (!this.#nodes.has(id)) {
          this.#problems.push(`'${node.id}' depends on '${id}', which is not in this graph`);
        }
      }
    }
    if (this.#nodes.size === 0) this.#problems.push("it has no stages");
    this.#throwProblems(workflow);
    return {
      workflow,
      params,
      seed: this.seed,
      nodes: orderNodes(workflow, this.#nodes),
      outputs: this.#outputs,
      values: this.#values,
    };
  }

  #add(node: GraphNode): void {
    if (!NODE_ID.test(node.id)) {
      this.#problems.push(`stage name '${node.id}': use letters, digits and -_.[]`);
    } else if (this.#nodes.has(node.id)) {
      this.#problems.push(
        `two stages are named '${node.id}'; in a loop, put the iteration into the name`,
      );
    }
    this.#nodes.set(node.id, node);
  }

  #wire(
    where: string,
    stage: { inputs: InputSpecs },
    given: Readonly<Record<string, ArtifactRef | readonly ArtifactRef[] | undefined>>,
  ): Map<string, InputRef | InputRef[]> {
    const wired = new Map<string, InputRef | InputRef[]>();
    for (const name of Object.keys(given)) {
      if (name in stage.inputs) continue;
      const near = nearest(name, Object.keys(stage.inputs));
      const hint = near === undefined
        ? `; it has: ${Object.keys(stage.inputs).join(", ") || "none"}`
        : `: did you mean '${near}'?`;
      this.#problems.push(`${where} has no input '${name}'${hint}`);
    }
    for (const [name, spec] of Object.entries(stage.inputs)) {
      const ref = given[name];
      const kind = kindOf(spec);
      if (ref === undefined) {
        if ("optional" in spec) continue;
        this.#problems.push(`${where} needs input '${name}' of kind ${kind.kind}, got nothing`);
        continue;
      }
      const refs = Array.isArray(ref) ? ref as readonly ArtifactRef[] : [ref as ArtifactRef];
      if (Array.isArray(ref) !== ("list" in spec)) {
        const got = Array.isArray(ref) ? "a list" : "a single artifact";
        const wanted = "list" in spec ? `a list of ${kind.kind}` : `one ${kind.kind}`;
        this.#problems.push(`${where} takes ${wanted} as input '${name}', got ${got}`);
        continue;
      }
      const sound = refs.filter((r) => this.#fits(r, kind, `${where} needs input '${name}'`));
      const links = sound.map(({ node, output }) => ({ node, output }));
      if ("list" in spec) wired.set(name, links);
      else if (links[0] !== undefined) wired.set(name, links[0]);
    }
    return wired;
  }

  #fits(ref: ArtifactRef, kind: ArtifactKind, where: string): boolean {
    if (!this.#known(ref, where)) return false;
    const same = ref.kind.kind === kind.kind;
    if (same && ref.kind.version === kind.version) return true;
    const wanted = same ? `${kind.kind} version ${kind.version}` : kind.kind;
    const got = same ? `version ${ref.kind.version}` : ref.kind.kind;
    this.#problems.push(`${where} of kind ${wanted}, got ${got} (from '${ref.node}')`);
    return false;
  }

  #known(ref: ArtifactRef, where: string): boolean {
    const node = this.#nodes.get(ref.node);
    if (node !== undefined && ref.output in node.stage.outputs) return true;
    this.#problems.push(
      node === undefined
        ? `${where}: '${ref.node}' is not a stage of this graph`
        : `${where}: '${ref.node}' has no output '${ref.output}'`,
    );
    return false;
  }

  #throwProblems(workflow: string): void {
    if (this.#problems.length === 0) return;
    const shown = this.#problems.slice(0, 20);
    const more = this.#problems.length - shown.length;
    const text = shown.length === 1 ? shown[0] : "\n" + shown.map((p) => `  ${p}`).join("\n");
    throw new UserError(
      `checking workflow '${workflow}': ${text}` + (more > 0 ? `\n  and ${more} more` : ""),
      { exitCode: 2 },
    );
  }
}

/** A non-negative 31-bit seed for a node, unrelated to those of other nodes. */
function deriveSeed(seed: number, id: string): number {
  return createHash("sha256").update(`${seed} ${id}`).digest().readUInt32BE(0) >>> 1;
}
