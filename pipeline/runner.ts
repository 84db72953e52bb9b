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
import { BEAT_MS, claimRun } from "./claim.ts";
import { CodeHasher } from "./code.ts";
import type { EventBody, Values } from "./events.ts";
import { removeQuietly } from "./files.ts";
import { type Graph, type GraphNode, graphRecord, type InputRef } from "./graph.ts";
import { hashOf } from "./hash.ts";
import { importArtifact, importedFiles } from "./import.ts";
import { LeaseLostError, type RunWriter } from "./journal.ts";
import { lockFile } from "./lock.ts";
import { withOwnPaths } from "./own_paths.ts";
import { temporaryName } from "./owner.ts";
import { requireInputs } from "./only.ts";
import { findDone, inputIds, type NodeResult, skipReason, type Work, workOf } from "./plan.ts";
import type { StageJob, StageReport } from "./protocol.ts";
import { checkResultsFolder, writeResults } from "./results.ts";
import { RunCancelledError, type RunOptions, type RunResult } from "./run_options.ts";
import { Slots } from "./slots.ts";
import { CorruptArtifactError, type Store, STORE_SCHEMA, type WorkRecord } from "./store.ts";
import { sweepWorkspace } from "./sweep.ts";
import { Usage } from "./usage.ts";
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
    if (node.importPath !== undefined) await importedFiles(node.id, node.importPath);
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

/** How often the budget is looked at. */
const BUDGET_MS = 250;
/** How often a stage's inputs are made again because they were found damaged. */
const MAX_REPAIRS = 3;

class Runner {
  readonly #graph: Graph;
  readonly #options: RunOptions;
  readonly #store: Store;
  readonly #writer: RunWriter;
  readonly #slots: Slots;
  readonly #hasher = new CodeHasher();
  /** Aborted when no new stage may start. */
  readonly #stop = new AbortController();
  /** Aborted when the run was asked to end. */
  readonly #cancel = new AbortController();
  /** Aborted when everything must end at once. */
  readonly #kill = new AbortController();
  readonly #nodes: Map<string, GraphNode>;
  readonly #results = new Map<string, Promise<NodeResult>>();
  readonly #done = new Map<string, NodeResult>();
  readonly #running = new Set<string>();
  readonly #workspace: string;
  readonly #usage: Usage;
  #jobs = 0;
  #ran = 0;
  #cached = 0;

