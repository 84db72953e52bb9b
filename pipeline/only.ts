/**
 * Running one stage of a graph by itself, where each stage is a job of its own on a machine of its own
 * and only the store passes between them: the part of the graph that its key depends on, and the check
 * that earlier jobs have left its inputs.
 */
import { unknownName, UserError } from "../errors.ts";
import { type Graph, waitsFor } from "./graph.ts";
import { planGraph } from "./plan.ts";
import type { Store } from "./store.ts";

/**
 * The graph of the node `id` and of all that it waits for, directly or not. The workflow's results
 * are kept where all of them are made in this part, as they are for the last node of a workflow, and
 * left out otherwise.
 *
 * @throws UserError (wrong use) where there is no such node, with the nearest right name
 */
export function onlyNode(graph: Graph, id: string): Graph {
  const nodes = new Map(graph.nodes.map((node) => [node.id, node]));
  if (!nodes.has(id)) {
    throw unknownName(`stage of workflow '${graph.workflow}'`, id, nodes.keys());
  }
  const kept = new Set([id]);
  // A set goes on over what is added meanwhile.
  for (const one of kept) for (const before of waitsFor(nodes.get(one)!)) kept.add(before);
  const complete = [...graph.outputs.values()].every(({ node }) => kept.has(node));
  return {
    ...graph,
    only: id,
    nodes: graph.nodes.filter((node) => kept.has(node.id)),
    outputs: complete ? graph.outputs : new Map(),
    values: new Map([...graph.values].filter(([, { node }]) => kept.has(node))),
  };
}

/**
 * Checks that the store has what everything before the graph's only node makes. Imports need not be
 * there: the run takes them in.
 *
 * @throws UserError (wrong use) that names the stage to run first
 */
export async function requireInputs(
  graph: Graph,
  options: { readonly store: Store; readonly anyCode: boolean },
): Promise<void> {
  const imports = new Set(
    graph.nodes.filter((node) => node.importPath !== undefined).map(({ id }) => id),
  );
  const missing = (await planGraph(graph, { ...options, remember: true })).filter(({ id, state }) =>
    (state === "run" || state === "unknown") && id !== graph.only && !imports.has(id)
  );
  const first = missing.find(({ state }) => state === "run");
  if (first === undefined) return;
  const later = missing.filter((stage) => stage !== first).map(({ id }) => `'${id}'`);
  const then = later.length === 0 ? "" : `, then ${later.slice(0, 5).join(", ")}` +
    (later.length > 5 ? ` and ${later.length - 5} more` : "");
  throw new UserError(
    `running only '${graph.only}': what '${first.id}' makes is not in the store ` +
      `${options.store.location}; run '${first.id}' first${then} (--dry-run says why)`,
    { exitCode: 2 },
  );
}
