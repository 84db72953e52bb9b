/**
 * The stage graph: declare stages and workflows, check and plan them, run them so that they can be
 * killed at any moment, keep what they make in a content-addressed store and what happened in a
 * journal. It knows nothing of models and could run any graph.
 */
export * from "./events.ts";
export * from "./journal.ts";
export { openJournal } from "./journal_open.ts";
export { journalHandler, type ServeJournalOptions } from "./journal_serve.ts";
export type { RunRecord, RunState, StageRecord, StageState } from "./summary.ts";
export * from "./stage.ts";
export { buildGraph, defineWorkflow } from "./workflow.ts";
export type {
  ArtifactRef,
  Condition,
  InputRefs,
  NodeHandle,
  NodeSpec,
  Workflow,
  WorkflowBuilder,
} from "./workflow.ts";
export { type Graph, type GraphNode, graphRecord, toMermaid, toText } from "./graph.ts";
export { byHand, describeInterface } from "./by_hand.ts";
export { onlyNode } from "./only.ts";
export { applyOverrides, describeParams, listParams, parseParams } from "./params.ts";
export { openStore } from "./store_open.ts";
export { CorruptArtifactError } from "./store.ts";
export type { Lineage, Manifest, Store, WorkRecord } from "./store.ts";
export { planGraph, type PlannedStage } from "./plan.ts";
export type { Executor, ExecutorSignals } from "./executor.ts";
export { processExecutor } from "./executors/process.ts";
export { inlineExecutor } from "./executors/inline.ts";
export { stageCommand } from "./stage_command.ts";
export type { StageRegistry } from "./worker.ts";
export { RunCancelledError, type RunOptions, type RunResult } from "./run_options.ts";
export type { Budget } from "./usage.ts";
export { runGraph, runWorkflow } from "./runner.ts";
export {
  findWorkflow,
  type PipelineOptions,
  type Program,
  resumeRunCommand,
  runByHandCommand,
  runPipelineCommand,
  type WorkflowRegistry,
} from "./cli.ts";
export {
  cancelRunCommand,
  listRunsCommand,
  logsCommand,
  rebuildCommand,
  showRunCommand,
} from "./cli_runs.ts";
export { diffRunsCommand } from "./cli_diff.ts";
export type { PlaceOptions } from "./cli_place.ts";
export {
  collectGarbageCommand,
  exportArtifactCommand,
  listStoreCommand,
  showArtifactCommand,
  verifyStoreCommand,
} from "./cli_store.ts";
export { type Collected, collectGarbage, verifyStore } from "./store_admin.ts";
