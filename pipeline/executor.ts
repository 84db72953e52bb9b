/**
 * An executor carries a stage's job to where it runs and brings its reports and its outcome back.
 */
import type { StageJob, StageOutcome, StageReport } from "./protocol.ts";
import type { Resources } from "./stage.ts";

export interface ExecutorSignals {
  /** The stage should stop and may tidy up first. */
  readonly cancel: AbortSignal;
  /** The stage must be gone at once. */
  readonly kill: AbortSignal;
}

export interface Executor {
  /** `process`, `inline`...: the name on the command line. */
  readonly name: string;
  /**
   * Runs one attempt of a stage. Never rejects because of the stage: whatever happens to it is an
   * outcome. When it returns, nothing of the attempt runs any more.
   */
  run(
    job: StageJob,
    resources: Resources,
    report: (report: StageReport) => void,
    signals: ExecutorSignals,
  ): Promise<StageOutcome>;
}
