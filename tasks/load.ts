/** Finds a task by name, or loads a user's own from a TypeScript file. */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { UserError } from "../errors.ts";
import type { Task } from "./task.ts";

const isFile = (name: string) => /\.[mc]?[tj]s$/.test(name);

function isTask(value: unknown): value is Task {
  const task = value as Partial<Task> | null | undefined;
  return typeof task === "object" && task !== null && typeof task.queries === "function" &&
    typeof task.grade === "function" && typeof task.prompt === "function";
}

/**
 * The task called `name` among `known`, or the one that a file exports as `default` or `task`.
 * @param name a task's name, or the path of a TypeScript file, relative to the current folder
 * @throws {UserError} where there is no such task, or the file exports none
 */
export async function loadFrom(name: string, known: (name: string) => Task): Promise<Task> {
  if (!isFile(name)) return known(name);
  const url = pathToFileURL(resolve(name)).href;
  let exported: { default?: unknown; task?: unknown };
  try {
    exported = await import(url);
  } catch (cause) {
    throw new UserError(`cannot load task file '${name}': ${(cause as Error).message}`, { cause });
  }
  const task = [exported.default, exported.task].find(isTask);
  if (task !== undefined) return task;
  throw new UserError(
    `task file '${name}' exports no task: end it with 'export default defineTask({ ... })'`,
  );
}
