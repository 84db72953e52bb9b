/**
 * What a run would do: which stages have to run, which are in the store, and why not where they are
 * not. The runner decides stage by stage by the same functions, so that a plan tells the truth.
 */
import { IMPORT_STAGE } from "./workflow.ts";
import { CodeHasher } from "./code.ts";
import type { Json, Values } from "./events.ts";
import { type Graph, type GraphNode, type InputRef, waitsFor } from "./graph.ts";
import { canonicalJson, hashOf } from "./hash.ts";
import { importId } from "./import.ts";
import { changedPaths } from "./json_diff.ts";
import type { JournalReader } from "./journal.ts";
import { kindOf } from "./stage.ts";
import { isWhole, type Store, type WorkRecord } from "./store.ts";

/** Raise it when keys are made in another way; older results are then not found. */
const KEY_SCHEME = 1;

/** A store far away takes its time for each answer. */
const LOOKUPS_AT_A_TIME = 64;

/** Artifact ids by input name; inputs left out are absent. */
export type InputIds = Record<string, string | string[]>;

/** What a node has given: its artifacts and small results. */
export interface NodeResult {
  readonly artifacts: Readonly<Record<string, string>>;
  readonly values: Values;
  /** The node did not run and gave nothing. */
  readonly skipped?: string;
}

/** The identity of a node's work. */
export interface Work {
  readonly key: string;
  readonly code: string;
  readonly inputs: InputIds;
  /** All that the key is made of. */
  readonly ingredients: Record<string, Json>;
}

/** Everything that affects what the node gives, and the hash of it. */
export function workOf(node: GraphNode, inputs: InputIds, code: string): Work {
  const outputs = Object.entries(node.stage.outputs)
    .map(([name, kind]) => [name, `${kind.kind}@${kind.version}`]);
  const ingredients: Record<string, Json> = {
    scheme: KEY_SCHEME,
    stage: node.stage.name,
    version: node.stage.version,
    params: node.params,
    inputs,
    seed: node.seed,
    outputs: Object.fromEntries(outputs),
  };
  return { key: hashOf(ingredients), code, inputs, ingredients };
}

/** Why a node with these results before it does not run; undefined where it does. */
export function skipReason(
  node: GraphNode,
  results: (id: string) => NodeResult,
): string | undefined {
  if (node.when !== undefined) {
    const values = node.when.of.map((id) => results(id).values);
    if (!node.when.test(...values)) return node.when.otherwise;
  }
  for (const [name, ref] of node.inputs) {
    const spec = node.stage.inputs[name]!;
    if ("list" in spec || "optional" in spec) continue;
    const { node: from } = ref as InputRef;
    if (results(from).skipped !== undefined) return `'${from}' was skipped`;
  }
  return undefined;
}

/** The artifacts that a node's inputs stand for; those of skipped nodes are left out. */
export function inputIds(node: GraphNode, results: (id: string) => NodeResult): InputIds {
  const ids: InputIds = {};
  for (const [name, ref] of node.inputs) {
    const found = (Array.isArray(ref) ? ref as InputRef[] : [ref as InputRef])
      .flatMap(({ node: from, output }) => results(from).artifacts[output] ?? []);
    if ("list" in node.stage.inputs[name]!) ids[name] = found;
    else if (found[0] !== undefined) ids[name] = found[0];
  }
  return ids;
}

/** The record of this work, if all it made is still there. */
export async function findDone(
  work: Work,
  store: Store,
  anyCode: boolean,
): Promise<WorkRecord | undefined> {
  const record = await store.record(work.key, anyCode ? undefined : work.code);
  return record !== undefined && await isWhole(record, store) ? record : undefined;
}

export interface PlannedStage {
  readonly id: string;
  readonly stage: string;
  /** `unknown`: it depends on what a stage before it will give. */
  readonly state: "cached" | "run" | "skip" | "unknown";
  /** Why it is not cached. */
  readonly reasons: readonly string[];
}

export interface PlanOptions {
  readonly store: Store;
  /** Where earlier runs are looked up, to tell what changed. */
  readonly journal?: JournalReader;
  readonly anyCode?: boolean;
  /** Remember what imported files hold, so that the run after it need not read them again. */
  readonly remember?: boolean;
}

