/**
 * The stage graph: declare stages and workflows, check and plan them, run them so that they can be
 * killed at any moment, keep what they make in a content-addressed store and what happened in a
 * journal. It knows nothing of models and could run any graph.
 */
export * from "./events.ts";
export * from "./journal.ts";
export { openJournal } from "./journal_open.ts";
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
export { applyOverrides, describeParams, parseParams } from "./params.ts";
