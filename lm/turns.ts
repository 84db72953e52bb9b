/**
 * What a generator keeps of finished sequences, so that a request that goes on where one of them ended,
 * as the next turn of a conversation does, starts in the same slot and feeds only what is new. The
 * cache is a ring that all slots share, so a slot that stood idle has holes in its sequence: which
 * columns are its own is kept here, column by column.
 */
import type { Job } from "./slots.ts";

/** New prompt tokens that are fed one by one; a prompt with more of them is computed as a whole. */
const MOST_FED = 64;

export class Turns {
  /** 1 at the columns that hold each slot's sequence, [slots * columns]. */
  readonly held: Uint8Array;
  /** [tokensPerDispatch * slots] as `StepInputs.forced`. */
  readonly forced: Int32Array;
  /** Tokens whose keys and values a slot's columns hold. */
  readonly #sequences: (readonly number[] | undefined)[];
  /** The step at which a slot's first column was written. */
  readonly #firsts: Float64Array;
  /** Prompt tokens that each slot still has to be fed. */
  readonly #pending: number[][];
  /** Steps since the start. */
  #clock = 0;

  constructor(
    readonly slots: number,
    readonly columns: number,
    readonly tokensPerDispatch: number,
  ) {
    this.held = new Uint8Array(slots * columns);
    this.forced = new Int32Array(tokensPerDispatch * slots).fill(-1);
    this.#sequences = new Array(slots).fill(undefined);
    this.#firsts = new Float64Array(slots);
    this.#pending = Array.from({ length: slots }, () => []);
  }

  /** The one of the idle `slots` whose sequence `job` continues with the least to feed. */
  slotFor(job: Job, slots: readonly number[]): number | undefined {
    let best: number | undefined;
    let most = 0;
    for (const slot of slots) {
      const length = this.#sequences[slot]?.length ?? 0;
      if (length > most && this.#continues(job, slot)) [best, most] = [slot, length];
    }
    return best;
  }

  #continues({ promptIds, maxNewTokens }: Job, slot: number): boolean {
    const sequence = this.#sequences[slot]!;
    const fed = promptIds.length - sequence.length;
    if (fed < 1 || fed > MOST_FED) return false;
    const span = this.#clock - this.#firsts[slot]!;
    // One step more: with a value model the last token is fed, too.
    if (span + fed + maxNewTokens + 1 > this.columns) return false;
    for (let i = sequence.length - 1; i >= 0; i--) if (sequence[i] !== promptIds[i]) return false;
    return true;
  }

  /** Starts `job` in a slot that holds the beginning of it. @returns how many tokens are held */
  resume(slot: number, { promptIds }: Job): number {
    const { length } = this.#sequences[slot]!;
    this.#pending[slot] = promptIds.slice(length + 1);
    this.#sequences[slot] = undefined;
    return length;
  }

  /** Starts a job in a slot whose prompt, but for the last token, stands before `column`. */
  begin(slot: number, { promptIds }: Job, column: number): void {
    const length = promptIds.length - 1;
    const at = slot * this.columns;
    this.held.fill(0, at, at + this.columns);
    for (let i = 1; i <= length; i++) {
      this.held[at + (column - i + this.columns) % this.columns] = 1;
    }
    this.#firsts[slot] = this.#clock - length;
    this.#pending[slot] = [];
    this.#sequences[slot] = undefined;
  }

  /** Prompt tokens that the slot still has to be fed. */
  pending(slot: number): number {
    return this.#pending[slot]!.length;
  }

  /** Fills `forced` for the next dispatch. */
  force(): void {
    this.forced.fill(-1);
    for (const [slot, tokens] of this.#pending.entries()) {
      const count = Math.min(tokens.length, this.tokensPerDispatch);
      for (let t = 0; t < count; t++) this.forced[t * this.slots + slot] = tokens[t]!;
    }
  }

  /** A slot was fed `steps` of its prompt's tokens. @returns the last of them */
  fed(slot: number, steps: number): number | undefined {
    return this.#pending[slot]!.splice(0, steps).at(-1);
  }

  /** After a dispatch: `column` on, `steps` columns were written, of each slot's so many its own. */
  advance(column: number, steps: number, own: ArrayLike<number>): void {
    for (let slot = 0; slot < this.slots; slot++) {
      const at = slot * this.columns;
      for (let t = 0; t < steps; t++) {
        this.held[at + (column + t) % this.columns] = t < own[slot]! ? 1 : 0;
      }
    }
    this.#clock += steps;
  }

  /** Keeps what a finished slot holds: the first `length` tokens of the job's prompt and response. */
  keep(slot: number, { promptIds, ids }: Job, length: number): void {
    this.#sequences[slot] = [...promptIds, ...ids].slice(0, length);
  }
}
