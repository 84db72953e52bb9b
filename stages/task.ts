/**
 * How stages name a task and word its queries, as plain prompts or through a model's chat template, and
 * how long an answer may be.
 */
import { z } from "zod";
import type { Demonstration } from "../rl/mod.ts";
import {
  type Episode,
  type Grade,
  loadTask,
  type Query,
  type Split,
  type Task,
} from "../tasks/mod.ts";
import type { LanguageModel } from "./language_model.ts";
import { transcribe, Wording } from "./transcript.ts";
import { UserError } from "../errors.ts";

/** The parameters by which every stage names its task. */
export const taskFields = {
  task: z.string(),
  taskParams: z.record(z.string(), z.json()).default({}),
  /** Word queries through the model's chat template, or as plain text. */
  chat: z.boolean().default(false),
};

export interface TaskFields {
  readonly task: string;
  readonly taskParams: Readonly<Record<string, unknown>>;
  readonly chat: boolean;
}

/** A task with its parameters filled in; `data` is the artifact with the user's files, if any. */
export class OpenTask {
  readonly #params: Record<string, unknown>;

  /** Finds or loads the task that the fields name. */
  static async open(
    fields: TaskFields,
    data: { readonly path: string } | undefined,
  ): Promise<OpenTask> {
    return new OpenTask(await loadTask(fields.task), fields, data);
  }

  private constructor(
    readonly task: Task,
    readonly fields: TaskFields,
    data: { readonly path: string } | undefined,
  ) {
    this.#params = { ...fields.taskParams, ...(data === undefined ? {} : { path: data.path }) };
  }

  /** `count` queries of a split from `offset`, or all that there are. */
  async queries(split: Split, offset = 0, count = Infinity): Promise<Query[]> {
    const queries = await this.task.queries(split, this.#params);
    if (offset >= queries.length) {
      throw new UserError(
        `task '${this.task.name}' has ${queries.length} ${split} queries, none from number ${offset} on: ` +
          "ask for fewer",
      );
    }
    return queries.slice(offset, offset + count);
  }

  demonstrations(split: Split) {
    return this.task.demonstrations(split, this.#params);
  }

  /** A split's worked solutions or episodes as what a model is trained on. */
  async worked(split: Split, model: LanguageModel): Promise<Demonstration[]> {
    const { agent } = this.task;
    if (agent === undefined) {
      return (await this.demonstrations(split)).map(({ query, solution }) => ({
        promptIds: this.prompt(query, model).ids,
        responseIds: [...model.tokenizer.encode(solution), model.tokenizer.eosId],
      }));
    }
    const wording = new Wording(model, this.fields.chat);
    return (await agent.conversations(split, this.#params)).map(({ messages, given }) => {
      const { prompt, responseIds, actionMask } = transcribe(wording, messages, given);
      return { promptIds: [...prompt.ids], responseIds, actionMask };
    });
  }

  /** All texts of a split's worked solutions or episodes, to make a vocabulary of. */
  async texts(split: Split): Promise<string[]> {
    return (await this.demonstrations(split)).flatMap(({ prompt, solution }) => [prompt, solution]);
  }

  /** An attempt at a query; only for tasks of turns. */
  begin(query: Query): Promise<Episode> {
    return this.task.agent!.begin(query, this.#params);
  }

  grade(query: Query, completion: string): Promise<Grade> {
    return this.task.grade(query, completion, this.#params);
  }

  alphabet(): Promise<string> {
    return this.task.alphabet(this.#params);
  }

  /** The prompt of a query as text and as tokens. */
  prompt(query: Query, model: Pick<LanguageModel, "tokenizer">): { text: string; ids: number[] } {
    const { tokenizer } = model;
    if (!this.fields.chat) {
      const text = this.task.prompt(query);
      return { text, ids: tokenizer.encode(text, { addSpecialTokens: true }) };
    }
    const text = tokenizer.applyChatTemplate(
      this.task.messages(query, this.#params).map((m) => ({ ...m })),
      {
        addGenerationPrompt: true,
      },
    );
    return { text, ids: tokenizer.encode(text) };
  }
}

/**
 * How long each answer may be: `maxNewTokens`, or what is left of the positions that the model has.
 *
 * @param prompts of `queries`, in the same order
 * @returns the longest prompt and answer together, and the limit for each query
 * @throws {UserError} where a prompt fills the model by itself
 */
export function answerLimits(
  model: Pick<LanguageModel, "config">,
  queries: readonly Query[],
  prompts: readonly { readonly ids: readonly number[] }[],
  maxNewTokens: number,
): { maxLength: number; limits: number[] } {
  const { maxPositions } = model.config;
  const limits = prompts.map(({ ids }, i) => {
    const limit = Math.min(maxNewTokens, maxPositions - ids.length);
    if (limit >= 1) return limit;
    throw new UserError(
      `query '${
        queries[i]!.id
      }' has ${ids.length} tokens and leaves no room for an answer: the model ` +
        `sees ${maxPositions} (max_position_embeddings). Leave the query out or take another model`,
    );
  });
  return { limits, maxLength: Math.max(...prompts.map(({ ids }, i) => ids.length + limits[i]!)) };
}
