/**
 * One node's work from "it has to run" to "it is in the store and in the journal": waits for room on
 * the machine and for others who do the same work, runs attempts, tries again what may pass.
 */
import { join } from "node:path";
import { UserError } from "../errors.ts";
import type { EventBody } from "./events.ts";
import { removeSmall } from "./files.ts";
import type { GraphNode } from "./graph.ts";
import { hashOf } from "./hash.ts";
import { lockFile } from "./lock.ts";
import { withOwnPaths } from "./own_paths.ts";
import type { NodeResult, Work } from "./plan.ts";
import type { StageJob, StageReport } from "./protocol.ts";
import type { RunControl } from "./run_control.ts";
import { Slots } from "./slots.ts";
import { CorruptArtifactError, STORE_SCHEMA, type WorkRecord } from "./store.ts";

const MAX_ATTEMPTS = 3;
const FIRST_BACKOFF_MS = 1_000;

export class Attempts {
  readonly #run: RunControl;
  readonly #slots: Slots;
  #jobs = 0;

  constructor(run: RunControl) {
    this.#run = run;
    const { slots, gpus = 0, memoryGiB = 0 } = run.options.capacity ?? {};
    this.#slots = new Slots({
      // Two by default, where there are cores for them: most of a stage runs on one.
      slots: slots ?? Math.min(2, navigator.hardwareConcurrency),
      gpus,
      memoryGiB,
    });
  }

  /**
   * Does the work, unless `cached` finds, when its turn has come, that somebody else has done it.
   *
   * @throws UserError where the stage failed, CorruptArtifactError where an input has to be made anew
   */
  async make(
    node: GraphNode,
    work: Work,
    cached: () => Promise<NodeResult | undefined>,
  ): Promise<{ result: NodeResult; ran: boolean }> {
    const { stop, usage, options: { store } } = this.#run;
    const spent = usage.overdrawn();
    if (spent !== undefined) throw spent;
    const release = await this.#slots.acquire(node.resources, stop.signal);
    const scratch = join(store.workspace, "scratch", hashOf([work.key, work.code]));
    try {
      // Another run may want the same work: whoever comes second finds it done.
      const lock = await lockFile(`${scratch}.lock`, stop.signal);
      try {
        const found = await cached();
        if (found !== undefined) return { result: found, ran: false };
        return { result: await this.#attempts(node, work, scratch, release), ran: true };
      } finally {
        await lock.release();
      }
    } finally {
      release();
    }
  }

  /** @param release gives back the room on the machine, which keeping a result does not need */
  async #attempts(
    node: GraphNode,
    work: Work,
    scratch: string,
    release: () => void,
  ): Promise<NodeResult> {
    const { options, writer, stop, cancel, kill } = this.#run;
    const { maxAttempts = MAX_ATTEMPTS, backoff = (n) => FIRST_BACKOFF_MS * 2 ** (n - 1) } =
      options;
    const earlier = writer.stages.get(node.id)?.attempt ?? 0;
    for (let n = 1;; n++) {
      const attempt = earlier + n;
      const began = performance.now();
      this.#run.tell({ type: "stage.started", stage: node.id, attempt, key: work.key });
      const outcome = await this.#attempt(node, work, scratch, attempt);
      if (outcome.type === "done") {
        release();
        const seconds = (performance.now() - began) / 1000;
        const { artifacts, values } = outcome;
        const result = await this.#keep(node, work, attempt, { artifacts, values, seconds });
        await removeSmall(scratch);
        return result;
      }
      if (cancel.signal.aborted || kill.signal.aborted) throw stop.signal.reason;
      const { message, retryable, corrupt } = outcome;
      this.#run.tell({ type: "stage.failed", stage: node.id, attempt, message, retryable });
      if (corrupt !== undefined) throw new CorruptArtifactError(corrupt, message);
      if (!retryable || n >= maxAttempts || stop.signal.aborted) {
        throw new UserError(`stage '${node.id}' failed: ${message}`);
      }
      await this.#run.pause(backoff(n));
    }
  }

  /**
   * Makes what an attempt has published the result of the work; where a runner on another machine was
   * first, what that one has made is the result.
   */
  async #keep(
    node: GraphNode,
    work: Work,
    attempt: number,
    made: { artifacts: Record<string, string>; values: WorkRecord["values"]; seconds: number },
  ): Promise<NodeResult> {
    const { store } = this.#run.options;
    const { key, code, ingredients } = work;
    const { artifacts, values, seconds } = made;
    const record: WorkRecord = {
      schema: STORE_SCHEMA,
      key,
      ingredients,
      code,
      outputs: artifacts,
      values,
      seconds,
    };
    await this.#run.writer.beat(); // nothing is published for a run that has another runner
    let told: NodeResult | undefined;
    return await store.whileKept(async () => {
      // Until the journal has them, only their age keeps new artifacts from a collection of garbage,
      // and ages are by a clock that may have jumped.
      for (const id of Object.values(artifacts)) {
        if (await store.has(id)) continue;
        throw new CorruptArtifactError(id, `artifact ${id.slice(0, 12)} was collected as garbage`);
      }
      const kept = await store.putRecord(record);
      if (told === undefined) {
        told = { artifacts: kept.outputs, values: kept.values };
        this.#run.tell({ type: "stage.done", stage: node.id, attempt, key, ...told, seconds });
      }
      await this.#run.writer.flush();
      return told;
    });
  }

  async #attempt(node: GraphNode, work: Work, scratch: string, attempt: number) {
    const { options: { store, executor }, kill, usage, running, nodes } = this.#run;
    const folder = join(this.#run.workspace, String(++this.#jobs));
    const job: StageJob = {
      protocol: 1,
      node: node.id,
      stage: node.stage.name,
      params: node.params,
      seed: node.seed,
      key: work.key,
      code: work.code,
      inputs: work.inputs,
      store: store.location,
      work: folder,
      scratch,
      ...(node.stage.sharesProcess ? { stay: true } : {}),
    };
    const inputs = join(job.work, "inputs");
    const own = (text: string) => withOwnPaths(text, node, inputs, (id) => nodes.get(id));
    const report = (told: StageReport) => {
      const said = told.type === "log" ? { ...told, text: own(told.text) } : told;
      const { type, ...data } = said;
      this.#run.tell({ type: `stage.${type}`, stage: node.id, attempt, ...data } as EventBody);
    };
    const limit = node.resources.timeLimitSeconds;
    const tooLong = new AbortController();
    const timer = limit === undefined ? undefined : setTimeout(() => tooLong.abort(), limit * 1000);
    const cancel = AbortSignal.any([tooLong.signal, this.#run.cancel.signal, kill.signal]);
    running.add(node.id);
    const ended = usage.begin(node.resources);
    try {
      const outcome = await executor.run(job, node.resources, report, {
        cancel,
        kill: kill.signal,
      });
      if (outcome.type === "failed" && tooLong.signal.aborted) {
        const message = `it ran longer than its time limit of ${limit} s`;
        return { ...outcome, message, retryable: true };
      }
      if (outcome.type === "failed") return { ...outcome, message: own(outcome.message) };
      return outcome;
    } finally {
      clearTimeout(timer);
      running.delete(node.id);
      ended();
      if (usage.gpuSeconds() > 0) this.#run.heartbeat();
      await removeSmall(folder);
    }
  }
}
