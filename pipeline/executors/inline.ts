/** The executor that runs stages in this process: for tests, and for stages that take no time. */
import type { Executor } from "../executor.ts";
import type { Store } from "../store.ts";
import { runStage, type StageRegistry } from "../worker.ts";

export function inlineExecutor(stages: StageRegistry, store: Store): Executor {
  return {
    name: "inline",
    run: (job, _resources, report, signals) =>
      runStage(job, stages, store, report, AbortSignal.any([signals.cancel, signals.kill])),
  };
}
