/** What a run has used, and whether that is more than its budget. */
import { UserError } from "../errors.ts";
import type { Resources } from "./stage.ts";

export interface Budget {
  readonly gpuSeconds?: number;
  /** In whatever currency `gpuHourPrice` is. */
  readonly money?: number;
  readonly gpuHourPrice?: number;
}

/** Counts the GPUs that stages hold, by time passing on this machine, whatever its clock says. */
export class Usage {
  #used: number;
  readonly #machineGpus: number;
  readonly #budget: Budget;
  readonly #running = new Map<symbol, { gpus: number; began: number }>();

  /** @param before GPU-seconds that the run had used already */
  constructor(before: number, machineGpus: number, budget: Budget) {
    this.#used = before;
    this.#machineGpus = machineGpus;
    this.#budget = budget;
  }

  /** Counts a stage from now until the returned function is called. */
  begin(resources: Resources): () => void {
    const id = Symbol();
    const gpus = Math.min(resources.gpus ?? 0, this.#machineGpus);
    const began = performance.now();
    this.#running.set(id, { gpus, began });
    return () => {
      this.#running.delete(id);
      this.#used += secondsSince(began) * gpus;
    };
  }

  gpuSeconds(): number {
    let used = this.#used;
    for (const { gpus, began } of this.#running.values()) used += secondsSince(began) * gpus;
    return used;
  }

  /** The error to end the run with, where the budget is spent. */
  overdrawn(): UserError | undefined {
    const { gpuSeconds, money, gpuHourPrice } = this.#budget;
    const used = this.gpuSeconds();
    if (gpuSeconds !== undefined && used >= gpuSeconds) {
      return new UserError(
        `its stages have used ${
          used.toFixed(1)
        } of ${gpuSeconds} GPU-seconds; what they finished is ` +
          `kept, and the same command goes on with a larger --budget-gpu-seconds`,
      );
    }
    const cost = gpuHourPrice === undefined ? 0 : used / 3600 * gpuHourPrice;
    if (money !== undefined && cost >= money) {
      return new UserError(
        `its stages have cost ${
          cost.toFixed(2)
        } of ${money}; what they finished is kept, and the ` +
          `same command goes on with a larger --budget-money`,
      );
    }
    return undefined;
  }
}

function secondsSince(began: number): number {
  return (performance.now() - began) / 1000;
}
