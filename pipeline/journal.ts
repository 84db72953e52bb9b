/**
 * The journal: everything that happened in every run, append-only. One process writes a run at a time,
 * held to that by a lease with a fencing number; any number of other processes read meanwhile.
 *
 * This file is the contract; `journal_database.ts` implements it on SQL.
 */
import type { Event, EventBody, EventType, GraphRecord } from "./events.ts";
import type { Owner } from "./owner.ts";
import type { RunRecord, StageRecord, StageState } from "./summary.ts";

/** A run as lists show it. */
export interface RunSummary extends RunRecord {
  /** How many stages are in each state. */
  counts: Record<StageState, number>;
  /** When its runner was last known to be alive, in milliseconds since 1970. */
  heartbeat?: number;
}

/** A run with its graph and the state of each stage, in the order of the graph. */
export interface RunDetail extends RunSummary {
  graph: GraphRecord;
  stages: StageRecord[];
}

/** One point of the curves that a stage draws. */
export interface MetricPoint {
  stage: string;
  step: number;
  time: number;
  values: Record<string, number | null>;
}

export interface EventFilter {
  /** Only events with a greater sequence number. */
  afterSeq?: number;
  /** Only events of this node of the graph. */
  stage?: string;
  types?: readonly EventType[];
  /** At most so many, the earliest ones. Default 10,000. */
  limit?: number;
}

export interface JournalReader {
  /** Runs, the latest first. At most `limit` (default 1,000). */
  runs(filter?: { workflow?: string; limit?: number }): Promise<RunSummary[]>;
  run(id: string): Promise<RunDetail | undefined>;
  events(run: string, filter?: EventFilter): Promise<Event[]>;
  /**
   * Metric points in the order they were drawn. Where a stage drew a step again after it had been
   * killed, only the later point counts. Of more than `maxPoints` only so many are returned, chosen
   * evenly and always the same.
   */
  metrics(
    run: string,
    stage?: string,
    options?: { maxPoints?: number },
  ): Promise<MetricPoint[]>;
  /**
   * Events after `afterSeq` as they come. Ends when the run has ended and all its events were given,
   * or when `signal` aborts.
   */
  follow(run: string, afterSeq?: number, signal?: AbortSignal): AsyncIterable<Event>;
  close(): Promise<void>;
}

/** What a runner asks for: the run of this fingerprint, or a new one. */
export interface Claim {
  /** The id that a new run gets. */
  newRun: string;
  /** Equal for runs that would do the same: workflow, parameters, seed. */
  fingerprint: string;
  /** Take up exactly this run, which must exist, instead of the latest of the fingerprint. */
  run?: string;
}

/** The outcome of a claim. `held`: another process drives the run; `beat` changes while it does. */
export type ClaimResult =
  | { state: "granted"; writer: RunWriter }
  | { state: "held"; run: string; owner: Owner; beat: number };

/** What whoever holds a run goes on from. */
export interface Lease {
  readonly run: string;
  /** Grows with each holder; the journal takes nothing from a holder with an earlier number. */
  readonly fence: number;
  /** The run as the journal has it; undefined where it has no events yet. */
  readonly record: RunRecord | undefined;
  /** In the order of the graph. */
  readonly stages: readonly StageRecord[];
}

/** The single writer of one run. */
export interface RunWriter {
  readonly run: string;
  /** The fencing number of the lease. */
  readonly fence: number;
  /** False where the run has no events yet. */
  readonly resumed: boolean;
  /** What the run had used when it was left, in GPU-seconds. */
  readonly gpuSeconds: number;
  /** The run as its events, those still queued included, leave it. */
  readonly record: RunRecord | undefined;
  /** Its stages, by node. */
  readonly stages: ReadonlyMap<string, StageRecord>;
  /**
   * Queues an event; it is in the journal when `flush` has returned. A failure to write (a lost
   * lease, a full disk) is thrown by `flush` and aborts `lost`.
   */
  append(body: EventBody): void;
  flush(): Promise<void>;
  /**
   * Says that the runner lives and sees whether it should stop. Throws {@link LeaseLostError} where
   * another runner took over.
   */
  beat(): Promise<void>;
  /** Aborted with the cause once this writer can write no more. */
  readonly lost: AbortSignal;
  /** Aborted when somebody has asked for the run to be cancelled; seen with the next heartbeat. */
  readonly cancelRequested: AbortSignal;
  /** Flushes and gives the lease back; where only the latter fails, that is no error. */
  close(): Promise<void>;
}

export interface Journal extends JournalReader {
  /**
   * Asks for the lease of a run. A run that has not ended well (killed, failed, cancelled) with the
   * same fingerprint is taken up again; otherwise a new run begins.
   *
   * @param takeOver the owner and beat, as a `held` answer gave them, of a runner known to be dead
   */
  claim(
    claim: Claim,
    owner: Owner,
    takeOver?: { owner: Owner; beat: number },
  ): Promise<ClaimResult>;
  /** Asks whoever drives the run to cancel it. Forgotten when the run is claimed anew. */
  requestCancel(run: string): Promise<void>;
  /**
   * Takes events from the holder of a lease who is elsewhere, and renews the lease; sending them
   * again changes nothing. Answers whether the run is to be cancelled.
   *
   * @throws LeaseLostError where the lease has gone to somebody else, MissingEventsError
   */
  accept(run: string, fence: number, events: readonly Event[]): Promise<{ stop: boolean }>;
  /** The number of a run's last event where the run has ended; undefined where it goes on. */
  lastSeq(run: string): Promise<number | undefined>;
  /** Gives back the lease of such a holder. */
  release(run: string, fence: number): Promise<void>;
  /** Derives all that is shown about runs anew from their events; returns how many runs there are. */
  rebuild(): Promise<number>;
}

/** Another runner drives the run now; this one must stop at once and publish nothing. */
export class LeaseLostError extends Error {
  override name = "LeaseLostError";
}

/** Events before those that were sent are not in the journal. */
export class MissingEventsError extends Error {
  override name = "MissingEventsError";
}
