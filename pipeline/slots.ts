/** Shares a machine's slots, GPUs and memory among stages that want to run. */
import type { Resources } from "./stage.ts";

export interface Capacity {
  /** How many stages run at a time. */
  readonly slots: number;
  readonly gpus: number;
  readonly memoryGiB: number;
}

interface Waiting {
  readonly need: Capacity;
  readonly grant: () => void;
}

export class Slots {
  readonly #total: Capacity;
  #free: Capacity;
  /** In the order in which they came. */
  readonly #waiting = new Set<Waiting>();

  constructor(total: Capacity) {
    this.#total = total;
    this.#free = total;
  }

  /**
   * Waits until there is room and returns what gives it back. A stage that wants more than the
   * machine has gets all of it. Those that came first go first, except that one which does not fit
   * yet does not hold up smaller ones.
   */
  async acquire(resources: Resources, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    const need: Capacity = {
      slots: 1,
      gpus: Math.min(resources.gpus ?? 0, this.#total.gpus),
      memoryGiB: Math.min(resources.memoryGiB ?? 0, this.#total.memoryGiB),
    };
    await new Promise<void>((resolve, reject) => {
      const waiting: Waiting = {
        need,
        grant: () => {
          signal.removeEventListener("abort", give);
          resolve();
        },
      };
      const give = () => {
        this.#waiting.delete(waiting);
        reject(signal.reason);
      };
      signal.addEventListener("abort", give, { once: true });
      this.#waiting.add(waiting);
      this.#serve();
    });
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#free = combine(this.#free, need, 1);
      this.#serve();
    };
  }

  #serve(): void {
    for (const waiting of this.#waiting) {
      // Of a hundred thousand that wait, only as many are looked at as there may be room for.
      if (this.#free.slots < 1) return;
      const left = combine(this.#free, waiting.need, -1);
      if (left.gpus < 0 || left.memoryGiB < 0) continue;
      this.#free = left;
      this.#waiting.delete(waiting);
      waiting.grant();
    }
  }
}

function combine(a: Capacity, b: Capacity, sign: 1 | -1): Capacity {
  return {
    slots: a.slots + sign * b.slots,
    gpus: a.gpus + sign * b.gpus,
    memoryGiB: a.memoryGiB + sign * b.memoryGiB,
  };
}
