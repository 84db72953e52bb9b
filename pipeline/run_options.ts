/** What a run is given and what it gives. */
import { UserError } from "../errors.ts";
import type { EventBody, Values } from "./events.ts";
import type { Executor } from "./executor.ts";
import type { Journal } from "./journal.ts";
import type { Capacity } from "./slots.ts";
import type { Store } from "./store.ts";
import type { Budget } from "./usage.ts";

export interface RunOptions {
  readonly store: Store;
  readonly journal: Journal;
  readonly executor: Executor;
  /** Where the named results are put. Default: `runs/RUN`. */
  readonly out?: string;
  /** Default 0. */
  readonly seed?: number;
  /** What stages share. Default: two slots where there are two cores, no GPUs. */
  readonly capacity?: Partial<Capacity>;
  /** Aborting it ends the run cleanly: stages are asked to stop, what they finished is kept. */
  readonly cancel?: AbortSignal;
  /** Aborting it ends the run at once. */
  readonly kill?: AbortSignal;
  /** How often a stage is tried whose failure may pass. Default 3. */
  readonly maxAttempts?: number;
  /** The pause before attempt n + 1, in milliseconds. Default 1,000 doubling with each. */
  readonly backoff?: (attempt: number) => number;
  /** Told of each event as it is appended. */
  readonly onEvent?: (event: EventBody, run: string) => void;
  /** The run ends cleanly when its stages have used so much, over all its resumptions. */
  readonly budget?: Budget;
  /** Reuse results made by earlier versions of the code, too. */
  readonly anyCode?: boolean;
  /** Go on with exactly this run. Default: the latest of the same workflow, parameters and seed that
   * has not ended well, or a new one. */
  readonly run?: string;
}

export interface RunResult {
  readonly run: string;
  /** Where the results are. A run for one node that leaves results out does not make it. */
  readonly out: string;
  readonly seconds: number;
  readonly values: Values;
  /** Artifact ids by the name of the workflow's output. */
  readonly artifacts: Readonly<Record<string, string>>;
  /** How many stages ran, and how many were in the store. */
  readonly ran: number;
  readonly cached: number;
}

/** The run was stopped on request. Starting it again goes on with it. */
export class RunCancelledError extends UserError {
  override name = "RunCancelledError";
}
