/**
 * What a model is asked to solve. A task hands out queries by split, words each as a prompt, cuts a
 * solution into reasoning steps and grades the outcome; it knows nothing of models or stages.
 *
 * `defineTask` adds the checks that every task needs: parameters are parsed by the task's zod schema
 * and a wrong one is a usage error that names it. A task of turns (`agent.ts`) is played instead of
 * graded: it has `agent`.
 */
import type { z } from "zod";
import type { Agent } from "./agent.ts";
import { unknownName, UserError } from "../errors.ts";

export const splits = ["train", "validation", "test"] as const;
/** `train` is learned from, settings are chosen on `validation`, figures are reported on `test`. */
export type Split = typeof splits[number];

/** One question with its right answer. `id` is unique within a task and does not depend on counts. */
export interface Query {
  readonly id: string;
  readonly question: string;
  /** The right answer in the form that `grade` compares with, e.g. `"1200"`. */
  readonly gold: string;
  /** Worked problems that stand before the question in a plain prompt, for models that follow examples. */
  readonly examples?: string;
  /** The kind of query by which results are also counted, where there are kinds. */
  readonly group?: string;
}

/** A worked solution to learn from: the completion of `prompt`, without an end-of-text token. */
export interface Demonstration {
  readonly query: Query;
  readonly prompt: string;
  readonly solution: string;
}

/** The verdict on one completion. `extracted` is the answer as found in it, null where none is. */
export interface Grade {
  readonly correct: boolean;
  readonly extracted: string | null;
  /** Why, in a few words a person can read. */
  readonly reason: string;
}

/** A message in the form that chat templates take. */
export interface ChatMessage {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

type Items<T> = Iterable<T> | AsyncIterable<T>;

/** What a task's author writes; `Parameters` is the schema of what `queries` can be told. */
export interface TaskDefinition<Parameters extends z.ZodObject> {
  readonly name: string;
  readonly description: string;
  readonly params: Parameters;
  /** The queries of a split, always in the same order for the same parameters. */
  queries(split: Split, params: z.output<Parameters>): Items<Query>;
  /** Worked solutions of a split's queries, where the task has any. */
  demonstrations?(split: Split, params: z.output<Parameters>): Items<Demonstration>;
  /** The question as plain text for a model without a chat template; the completion follows it. */
  prompt(query: Query): string;
  /** The question as messages for a model's chat template. */
  messages(query: Query, params?: z.output<Parameters>): ChatMessage[];
  /** `params` are the task's own where the caller has them, as stages do. */
  grade(
    query: Query,
    completion: string,
    params?: z.output<Parameters>,
  ): Grade | Promise<Grade>;
  /** Texts after which a reasoning step ends, each kept at the end of its step. */
  readonly stepDelimiters: readonly string[];
  /** Every character that prompts and solutions are made of, for a character-level tokenizer. */
  alphabet(params: z.output<Parameters>): string | Promise<string>;
}

/** A task as stages use it: parameters come as plain JSON and are checked here. */
export interface Task {
  readonly name: string;
  readonly description: string;
  readonly params: z.ZodObject;
  readonly stepDelimiters: readonly string[];
  /** Whether `demonstrations` has anything to give. */
  readonly hasDemonstrations: boolean;
  /** How it is played; only tasks of turns have it, and they are neither prompted nor graded. */
  readonly agent?: Agent;
  /** @throws {UserError} on unknown or wrong parameters and on unreadable data */
  queries(split: Split, params?: TaskParameters): Promise<Query[]>;
  /** @throws {UserError} as `queries`, and where the task has no worked solutions */
  demonstrations(split: Split, params?: TaskParameters): Promise<Demonstration[]>;
  prompt(query: Query): string;
  messages(query: Query, params?: TaskParameters): ChatMessage[];
  /** @throws {UserError} where the task grades by its parameters and they are wrong or not given */
  grade(query: Query, completion: string, params?: TaskParameters): Promise<Grade>;
  /** @throws {UserError} as `queries` */
  alphabet(params?: TaskParameters): Promise<string>;
}

export type TaskParameters = Readonly<Record<string, unknown>>;

/** Checks `given` against the schema of task `name`. */
export function parseParameters<Parameters extends z.ZodObject>(
  name: string,
  schema: Parameters,
  given: TaskParameters,
): z.output<Parameters> {
  const known = Object.keys(schema.shape);
  const stranger = Object.keys(given).find((key) => !known.includes(key));
  if (stranger !== undefined) throw unknownName(`parameter of task '${name}'`, stranger, known);
  const parsed = schema.safeParse(given);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const where = issue.path.join(".");
  const found = issue.path.reduce<unknown>(
    (value, key) => (value as Record<PropertyKey, unknown> | undefined)?.[key],
    given,
  );
  throw new UserError(
    `task '${name}' cannot use parameter '${where}' = ${JSON.stringify(found)}: ${issue.message}`,
    { exitCode: 2 },
  );
}

/** Turns a definition into a task that checks its parameters. */
export function defineTask<Parameters extends z.ZodObject>(
  definition: TaskDefinition<Parameters>,
): Task {
  const { name, params: schema } = definition;
  const parse = (given: TaskParameters = {}) => parseParameters(name, schema, given);
  return {
    name,
    description: definition.description,
    params: schema,
    stepDelimiters: definition.stepDelimiters,
    hasDemonstrations: definition.demonstrations !== undefined,
    queries: async (split, params) =>
      await Array.fromAsync(definition.queries(split, parse(params))),
    demonstrations: async (split, params) => {
      if (definition.demonstrations === undefined) {
        throw new UserError(
          `task '${name}' has no worked solutions to learn from: start from a trained checkpoint`,
        );
      }
      return await Array.fromAsync(definition.demonstrations(split, parse(params)));
    },
    prompt: (query) => definition.prompt(query),
    messages: (query, params) => definition.messages(query, params && parse(params)),
    grade: async (query, completion, params) =>
      await definition.grade(query, completion, params && parse(params)),
    alphabet: async (params) => await definition.alphabet(parse(params)),
  };
}
