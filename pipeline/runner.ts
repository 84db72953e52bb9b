/**
 * Runs a workflow: each stage as soon as its inputs are there and the machine has room, unless the
 * store has what it would make.
 *
 * Everything that was finished stays finished: the runner may be killed at any moment and started
 * again with the same workflow and parameters, and goes on with the same bytes. What is in the store
 * decides what is done; the journal only tells what happened.
 */
import { join, resolve } from "node:path";
import { UserError } from "../errors.ts";
import { Attempts } from "./attempts.ts";
import { claimRun } from "./claim.ts";
import { CodeHasher } from "./code.ts";
import type { Values } from "./events.ts";
import { removeQuietly } from "./files.ts";
import { type Graph, type GraphNode, graphRecord, type InputRef } from "./graph.ts";
import { hashOf } from "./hash.ts";
import { importArtifact, importedFiles } from "./import.ts";
import type { RunWriter } from "./journal.ts";
import { requireInputs } from "./only.ts";
import { findDone, inputIds, type NodeResult, skipReason, type Work, workOf } from "./plan.ts";
import { checkResultsFolder, writeResults } from "./results.ts";
import { RunControl } from "./run_control.ts";
import type { RunOptions, RunResult } from "./run_options.ts";
import { CorruptArtifactError, type Store } from "./store.ts";
import { sweepWorkspace } from "./sweep.ts";
import { buildGraph, type Workflow } from "./workflow.ts";

/**
 * Runs a workflow to its end.
 *
 * @param params as a user gave them, before defaults
 * @throws UserError where the graph is wrong, another runner drives this run, or a stage failed;
 *   RunCancelledError where it was cancelled
 */
export async function runWorkflow(
  workflow: Workflow,
  params: unknown,
  options: RunOptions,
): Promise<RunResult> {
  return await runGraph(buildGraph(workflow, params, options.seed ?? 0), options);
}

/**
 * Runs a graph to its end; as `runWorkflow`. Of a graph that `onlyNode` made, only that node runs (and
 * what its inputs need where the store turns out to be damaged).
 */
export async function runGraph(graph: Graph, options: RunOptions): Promise<RunResult> {
  for (const node of graph.nodes) {
    if (node.importPath === undefined) continue;
    await importedFiles(node.id, node.stage.outputs["content"]!, node.importPath);
  }
  await checkResultsFolder(options.out ?? "runs");
  const { workflow, params, seed, only } = graph;
  if (only !== undefined) {
    const { store, anyCode = false } = options;
    await requireInputs(graph, { store, anyCode });
  }
  const writer = await claimRun(options.journal, {
    newRun: newRunId(workflow),
    fingerprint: hashOf({ workflow, params, seed, ...(only === undefined ? {} : { only }) }),
    ...(options.run === undefined ? {} : { run: options.run }),
  }, options.cancel === undefined ? {} : { signal: options.cancel });
  return await new Runner(graph, options, writer).run();
}

/** `demo-20261123-183000-1f3a`: sorts by time and is unique enough to be typed. */
function newRunId(workflow: string): string {
  const time = new Date().toISOString().replace(/[-:]|\..*/g, "").replace("T", "-");
  return `${workflow}-${time}-${crypto.randomUUID().slice(0, 4)}`;
}

/** How often a stage's inputs are made again because they were found damaged. */
const MAX_REPAIRS = 3;

class Runner {
  readonly #graph: Graph;
  readonly #run: RunControl;
  readonly #store: Store;
  readonly #attempts: Attempts;
  readonly #hasher = new CodeHasher();
  readonly #results = new Map<string, Promise<NodeResult>>();
  readonly #done = new Map<string, NodeResult>();
  #ran = 0;
  #cached = 0;

  constructor(graph: Graph, options: RunOptions, writer: RunWriter) {
    this.#graph = graph;
    this.#run = new RunControl(graph, options, writer);
    this.#store = options.store;
    this.#attempts = new Attempts(this.#run);
  }

