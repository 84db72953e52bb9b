/**
 * Sampling by an OpenAI-compatible server (this program's `serve`, vLLM) in place of a `Generator`.
 * Prompts go as token ids and answers come back as token ids, because text does not say which tokens a
 * model chose; a server that cannot give them is refused.
 */
import { z } from "zod";
import { UserError } from "../errors.ts";
import { CompletionAnswer, ModelList } from "./api_schema.ts";
import type { Generation, GenerationRequest } from "./requests.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface RemoteOptions {
  /** The server's name of the model; default the first that it lists. */
  readonly model?: string | undefined;
  /** Decodes the answers; without it their text is the server's. */
  readonly tokenizer?: Tokenizer | undefined;
  /** Default: OPENAI_API_KEY, where set. */
  readonly apiKey?: string | undefined;
  /** Requests under way at a time. Default 64. */
  readonly concurrency?: number;
  /** Milliseconds before the first retry; doubled at each. Default 1,000. */
  readonly retryDelay?: number;
}

const ATTEMPTS = 4;

export class RemoteGenerator implements Disposable {
  private constructor(
    private readonly url: string,
    private readonly model: string,
    private readonly options: RemoteOptions,
  ) {}

  /**
   * @param url of the server, with or without its final `/v1`
   * @throws UserError where it does not answer or has no such model
   */
  static async connect(url: string, options: RemoteOptions = {}): Promise<RemoteGenerator> {
    if (!/^https?:\/\//.test(url)) {
      throw new UserError(`the server '${url}' is no http:// or https:// address`, { exitCode: 2 });
    }
    const base = `${url.replace(/\/+$/, "").replace(/\/v1$/, "")}/v1`;
    const probe = new RemoteGenerator(base, "", options);
    const { data } = await probe.#ask("/models", ModelList);
    const names = data.map(({ id }) => id);
    const model = options.model ?? names[0];
    if (model === undefined || !names.includes(model)) {
      throw new UserError(
        `the server ${url} has no model '${model ?? ""}'; it has ${names.join(", ") || "none"}`,
      );
    }
    return new RemoteGenerator(base, model, options);
  }

  [Symbol.dispose](): void {}

  /** As `Generator.generate`; values are never among the results. */
  async generate(
    requests: readonly GenerationRequest[],
    { signal, onProgress }: {
      signal?: AbortSignal;
      onProgress?: (done: number, total: number) => void;
    } = {},
  ): Promise<Generation[][]> {
    const results: Generation[][] = requests.map(() => []);
    const queue = [...requests.entries()];
    let done = 0;
    const worker = async () => {
      for (let next; (next = queue.shift()) !== undefined;) {
        const [index, request] = next;
        results[index] = await this.#sample(request, signal);
        onProgress?.(++done, requests.length);
      }
    };
    const workers = Math.min(this.options.concurrency ?? 64, requests.length);
    await Promise.all(Array.from({ length: workers }, worker));
    return results;
  }

  async #sample(request: GenerationRequest, signal?: AbortSignal): Promise<Generation[]> {
    const n = request.n ?? 1;
    const { stopIds } = request;
    const { choices } = await this.#ask("/completions", CompletionAnswer, {
      model: this.model,
      prompt: request.promptIds,
      n,
      seed: request.seed ?? 0,
      temperature: request.temperature ?? 1,
      top_p: request.topP ?? 1,
      // To vLLM -1 is all tokens; so it is to `serve`.
      top_k: request.topK || -1,
      min_p: request.minP ?? 0,
      repetition_penalty: request.repetitionPenalty ?? 1,
      max_tokens: request.maxNewTokens ?? null,
      stop: request.stop?.length ? request.stop : null,
      ...(stopIds === undefined ? {} : { ignore_eos: true, stop_token_ids: stopIds }),
      include_stop_str_in_output: true,
      return_token_ids: true,
      logprobs: 0,
    }, signal);
    if (choices.length !== n) {
      throw new UserError(`${this.url}: ${choices.length} choices came, expected ${n}`);
    }
    return choices.toSorted((a, b) => a.index - b.index).map((choice): Generation => {
      const ids = choice.token_ids;
      const logProbs = choice.logprobs?.token_logprobs;
      if (!ids || !logProbs || logProbs.length !== ids.length || logProbs.includes(null)) {
        throw new UserError(
          `${this.url} gives no token ids with their log-probabilities: it must know ` +
            "return_token_ids (vLLM does, and this program's serve)",
        );
      }
      return {
        ids,
        text: this.options.tokenizer?.decode(ids, { skipSpecialTokens: true }) ?? choice.text,
        logProbs: logProbs as number[],
        finish: choice.finish_reason === "length" ? "length" : "stop",
      };
    });
  }

  /** Asks, again where the connection failed or the server was busy: a seed makes that harmless. */
  async #ask<T extends z.ZodType>(
    path: string,
    schema: T,
    body?: object,
    signal?: AbortSignal,
  ): Promise<z.output<T>> {
    const key = this.options.apiKey ?? Deno.env.get("OPENAI_API_KEY");
    const headers = {
      "content-type": "application/json",
      ...(key ? { authorization: `Bearer ${key}` } : {}),
    };
    const init: RequestInit = body === undefined
      ? { headers }
      : { method: "POST", headers, body: JSON.stringify(body) };
    const url = `${this.url}${path}`;
    for (let attempt = 1;; attempt++) {
      let failure: string;
      try {
        const response = await fetch(url, signal === undefined ? init : { ...init, signal });
        const text = await response.text();
        if (response.ok) return parsed(url, schema, text);
        failure = `${response.status}: ${text.slice(0, 300)}`;
        if (response.status !== 429 && response.status < 500) {
          throw new UserError(`${url} refuses with ${failure}`);
        }
      } catch (error) {
        if (error instanceof UserError) throw error;
        signal?.throwIfAborted();
        failure = (error as Error).message;
      }
      if (attempt === ATTEMPTS) {
        throw new UserError(`${url} failed ${ATTEMPTS} times, last with ${failure}`);
      }
      const wait = (this.options.retryDelay ?? 1000) * 2 ** (attempt - 1);
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}

function parsed<T extends z.ZodType>(url: string, schema: T, text: string): z.output<T> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new UserError(`${url} answers with something else than JSON`, { cause });
  }
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new UserError(`${url} answers with ${issue.path.join(".")}: ${issue.message}`);
}
