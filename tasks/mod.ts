/**
 * What a model is asked to solve: queries by split, prompts, reasoning steps, grading. Nothing here
 * knows of models, training or stages; `stages/` finds a task by name with `getTask`.
 */
import { unknownName } from "../errors.ts";
import { alfworld } from "./alfworld/mod.ts";
import { arithmetic } from "./arithmetic/mod.ts";
import { gsm8k, math } from "./math/mod.ts";
import { loadFrom } from "./load.ts";
import type { Task } from "./task.ts";
import { verifiable } from "./verifiable/mod.ts";

export { defineTask, splits } from "./task.ts";
export type {
  ChatMessage,
  Demonstration,
  Grade,
  Query,
  Split,
  Task,
  TaskDefinition,
  TaskParameters,
} from "./task.ts";
export { plainText } from "./agent.ts";
export type { Agent, Conversation, Episode, EpisodeOutcome } from "./agent.ts";
export { splitSteps, stepEnds } from "./steps.ts";
export { canonicalNumber, extractFinalAnswer, gradeFinalNumber } from "./final_answer.ts";
export {
  closeAlgebra,
  equalAnswers,
  extractAnswer,
  gradeCases,
  gradeMath,
  parseCase,
} from "./math/mod.ts";
export type {
  AnswerStyle,
  Extracted,
  GradedCase,
  GradingCase,
  MathGrade,
  PoolOptions,
} from "./math/mod.ts";
export { alfworld, arithmetic, gsm8k, math, verifiable };

/** Every task that comes with the project, by name. */
export const tasks: ReadonlyMap<string, Task> = new Map(
  [alfworld, arithmetic, gsm8k, math, verifiable].map((task) => [task.name, task]),
);

/** @throws {UserError} naming the nearest known task */
export function getTask(name: string): Task {
  const task = tasks.get(name);
  if (task === undefined) throw unknownName("task", name, tasks.keys());
  return task;
}

/**
 * A task by name, or from a user's TypeScript file where `name` is the path of one.
 * @throws {UserError} naming the nearest known task, or what is wrong with the file
 */
export function loadTask(name: string): Promise<Task> {
  return loadFrom(name, getTask);
}