  async run(): Promise<RunResult> {
    const began = performance.now();
    const { options, writer, workspace } = this.#run;
    const out = resolve(options.out ?? join("runs", writer.run));
    const graph = graphRecord(this.#graph);
    const { workflow, params, seed, only } = this.#graph;
    const part = only === undefined ? {} : { only };
    if (writer.resumed) this.#run.tell({ type: "run.resumed", graph, out });
    else this.#run.tell({ type: "run.started", workflow, params, seed, graph, out, ...part });
    const cleanUp = this.#run.connect();
    try {
      await sweepWorkspace(this.#store.workspace);
      await writer.flush();
      await this.#completeAll();
      const artifacts: Record<string, string> = {};
      for (const [name, { node, output }] of this.#graph.outputs) {
        const id = this.#done.get(node)!.artifacts[output];
        if (id !== undefined) artifacts[name] = id;
      }
      if (only === undefined || this.#graph.outputs.size > 0) {
        await this.#repairing(() => writeResults(artifacts, out, this.#store, workspace));
      }
      const values: Values = {};
      for (const [name, { node, key }] of this.#graph.values) {
        values[name] = this.#done.get(node)!.values[key] ?? null;
      }
      const seconds = (performance.now() - began) / 1000;
      this.#run.tell({ type: "run.done", seconds, values });
      await writer.close();
      return {
        run: writer.run,
        out,
        seconds,
        values,
        artifacts,
        ran: this.#ran,
        cached: this.#cached,
      };
    } catch (error) {
      throw await this.#run.ended(error);
    } finally {
      cleanUp();
      await removeQuietly(workspace);
    }
  }

  async #completeAll(): Promise<void> {
    // In the graph's order, so that each node finds the promises of those before it.
    const all = this.#graph.nodes.map((node) => this.#ensure(node));
    const settled = await Promise.allSettled(all);
    this.#run.stop.signal.throwIfAborted();
    const failed = settled.find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }

  #ensure(node: GraphNode): Promise<NodeResult> {
    let result = this.#results.get(node.id);
    if (result === undefined) {
      result = this.#complete(node).then((done) => {
        this.#done.set(node.id, done);
        return done;
      }, (error) => {
        // The first failure ends the run; stages that run now may still finish.
        this.#run.stop.abort(error);
        throw error;
      });
      this.#results.set(node.id, result);
    }
    return result;
  }

  async #complete(node: GraphNode): Promise<NodeResult> {
    return await this.#repairing(async () => {
      const before = new Set<string>(node.when?.of ?? []);
      for (const ref of node.inputs.values()) {
        const refs = Array.isArray(ref) ? ref as InputRef[] : [ref as InputRef];
        for (const { node: id } of refs) before.add(id);
      }
      // Held here: a repair may meanwhile take results out of `#done` to make them again.
      const results = new Map<string, NodeResult>();
      for (const id of before) results.set(id, await this.#ensure(this.#run.nodes.get(id)!));
      this.#run.stop.signal.throwIfAborted();
      if (node.importPath !== undefined) return await this.#import(node, node.importPath);
      const lookUp = (id: string) => results.get(id)!;
      const reason = skipReason(node, lookUp);
      if (reason !== undefined) {
        this.#run.tell({ type: "stage.skipped", stage: node.id, reason });
        return { artifacts: {}, values: {}, skipped: reason };
      }
      const code = await this.#hasher.hash(node.stage.module);
      const work = workOf(node, inputIds(node, lookUp), code);
      const cached = () => this.#cachedResult(node, work);
      const known = await cached();
      if (known !== undefined) return known;
      const { result, ran } = await this.#attempts.make(node, work, cached);
      if (ran) this.#ran++;
      return result;
    });
  }

  /** Does `work`; where it meets a damaged artifact, has that made again and starts over. */
  async #repairing<T>(work: () => Promise<T>): Promise<T> {
    for (let repairs = 0;; repairs++) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof CorruptArtifactError)) throw error;
        if (repairs >= MAX_REPAIRS) {
          throw new UserError(
            `${error.message}; it was made again ${repairs} times: check the disk of the store`,
            { cause: error },
          );
        }
        const { artifact } = error;
        for (const [id, result] of [...this.#done]) {
          if (!Object.values(result.artifacts).includes(artifact)) continue;
          this.#done.delete(id);
          this.#results.delete(id);
          await this.#ensure(this.#run.nodes.get(id)!);
        }
      }
    }
  }

  async #import(node: GraphNode, path: string): Promise<NodeResult> {
    const kind = node.stage.outputs["content"]!;
    return await this.#store.whileKept(async () => {
      const id = await importArtifact(node.id, kind, path, this.#store);
      const result = { artifacts: { content: id }, values: {} };
      this.#run.tell({ type: "stage.cached", stage: node.id, key: id, ...result });
      await this.#run.writer.flush();
      return result;
    });
  }

  async #cachedResult(node: GraphNode, work: Work): Promise<NodeResult | undefined> {
    const { anyCode = false } = this.#run.options;
    // Most often there is nothing to keep.
    const known = await this.#store.record(work.key, anyCode ? undefined : work.code);
    if (known === undefined) return undefined;
    // Once the journal has it, garbage collection keeps it.
    return await this.#store.whileKept(async () => {
      const record = await findDone(work, this.#store, anyCode);
      if (record === undefined) return undefined;
      const { outputs: artifacts, values } = record;
      this.#cached++;
      this.#run.tell({ type: "stage.cached", stage: node.id, key: work.key, artifacts, values });
      await this.#run.writer.flush();
      return { artifacts, values };
    });
  }
}