  constructor(graph: Graph, options: RunOptions, writer: RunWriter) {
    this.#graph = graph;
    this.#options = options;
    this.#store = options.store;
    this.#writer = writer;
    this.#slots = new Slots({
      // Two by default, where there are cores for them: most of a stage runs on one.
      slots: options.capacity?.slots ?? Math.min(2, navigator.hardwareConcurrency),
      gpus: options.capacity?.gpus ?? 0,
      memoryGiB: options.capacity?.memoryGiB ?? 0,
    });
    const gpus = options.capacity?.gpus ?? 0;
    this.#usage = new Usage(writer.gpuSeconds, gpus, options.budget ?? {});
    this.#nodes = new Map(graph.nodes.map((node) => [node.id, node]));
    this.#workspace = join(options.store.workspace, "work", temporaryName());
  }

  async run(): Promise<RunResult> {
    const began = performance.now();
    const out = resolve(this.#options.out ?? join("runs", this.#writer.run));
    const graph = graphRecord(this.#graph);
    const { workflow, params, seed, only } = this.#graph;
    const part = only === undefined ? {} : { only };
    if (this.#writer.resumed) this.#tell({ type: "run.resumed", graph, out });
    else this.#tell({ type: "run.started", workflow, params, seed, graph, out, ...part });
    const cleanUp = this.#connect();
    try {
      await sweepWorkspace(this.#store.workspace);
      await this.#writer.flush();
      await this.#completeAll();
      const artifacts: Record<string, string> = {};
      for (const [name, { node, output }] of this.#graph.outputs) {
        const id = this.#done.get(node)!.artifacts[output];
        if (id !== undefined) artifacts[name] = id;
      }
      if (only === undefined || this.#graph.outputs.size > 0) {
        await this.#repairing(() => writeResults(artifacts, out, this.#store, this.#workspace));
      }
      const values: Values = {};
      for (const [name, { node, key }] of this.#graph.values) {
        values[name] = this.#done.get(node)!.values[key] ?? null;
      }
      const seconds = (performance.now() - began) / 1000;
      this.#tell({ type: "run.done", seconds, values });
      await this.#writer.close();
      const { run } = this.#writer;
      return { run, out, seconds, values, artifacts, ran: this.#ran, cached: this.#cached };
    } catch (error) {
      throw await this.#ended(error);
    } finally {
      cleanUp();
      await removeQuietly(this.#workspace);
    }
  }

  /** Ties the signals and the heartbeat to this run; returns what unties them. */
  #connect(): () => void {
    const { cancel, kill } = this.#options;
    const onCancel = () => {
      this.#stop.abort(new RunCancelledError("the run was cancelled"));
      this.#cancel.abort(this.#stop.signal.reason);
    };
    const onKill = () => {
      this.#kill.abort(new RunCancelledError("the run was cancelled"));
      onCancel();
    };
    const onLost = () => {
      this.#kill.abort(this.#writer.lost.reason);
      this.#stop.abort(this.#writer.lost.reason);
    };
    if (cancel?.aborted) onCancel();
    if (kill?.aborted) onKill();
    cancel?.addEventListener("abort", onCancel);
    kill?.addEventListener("abort", onKill);
    this.#writer.lost.addEventListener("abort", onLost);
    this.#writer.cancelRequested.addEventListener("abort", onCancel);
    let beats = 0;
    const timer = setInterval(() => {
      if (++beats % (this.#options.budget === undefined ? 30 : 5) === 0) this.#heartbeat();
      this.#writer.beat().catch(() => {}); // `onLost` acts on it
    }, BEAT_MS);
    const budgetTimer = setInterval(() => {
      const spent = this.#usage.overdrawn();
      if (spent === undefined) return;
      this.#stop.abort(spent);
      this.#cancel.abort(spent);
    }, BUDGET_MS);
    return () => {
      clearInterval(timer);
      clearInterval(budgetTimer);
      cancel?.removeEventListener("abort", onCancel);
      kill?.removeEventListener("abort", onKill);
    };
  }

  #heartbeat(): void {
    const running = [...this.#running];
    this.#tell({ type: "run.heartbeat", running, gpuSeconds: this.#usage.gpuSeconds() });
  }

  /** Writes down how the run ended and returns the error to throw. */
  async #ended(cause: unknown): Promise<unknown> {
    if (this.#writer.lost.aborted) {
      const reason = this.#writer.lost.reason;
      if (!(reason instanceof LeaseLostError)) return reason;
      return new UserError(`${reason.message}; this one has stopped`, { cause: reason });
    }
    const error = this.#stop.signal.aborted ? this.#stop.signal.reason : cause;
    const message = error instanceof Error ? error.message : String(error);
    if (error instanceof RunCancelledError) this.#tell({ type: "run.cancelled", message });
    else this.#tell({ type: "run.failed", message });
    try {
      await this.#writer.close();
    } catch {
      // The error that ended the run says more than the one that came of writing it down.
    }
    return error;
  }

  async #completeAll(): Promise<void> {
    // In the graph's order, so that each node finds the promises of those before it.
    const all = this.#graph.nodes.map((node) => this.#ensure(node));
    const settled = await Promise.allSettled(all);
    this.#stop.signal.throwIfAborted();
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
        this.#stop.abort(error);
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
      for (const id of before) results.set(id, await this.#ensure(this.#nodes.get(id)!));
      this.#stop.signal.throwIfAborted();
      if (node.importPath !== undefined) return await this.#import(node, node.importPath);
      const lookUp = (id: string) => results.get(id)!;
      const reason = skipReason(node, lookUp);
      if (reason !== undefined) {
        this.#tell({ type: "stage.skipped", stage: node.id, reason });
        return { artifacts: {}, values: {}, skipped: reason };
      }
      const code = await this.#hasher.hash(node.stage.module);
      const work = workOf(node, inputIds(node, lookUp), code);
      return await this.#cachedResult(node, work) ?? await this.#make(node, work);
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
          await this.#ensure(this.#nodes.get(id)!);
        }
      }
    }
  }

  async #import(node: GraphNode, path: string): Promise<NodeResult> {
    const kind = node.stage.outputs["content"]!;
    return await this.#store.whileKept(async () => {
      const id = await importArtifact(node.id, kind, path, this.#store);
      const result = { artifacts: { content: id }, values: {} };
      this.#tell({ type: "stage.cached", stage: node.id, key: id, ...result });
      await this.#writer.flush();
      return result;
    });
  }

  async #cachedResult(node: GraphNode, work: Work): Promise<NodeResult | undefined> {
    // Once the journal has it, garbage collection keeps it.
    return await this.#store.whileKept(async () => {
      const record = await findDone(work, this.#store, this.#options.anyCode ?? false);
      if (record === undefined) return undefined;
      const { outputs: artifacts, values } = record;
      this.#cached++;
      this.#tell({ type: "stage.cached", stage: node.id, key: work.key, artifacts, values });
      await this.#writer.flush();
      return { artifacts, values };
    });
  }

  async #make(node: GraphNode, work: Work): Promise<NodeResult> {
    const spent = this.#usage.overdrawn();
    if (spent !== undefined) throw spent;
    const release = await this.#slots.acquire(node.resources, this.#stop.signal);
    const scratch = join(this.#store.workspace, "scratch", hashOf([work.key, work.code]));
    try {
      // Another run may want the same work: whoever comes second finds it done.
      const lock = await lockFile(`${scratch}.lock`, this.#stop.signal);
      try {
        return await this.#cachedResult(node, work) ?? await this.#attempts(node, work, scratch);
      } finally {
        await lock.release();
      }
    } finally {
      release();
    }
  }

  async #attempts(node: GraphNode, work: Work, scratch: string): Promise<NodeResult> {
    const { maxAttempts = 3, backoff = (n) => 1_000 * 2 ** (n - 1) } = this.#options;
    const earlier = this.#writer.stages.get(node.id)?.attempt ?? 0;
    for (let n = 1;; n++) {
      const attempt = earlier + n;
      const began = performance.now();
      const { key } = work;
      this.#tell({ type: "stage.started", stage: node.id, attempt, key });
      const outcome = await this.#attempt(node, work, scratch, attempt);
      if (outcome.type === "done") {
        const seconds = (performance.now() - began) / 1000;
        const { artifacts, values } = outcome;
        await this.#writer.beat(); // nothing is published for a run that has another runner
        const record: WorkRecord = {
          schema: STORE_SCHEMA,
          key,
          ingredients: work.ingredients,
          code: work.code,
          outputs: artifacts,
          values,
          seconds,
        };
        await this.#store.putRecord(record);
        this.#tell({
          type: "stage.done",
          stage: node.id,
          attempt,
          key,
          artifacts,
          values,
          seconds,
        });
        await this.#writer.flush();
        await removeQuietly(scratch);
        this.#ran++;
        return { artifacts, values };
      }
      if (this.#cancel.signal.aborted || this.#kill.signal.aborted) throw this.#stop.signal.reason;
      const { message, retryable, corrupt } = outcome;
      this.#tell({ type: "stage.failed", stage: node.id, attempt, message, retryable });
      if (corrupt !== undefined) throw new CorruptArtifactError(corrupt, message);
      if (!retryable || n >= maxAttempts || this.#stop.signal.aborted) {
        throw new UserError(`stage '${node.id}' failed: ${message}`);
      }
      await this.#pause(backoff(n));
    }
  }

  async #attempt(node: GraphNode, work: Work, scratch: string, attempt: number) {
    const folder = join(this.#workspace, String(++this.#jobs));
    const job: StageJob = {
      protocol: 1,
      node: node.id,
      stage: node.stage.name,
      params: node.params,
      seed: node.seed,
      key: work.key,
      code: work.code,
      inputs: work.inputs,
      store: this.#store.location,
      work: join(folder, "work"),
      scratch,
      ...(node.stage.sharesProcess ? { stay: true } : {}),
    };
    const inputs = join(job.work, "inputs");
    const own = (text: string) => withOwnPaths(text, node, inputs, (id) => this.#nodes.get(id));
    const report = (told: StageReport) => {
      const said = told.type === "log" ? { ...told, text: own(told.text) } : told;
      const { type, ...data } = said;
      this.#tell({ type: `stage.${type}`, stage: node.id, attempt, ...data } as EventBody);
    };
    const limit = node.resources.timeLimitSeconds;
    const tooLong = new AbortController();
    const timer = limit === undefined ? undefined : setTimeout(() => tooLong.abort(), limit * 1000);
    const cancel = AbortSignal.any([tooLong.signal, this.#cancel.signal, this.#kill.signal]);
    this.#running.add(node.id);
    const ended = this.#usage.begin(node.resources);
    try {
      const signals = { cancel, kill: this.#kill.signal };
      const outcome = await this.#options.executor.run(job, node.resources, report, signals);
      if (outcome.type === "failed" && tooLong.signal.aborted) {
        const message = `it ran longer than its time limit of ${limit} s`;
        return { ...outcome, message, retryable: true };
      }
      if (outcome.type === "failed") return { ...outcome, message: own(outcome.message) };
      return outcome;
    } finally {
      clearTimeout(timer);
      this.#running.delete(node.id);
      ended();
      if (this.#usage.gpuSeconds() > 0) this.#heartbeat();
      await removeQuietly(folder);
    }
  }

  #pause(milliseconds: number): Promise<void> {
    const { signal } = this.#stop;
    return new Promise((resolve, reject) => {
      const stop = () => {
        clearTimeout(timer);
        reject(signal.reason);
      };
      const timer = setTimeout(() => {
        signal.removeEventListener("abort", stop);
        resolve();
      }, milliseconds);
      signal.addEventListener("abort", stop, { once: true });
    });
  }

  #tell(event: EventBody): void {
    this.#writer.append(event);
    this.#options.onEvent?.(event, this.#writer.run);
  }
}
