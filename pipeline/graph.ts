/**
 * A workflow's graph after it was checked: plain data that planning, running and printing share.
 */
import { UserError } from "../errors.ts";
import type { GraphRecord, Values } from "./events.ts";
import type { Resources, Stage } from "./stage.ts";

/** An output of a node. */
export interface InputRef {
  readonly node: string;
  readonly output: string;
}

export interface GraphNode {
  readonly id: string;
  readonly stage: Stage;
  /** With defaults filled in. */
  readonly params: Values;
  /** By input name; inputs left out are absent. */
  readonly inputs: ReadonlyMap<string, InputRef | readonly InputRef[]>;
  readonly seed: number;
  readonly resources: Resources;
  readonly when?: {
    readonly of: readonly string[];
    readonly test: (...values: Values[]) => boolean;
    readonly otherwise: string;
  };
  /** The user's file or folder that this node takes into the store. */
  readonly importPath?: string;
}

export interface Graph {
  readonly workflow: string;
  readonly params: Values;
  readonly seed: number;
  /** Set where this is the part of a workflow that ends in this node, which alone may run. */
  readonly only?: string;
  /** Every node after the nodes it waits for. */
  readonly nodes: readonly GraphNode[];
  readonly outputs: ReadonlyMap<string, InputRef>;
  readonly values: ReadonlyMap<string, { readonly node: string; readonly key: string }>;
}

/** The nodes that must have finished before this one can start, each once. */
export function waitsFor(node: GraphNode): string[] {
  const ids = new Set<string>();
  for (const ref of node.inputs.values()) {
    if (Array.isArray(ref)) { for (const one of ref as InputRef[]) ids.add(one.node); }
    else ids.add((ref as InputRef).node);
  }
  for (const id of node.when?.of ?? []) ids.add(id);
  return [...ids];
}

/**
 * Puts every node after those it waits for, otherwise in the order they were declared.
 *
 * @throws UserError that names the stages of a cycle
 */
export function orderNodes(workflow: string, nodes: ReadonlyMap<string, GraphNode>): GraphNode[] {
  const ordered: GraphNode[] = [];
  const state = new Map<string, "open" | "closed">();
  for (const start of nodes.values()) {
    if (state.has(start.id)) continue;
    // A stack of its own: graphs may be deeper than the call stack.
    const path: { node: GraphNode; waits: string[] }[] = [];
    const enter = (node: GraphNode) => {
      state.set(node.id, "open");
      path.push({ node, waits: waitsFor(node) });
    };
    enter(start);
    while (path.length > 0) {
      const { node, waits } = path.at(-1)!;
      const id = waits.shift();
      if (id === undefined) {
        state.set(node.id, "closed");
        ordered.push(node);
        path.pop();
      } else if (state.get(id) === "open") {
        const from = path.findIndex((step) => step.node.id === id);
        const cycle = [...path.slice(from).map((step) => step.node.id), id].reverse();
        throw new UserError(
          `checking workflow '${workflow}': stages wait for each other: ${cycle.join(" -> ")}`,
          { exitCode: 2 },
        );
      } else if (!state.has(id)) {
        enter(nodes.get(id)!);
      }
    }
  }
  return ordered;
}

/** The graph as the journal keeps it. */
export function graphRecord(graph: Graph): GraphRecord {
  return {
    nodes: graph.nodes.map((node) => ({
      id: node.id,
      stage: node.stage.name,
      inputs: waitsFor(node),
      params: node.params,
    })),
  };
}

/** The graph as a Mermaid flow chart. */
export function toMermaid(graph: Graph): string {
  const number = new Map(graph.nodes.map((node, i) => [node.id, `n${i}`]));
  const lines = ["flowchart LR"];
  for (const node of graph.nodes) {
    const label = node.id === node.stage.name ? node.id : `${node.id}<br/>${node.stage.name}`;
    lines.push(`  ${number.get(node.id)}["${label}"]`);
  }
  for (const node of graph.nodes) {
    const to = number.get(node.id);
    for (const [name, ref] of node.inputs) {
      for (const from of Array.isArray(ref) ? ref as InputRef[] : [ref as InputRef]) {
        lines.push(`  ${number.get(from.node)} -->|${name}| ${to}`);
      }
    }
    for (const id of node.when?.of ?? []) lines.push(`  ${number.get(id)} -.->|when| ${to}`);
  }
  return lines.join("\n") + "\n";
}

/** The graph as text: a line for each stage, with where each of its inputs comes from. */
export function toText(graph: Graph): string {
  const width = longest(graph.nodes.map((node) => node.id));
  return graph.nodes.map((node) => {
    const inputs = [...node.inputs].map(([name, ref]) => {
      if (!Array.isArray(ref)) return `${name} <- ${refText(ref as InputRef)}`;
      const refs = ref as InputRef[];
      const shown = refs.length <= 3
        ? refs.map(refText).join(", ")
        : `${refText(refs[0]!)} ... ${refText(refs.at(-1)!)} (${refs.length})`;
      return `${name} <- [${shown}]`;
    });
    const source = node.importPath === undefined ? inputs : [node.importPath];
    return `${node.id.padEnd(width)}  ${source.join(", ")}`.trimEnd();
  }).join("\n") + "\n";
}

function refText(ref: InputRef): string {
  return `${ref.node}.${ref.output}`;
}

/** The length of the longest text; of any number of them. */
export function longest(texts: readonly string[]): number {
  return texts.reduce((most, text) => Math.max(most, text.length), 0);
}
