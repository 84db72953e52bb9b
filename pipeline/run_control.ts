/**
 * What the parts of one run share: its journal, the signals that end it, what it has used and which
 * stages it runs now.
 */
import { join } from "node:path";
import { BEAT_MS } from "./claim.ts";
import type { EventBody } from "./events.ts";
import type { Graph, GraphNode } from "./graph.ts";
import { LeaseLostError, type RunWriter } from "./journal.ts";
import { temporaryName } from "./owner.ts";
import { RunCancelledError, type RunOptions } from "./run_options.ts";
import { UserError } from "../errors.ts";
import { Usage } from "./usage.ts";

/** How often the budget is looked at. */
const BUDGET_MS = 250;
/** A heartbeat is an event of the run every so many beats; more often where a budget counts. */
const BEATS_TOLD = { usually: 30, withBudget: 5 };

export class RunControl {
  readonly options: RunOptions;
  readonly writer: RunWriter;
  readonly nodes: ReadonlyMap<string, GraphNode>;
  /** A folder for what this runner has under way. */
  readonly workspace: string;
  readonly usage: Usage;
  /** The nodes whose stages run now. */
  readonly running = new Set<string>();
  /** Aborted when no new stage may start. */
  readonly stop = new AbortController();
  /** Aborted when the run was asked to end. */
  readonly cancel = new AbortController();
  /** Aborted when everything must end at once. */
  readonly kill = new AbortController();

  constructor(graph: Graph, options: RunOptions, writer: RunWriter) {
    this.options = options;
    this.writer = writer;
    this.nodes = new Map(graph.nodes.map((node) => [node.id, node]));
    this.workspace = join(options.store.workspace, "work", temporaryName());
    const gpus = options.capacity?.gpus ?? 0;
    this.usage = new Usage(writer.gpuSeconds, gpus, options.budget ?? {});
  }

  /** Ties the signals and the heartbeat to this run; returns what unties them. */
  connect(): () => void {
    const { cancel, kill } = this.options;
    const { lost, cancelRequested } = this.writer;
    const onCancel = () => {
      this.stop.abort(new RunCancelledError("the run was cancelled"));
      this.cancel.abort(this.stop.signal.reason);
    };
    const onKill = () => {
      this.kill.abort(new RunCancelledError("the run was cancelled"));
      onCancel();
    };
    const onLost = () => {
      this.kill.abort(lost.reason);
      this.stop.abort(lost.reason);
    };
    if (cancel?.aborted) onCancel();
    if (kill?.aborted) onKill();
    cancel?.addEventListener("abort", onCancel);
    kill?.addEventListener("abort", onKill);
    lost.addEventListener("abort", onLost);
    cancelRequested.addEventListener("abort", onCancel);
    const every = this.options.budget === undefined ? BEATS_TOLD.usually : BEATS_TOLD.withBudget;
    let beats = 0;
    const timer = setInterval(() => {
      if (++beats % every === 0) this.heartbeat();
      this.writer.beat().catch(() => {}); // `onLost` acts on it
    }, BEAT_MS);
    const budgetTimer = setInterval(() => {
      const spent = this.usage.overdrawn();
      if (spent === undefined) return;
      this.stop.abort(spent);
      this.cancel.abort(spent);
    }, BUDGET_MS);
    return () => {
      clearInterval(timer);
      clearInterval(budgetTimer);
      cancel?.removeEventListener("abort", onCancel);
      kill?.removeEventListener("abort", onKill);
    };
  }

  heartbeat(): void {
    const running = [...this.running];
    this.tell({ type: "run.heartbeat", running, gpuSeconds: this.usage.gpuSeconds() });
  }

  /** Puts an event into the journal and shows it. */
  tell(event: EventBody): void {
    this.writer.append(event);
    this.options.onEvent?.(event, this.writer.run);
  }

  /** Writes down how the run ended and returns the error to throw. */
  async ended(cause: unknown): Promise<unknown> {
    const { lost } = this.writer;
    if (lost.aborted) {
      const reason = lost.reason;
      if (!(reason instanceof LeaseLostError)) return reason;
      return new UserError(`${reason.message}; this one has stopped`, { cause: reason });
    }
    const error = this.stop.signal.aborted ? this.stop.signal.reason : cause;
    const message = error instanceof Error ? error.message : String(error);
    if (error instanceof RunCancelledError) this.tell({ type: "run.cancelled", message });
    else this.tell({ type: "run.failed", message });
    try {
      await this.writer.close();
    } catch {
      // The error that ended the run says more than the one that came of writing it down.
    }
    return error;
  }

  /** Waits; rejects as soon as no new stage may start. */
  pause(milliseconds: number): Promise<void> {
    const { signal } = this.stop;
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
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
}