/** Plans a run. Nothing is written but what `remember` asks for. */
export async function planGraph(graph: Graph, options: PlanOptions): Promise<PlannedStage[]> {
  const { store, anyCode = false, remember = false } = options;
  const hasher = new CodeHasher();
  const results = new Map<string, NodeResult>();
  const toExplain = new Map<string, Work>();
  const lookUp = (id: string) => results.get(id)!;
  const planNode = async (node: GraphNode): Promise<PlannedStage> => {
    const say = (state: PlannedStage["state"], reasons: string[] = []) => {
      return { id: node.id, stage: node.stage.name, state, reasons };
    };
    if (node.importPath !== undefined) {
      const kind = node.stage.outputs["content"]!;
      const id = await importId(node.id, kind, node.importPath, store, { remember });
      results.set(node.id, { artifacts: { content: id }, values: {} });
      if (await store.has(id)) return say("cached");
      return say("run", [`${node.importPath} is new or has changed`]);
    }
    const unknown = unknownBefore(node, results);
    if (unknown.length > 0) return say("unknown", unknown);
    const skipped = skipReason(node, lookUp);
    if (skipped !== undefined) {
      results.set(node.id, { artifacts: {}, values: {}, skipped });
      return say("skip", [skipped]);
    }
    const work = workOf(node, inputIds(node, lookUp), await hasher.hash(node.stage.module));
    const record = await findDone(work, store, anyCode);
    if (record === undefined) {
      toExplain.set(node.id, work);
      return say("run");
    }
    results.set(node.id, { artifacts: record.outputs, values: record.values });
    return say("cached");
  };
  const planned: PlannedStage[] = [];
  let together = new Map<string, Promise<PlannedStage>>();
  const settle = async () => {
    for (const stage of await Promise.all(together.values())) planned.push(stage);
    together = new Map();
  };
  for (const node of graph.nodes) {
    if (together.size >= LOOKUPS_AT_A_TIME || waitsFor(node).some((id) => together.has(id))) {
      await settle();
    }
    together.set(node.id, planNode(node));
  }
  await settle();
  const reasons = await explain(graph, toExplain, options);
  return planned.map((stage) => ({ ...stage, reasons: reasons.get(stage.id) ?? stage.reasons }));
}

function unknownBefore(node: GraphNode, results: ReadonlyMap<string, NodeResult>): string[] {
  const reasons: string[] = [];
  for (const [name, ref] of node.inputs) {
    const from = Array.isArray(ref) ? ref as InputRef[] : [ref as InputRef];
    const missing = [...new Set(from.map((one) => one.node))].filter((id) => !results.has(id));
    if (missing.length === 0) continue;
    const shown = missing.length > 3 ? `${missing.length} stages` : missing.join(", ");
    reasons.push(`input '${name}' comes from ${shown}, yet to run`);
  }
  for (const id of node.when?.of ?? []) {
    if (!results.has(id)) reasons.push(`whether it runs depends on ${id}, yet to run`);
  }
  return reasons;
}

/** Compares work with what the same node did in earlier runs. */
async function explain(
  graph: Graph,
  works: ReadonlyMap<string, Work>,
  options: PlanOptions,
): Promise<Map<string, string[]>> {
  const { store, journal } = options;
  const reasons = new Map<string, string[]>();
  const open = new Map(works);
  const nodes = new Map(graph.nodes.map((node) => [node.id, node]));
  const runs = await journal?.runs({ workflow: graph.workflow, limit: 20 }) ?? [];
  for (const { id } of runs) {
    if (open.size === 0) break;
    for (const stage of (await journal!.run(id))?.stages ?? []) {
      const work = open.get(stage.id);
      const finished = stage.state === "done" || stage.state === "cached";
      if (work === undefined || !finished || stage.key === undefined) continue;
      if (stage.stage === IMPORT_STAGE) continue;
      open.delete(stage.id);
      const same = stage.key === work.key;
      const record = same && await store.record(work.key, work.code) ||
        await store.record(stage.key, undefined);
      const node = nodes.get(stage.id)!;
      reasons.set(
        stage.id,
        record === undefined ? ["its earlier result is gone"] : differences(work, record, node),
      );
    }
  }
  for (const id of open.keys()) reasons.set(id, ["it has not run yet"]);
  return reasons;
}

function differences(work: Work, record: WorkRecord, node: GraphNode): string[] {
  const found: string[] = [];
  const before = record.ingredients;
  const now = work.ingredients;
  for (const name of ["stage", "version", "seed"] as const) {
    if (before[name] !== now[name]) found.push(`${name} ${before[name]} -> ${now[name]}`);
  }
  for (const path of changedPaths(before["params"], now["params"])) {
    found.push(`parameter ${path.path}: ${path.before} -> ${path.now}`);
  }
  const inputsBefore = (before["inputs"] ?? {}) as Record<string, Json>;
  for (const name of new Set([...Object.keys(inputsBefore), ...Object.keys(work.inputs)])) {
    if (canonicalJson(inputsBefore[name]) === canonicalJson(work.inputs[name])) continue;
    const ref = node.inputs.get(name);
    const from = ref === undefined || Array.isArray(ref)
      ? ""
      : ` (from '${(ref as InputRef).node}')`;
    const kind = node.stage.inputs[name];
    const what = kind === undefined ? "" : ` of kind ${kindOf(kind).kind}`;
    found.push(`input '${name}'${what} changed${from}`);
  }
  if (canonicalJson(before["outputs"]) !== canonicalJson(now["outputs"])) {
    found.push("the kinds of its outputs changed");
  }
  if (found.length === 0 && before["scheme"] !== now["scheme"]) found.push("keys are made anew");
  if (record.code !== work.code) found.push("its code changed");
  if (found.length === 0) found.push("its earlier result is missing or damaged");
  return found;
}
