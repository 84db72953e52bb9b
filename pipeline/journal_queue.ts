/**
 * The single writer of a run, wherever the journal is: numbers the events, keeps what they add up to,
 * and writes them in the background, those that come while a write is under way together in the next.
 */
import { setImmediate } from "node:timers";
import { endsRun, type Event, EVENT_VERSION, type EventBody } from "./events.ts";
import type { Lease, RunWriter } from "./journal.ts";
import {
  reduceRun,
  reduceStage,
  type RunRecord,
  stageAtEnd,
  type StageRecord,
  stagesOf,
} from "./summary.ts";

/** A journal that is out of reach is tried again for about half a minute before a run gives up. */
const RETRY_PAUSES_MS = [100, 200, 500, 1_000, 2_000, 4_000, 8_000, 16_000];

/** Events that nobody waits for are written so soon. */
const GATHER_MS = 25;

export abstract class QueuedWriter implements RunWriter {
  readonly run: string;
  readonly fence: number;
  readonly resumed: boolean;
  readonly gpuSeconds: number;
  readonly stages = new Map<string, StageRecord>();
  readonly #lost = new AbortController();
  readonly #cancel = new AbortController();
  #record: RunRecord | undefined;
  #queue: Event[] = [];
  #seq: number;
  #leaseWanted = false;
  /** Set while events wait for nobody. */
  #delay: ReturnType<typeof setTimeout> | undefined;
  /** The round of writing that goes on, or the last one; never rejects. */
  #round: Promise<void> = Promise.resolve();
  /** The round after it, which has not begun. */
  #nextRound: Promise<void> | undefined;

  constructor(lease: Lease) {
    this.run = lease.run;
    this.fence = lease.fence;
    this.#record = lease.record;
    this.#seq = lease.record?.lastSeq ?? 0;
    this.resumed = lease.record !== undefined;
    this.gpuSeconds = lease.record?.gpuSeconds ?? 0;
    for (const stage of lease.stages) this.stages.set(stage.id, stage);
  }

  /** Renews the lease and writes events and what follows from them; twice is as good as once. */
  protected abstract write(events: readonly Event[], changed: ReadonlySet<string>): Promise<void>;
  /** Renews the lease. */
  protected abstract hold(): Promise<void>;
  /** Gives the lease back. */
  protected abstract release(): Promise<void>;
  /** Whether what failed so may succeed when it is tried again shortly after. */
  protected abstract isPassing(error: unknown): boolean;

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  get cancelRequested(): AbortSignal {
    return this.#cancel.signal;
  }

  get record(): RunRecord | undefined {
    return this.#record;
  }

  append(body: EventBody): void {
    const envelope = { v: EVENT_VERSION, run: this.run, seq: ++this.#seq, time: Date.now() };
    this.#queue.push({ ...body, ...envelope });
    this.#scheduleSoon();
  }

  /**
   * Queues events that another writer has numbered. Those that are known already are left out.
   *
   * @returns false, and nothing is queued, where events before them are missing
   */
  take(events: readonly Event[]): boolean {
    const fresh = events.filter((event) => event.seq > this.#seq);
    if (fresh.some((event, i) => event.seq !== this.#seq + 1 + i)) return false;
    this.#queue.push(...fresh);
    this.#seq += fresh.length;
    this.#scheduleSoon();
    return true;
  }

  async flush(): Promise<void> {
    // What is appended from here on is not waited for: others may never stop.
    await (this.#queue.length > 0 ? this.#schedule() : this.#round);
    this.lost.throwIfAborted();
  }

  async beat(): Promise<void> {
    // Writing events renews the lease, too; of beats that come meanwhile one serves all.
    this.#leaseWanted = true;
    await this.#schedule();
    this.lost.throwIfAborted();
  }

  async close(): Promise<void> {
    await this.flush();
    // All is written by now: that the lease could not be given back does not undo what was done, and
    // whoever wants it next finds its holder gone.
    await this.#guard(() => this.release()).catch(() => {});
  }

  /** To be called when the journal answers that somebody wants the run cancelled. */
  protected askedToStop(): void {
    this.#cancel.abort();
  }

  /** For events that nobody waits for: a round costs the same for one of them as for a hundred. */
  #scheduleSoon(): void {
    this.#delay ??= setTimeout(() => this.#schedule(), GATHER_MS);
  }

  /** The end of a round of writing that takes all that is queued now. */
  #schedule(): Promise<void> {
    this.#nextRound ??= this.#round.then(async () => {
      // Whatever else goes on by now may have something to say, too.
      await new Promise((resolve) => setImmediate(resolve));
      this.#round = this.#nextRound!;
      this.#nextRound = undefined;
      await this.#writeQueue();
    });
    return this.#nextRound;
  }

  async #writeQueue(): Promise<void> {
    clearTimeout(this.#delay);
    this.#delay = undefined;
    const events = this.#queue;
    this.#queue = [];
    const leaseWanted = this.#leaseWanted;
    this.#leaseWanted = false;
    const changed = new Set<string>();
    for (const event of events) this.#apply(event, changed);
    try {
      if (events.length > 0) await this.#guard(() => this.write(events, changed));
      else if (leaseWanted) await this.#guard(() => this.hold());
    } catch {
      // `lost` tells it to whoever waits.
    }
  }

  async #guard(work: () => Promise<void>): Promise<void> {
    for (let tries = 0;; tries++) {
      try {
        this.lost.throwIfAborted();
        return await work();
      } catch (error) {
        const pause = RETRY_PAUSES_MS[tries];
        if (pause === undefined || !this.isPassing(error)) {
          this.#lost.abort(error);
          throw error;
        }
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }

  #apply(event: Event, changed: Set<string>): void {
    this.#record = reduceRun(this.#record, event);
    applyToStages(this.stages, event, changed);
  }
}

/** Brings the stages of a run up to date with an event; adds the nodes that it changed. */
export function applyToStages(
  stages: Map<string, StageRecord>,
  event: Event,
  changed: Set<string>,
): void {
  if (event.type === "run.started" || event.type === "run.resumed") {
    const now = stagesOf(event.graph, stages);
    stages.clear();
    for (const stage of now) stages.set(stage.id, stage);
    for (const stage of now) changed.add(stage.id);
  } else if ("stage" in event) {
    const stage = stages.get(event.stage);
    if (stage === undefined) return;
    stages.set(stage.id, reduceStage(stage, event));
    changed.add(stage.id);
  } else if (endsRun(event)) {
    for (const stage of stages.values()) {
      const last = stageAtEnd(stage, event);
      if (last === stage) continue;
      stages.set(stage.id, last);
      changed.add(stage.id);
    }
  }
}
