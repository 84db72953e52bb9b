/**
 * Tasks of turns: the model acts, a world answers, until it is over and has an outcome. A query is
 * opened as an `Episode`, one for each attempt; demonstrations are whole conversations.
 */
import type { z } from "zod";
import { UserError } from "../errors.ts";
import {
  type ChatMessage,
  parseParameters,
  type Query,
  type Split,
  type Task,
  type TaskParameters,
} from "./task.ts";

/** How an attempt ended. */
export interface EpisodeOutcome {
  readonly success: boolean;
  /** In a few words, e.g. `won`, `out of turns`, `no command`. */
  readonly reason: string;
}

/** One attempt at a query. */
export interface Episode {
  /** What stands before the model's first turn. */
  readonly messages: readonly ChatMessage[];
  /**
   * Takes the model's next turn.
   * @returns what the model is told, or undefined where the episode is over
   */
  act(turn: string): string | undefined;
  /** Undefined until it is over. */
  readonly outcome: EpisodeOutcome | undefined;
}

/** A worked episode to learn from. */
export interface Conversation {
  readonly query: Query;
  readonly messages: readonly ChatMessage[];
  /** So many of the first messages are given; after them, the assistant's are turns to learn. */
  readonly given: number;
}

/** What stages play a task by. Parameters come as plain JSON and are checked. */
export interface Agent {
  /** @throws {UserError} where the query's data cannot be read */
  begin(query: Query, params?: TaskParameters): Promise<Episode>;
  /** @throws {UserError} where there are none to be had */
  conversations(split: Split, params?: TaskParameters): Promise<Conversation[]>;
}

type Items<T> = Iterable<T> | AsyncIterable<T>;

/** What the author of a task of turns writes. */
export interface AgentTaskDefinition<Parameters extends z.ZodObject> {
  readonly name: string;
  readonly description: string;
  readonly params: Parameters;
  /** The queries of a split, always in the same order for the same parameters. */
  queries(split: Split, params: z.output<Parameters>): Items<Query> | Promise<Items<Query>>;
  begin(query: Query, params: z.output<Parameters>): Episode | Promise<Episode>;
  conversations(split: Split, params: z.output<Parameters>): Items<Conversation>;
}

/** Every character of ASCII that can be printed, and the line break. */
const printable = "\n" + Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)).join("");

/** A conversation without a chat template: a message a line. */
export function plainText(messages: readonly ChatMessage[]): string {
  return messages.map(({ content }) => `${content}\n`).join("");
}

/** Turns a definition into a task that checks its parameters. */
export function defineAgentTask<Parameters extends z.ZodObject>(
  definition: AgentTaskDefinition<Parameters>,
): Task {
  const { name, params: schema } = definition;
  const parse = (given: TaskParameters = {}) => parseParameters(name, schema, given);
  const played = (): never => {
    throw new UserError(`task '${name}' is played in turns: it has no single prompt and no answer`);
  };
  return {
    name,
    description: definition.description,
    params: schema,
    stepDelimiters: [],
    hasDemonstrations: true,
    queries: async (split, params) =>
      await Array.fromAsync(await definition.queries(split, parse(params))),
    demonstrations: async (split, params) =>
      (await Array.fromAsync(definition.conversations(split, parse(params)))).map((each) => ({
        query: each.query,
        prompt: plainText(each.messages.slice(0, each.given)),
        solution: plainText(each.messages.slice(each.given)),
      })),
    prompt: played,
    messages: played,
    grade: played,
    alphabet: () => Promise.resolve(printable),
    agent: {
      begin: async (query, params) => await definition.begin(query, parse(params)),
      conversations: async (split, params) =>
        await Array.fromAsync(definition.conversations(split, parse(params))),
    },
  };
}
