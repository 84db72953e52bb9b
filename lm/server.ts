/**
 * An OpenAI-compatible API over one model: `/v1/completions`, `/v1/chat/completions` (both also as
 * server-sent events), `/v1/models` and `/health`. Requests of all clients share the generator's slots.
 * Log-probabilities are the model's own, of the chosen tokens.
 */
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { HTTPException } from "hono/http-exception";
import { streamSSE } from "hono/streaming";
import type { z } from "zod";
import { UserError } from "../errors.ts";
import { ChatBody, CompletionBody } from "./api_schema.ts";
import { Choice, type Shape } from "./api_choice.ts";
import { Generator } from "./generate.ts";
import type { Model } from "./model.ts";
import type { PackedType } from "./packed.ts";
import type { GenerationRequest } from "./requests.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface ServerOptions {
  /** What clients call the model. */
  readonly name: string;
  /** Sequences decoded side by side. Default 8. */
  readonly slots?: number;
  /** Prompt and answer together; default the model's positions, at most 4,096. */
  readonly maxLength?: number;
  /** As of `Generator`. */
  readonly dtype?: PackedType;
  /** Clients must send it as `Authorization: Bearer KEY`. */
  readonly apiKey?: string;
}

export interface ModelServer extends Disposable {
  fetch(request: Request): Response | Promise<Response>;
}

const MAX_BODY = 16 * 2 ** 20;

/** A request taken apart: what to generate and how to answer. */
interface Work {
  readonly requests: readonly GenerationRequest[];
  readonly shape: Shape;
  readonly stream: boolean;
  readonly includeUsage: boolean;
}

/**
 * Serves `model`; dispose of it to free the device memory.
 * @throws UserError where the model has no tokenizer
 */
export function serveModel(model: Model, options: ServerOptions): ModelServer {
  const { tokenizer } = model;
  if (tokenizer === undefined) throw new UserError("serving needs a model with a tokenizer");
  const maxLength = options.maxLength ?? Math.min(4096, model.config.maxPositions);
  const generator = new Generator(model, {
    slots: options.slots ?? 8,
    maxLength,
    tokensPerDispatch: 8,
    open: true,
    ...(options.dtype === undefined ? {} : { dtype: options.dtype }),
  });
  const app = new Hono();
  app.onError((error, c) => {
    if (error instanceof HTTPException) {
      return failure(c, error.status, error.message, error.cause as Culprit | undefined);
    }
    if (error instanceof UserError) return failure(c, 400, error.message);
    console.error(error);
    return failure(c, 500, "the server failed; its log says how");
  });
  app.notFound((c) => failure(c, 404, `there is no ${c.req.method} ${c.req.path}`));
  app.get("/health", (c) => c.json({ status: "ok" }));
  app.use("/v1/*", bodyLimit({ maxSize: MAX_BODY }), async (c, next) => {
    const { apiKey } = options;
    if (apiKey !== undefined && c.req.header("authorization") !== `Bearer ${apiKey}`) {
      const cause: Culprit = { code: "invalid_api_key" };
      throw new HTTPException(401, { message: "the API key is missing or wrong", cause });
    }
    await next();
  });
  const card = { id: options.name, object: "model", created: 0, owned_by: "oreo" };
  app.get("/v1/models", (c) => c.json({ object: "list", data: [card] }));
  // A name may have slashes.
  app.get("/v1/models/:name{.+}", (c) => {
    checkName(c.req.param("name"), options.name);
    return c.json(card);
  });
  app.post("/v1/completions", async (c) => {
    const body = await read(c, CompletionBody, options.name);
    return await answer(c, generator, tokenizer, completionWork(model, tokenizer, body));
  });
  app.post("/v1/chat/completions", async (c) => {
    const body = await read(c, ChatBody, options.name);
    return await answer(c, generator, tokenizer, chatWork(model, tokenizer, body));
  });
  return {
    fetch: (request) => app.fetch(request),
    [Symbol.dispose]: () => generator.dispose(),
  };
}

/** What OpenAI's errors name beside the message. */
interface Culprit {
  readonly param?: string;
  readonly code?: string;
}

function failure(c: Context, status: number, message: string, culprit: Culprit = {}): Response {
  const type = status < 500 ? "invalid_request_error" : "server_error";
  const { param = null, code = null } = culprit;
  return c.json({ error: { message, type, param, code } }, status as 400);
}

function checkName(asked: string, name: string): void {
  if (asked === name) return;
  const cause: Culprit = { param: "model", code: "model_not_found" };
  throw new HTTPException(404, {
    message: `the model '${asked}' does not exist here; there is '${name}'`,
    cause,
  });
}

async function read<T extends z.ZodType<{ model: string }>>(
  c: Context,
  schema: T,
  name: string,
): Promise<z.output<T>> {
  // Only this type makes a browser ask before a foreign page may send it.
  if (!c.req.header("content-type")?.startsWith("application/json")) {
    throw new HTTPException(415, { message: "the body must be application/json" });
  }
  const json = await c.req.json().catch((cause) => {
    throw new HTTPException(400, { message: `the body is not JSON: ${cause.message}` });
  });
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    const param = issue.code === "unrecognized_keys" ? issue.keys[0]! : issue.path.join(".");
    throw new HTTPException(400, {
      message: `${issue.path.join(".") || "body"}: ${issue.message}`,
      cause: param === "" ? {} : { param },
    });
  }
  checkName(parsed.data.model, name);
  return parsed.data;
}

/** Settings of the request, then of the model's generation_config.json. */
function settings(model: Model, body: CompletionBody | ChatBody) {
  const defaults = model.generationConfig.doSample === false ? {} : model.generationConfig;
  const ends = [
    ...new Set([...model.config.eosTokenIds, ...model.generationConfig.eosTokenIds ?? []]),
  ];
  const stop = typeof body.stop === "string" ? [body.stop] : body.stop ?? [];
  return {
    n: body.n ?? 1,
    // A request without a seed is another one each time.
    seed: body.seed === null || body.seed === undefined
      ? crypto.getRandomValues(new Uint32Array(1))[0]!
      : Math.abs(body.seed),
    temperature: body.temperature ?? defaults.temperature ?? 1,
    topP: body.top_p ?? defaults.topP ?? 1,
    topK: Math.max(0, body.top_k ?? defaults.topK ?? 0),
    minP: body.min_p ?? 0,
    repetitionPenalty: body.repetition_penalty ?? 1,
    stop,
    stopIds: [...(body.ignore_eos ? [] : ends), ...body.stop_token_ids ?? []],
  };
}

function shapeOf(body: CompletionBody | ChatBody, kind: Shape["kind"], logProbs: boolean): Shape {
  const stop = typeof body.stop === "string" ? [body.stop] : body.stop ?? [];
  return {
    kind,
    model: body.model,
    logProbs,
    tokenIds: body.return_token_ids ?? false,
    cut: body.include_stop_str_in_output ? [] : stop,
  };
}

function completionWork(model: Model, tokenizer: Tokenizer, body: CompletionBody): Work {
  const { prompt } = body;
  const several = Array.isArray(prompt) && typeof prompt[0] !== "number";
  const prompts = (several ? prompt : [prompt]) as (string | number[])[];
  // OpenAI's own default is 16 new tokens.
  const maxNewTokens = body.max_tokens ?? 16;
  return {
    requests: prompts.map((each) => ({
      ...settings(model, body),
      maxNewTokens,
      promptIds: typeof each === "string"
        ? tokenizer.encode(each, { addSpecialTokens: true })
        : each,
    })),
    shape: shapeOf(body, "text_completion", typeof body.logprobs === "number"),
    stream: body.stream ?? false,
    includeUsage: body.stream_options?.include_usage ?? false,
  };
}

function chatWork(model: Model, tokenizer: Tokenizer, body: ChatBody): Work {
  const text = tokenizer.applyChatTemplate(body.messages, {
    addGenerationPrompt: true,
    variables: body.chat_template_kwargs ?? {},
  });
  const maxNewTokens = body.max_completion_tokens ?? body.max_tokens;
  const request = {
    ...settings(model, body),
    promptIds: tokenizer.encode(text),
    ...(typeof maxNewTokens === "number" ? { maxNewTokens } : {}),
  };
  return {
    requests: [request],
    shape: shapeOf(body, "chat.completion", body.logprobs ?? false),
    stream: body.stream ?? false,
    includeUsage: body.stream_options?.include_usage ?? false,
  };
}

async function answer(
  c: Context,
  generator: Generator,
  tokenizer: Tokenizer,
  { requests, shape, stream, includeUsage }: Work,
): Promise<Response> {
  const head = {
    id: `${shape.kind === "text_completion" ? "cmpl" : "chatcmpl"}-${crypto.randomUUID()}`,
    created: Math.floor(Date.now() / 1000),
    model: shape.model,
  };
  const n = requests[0]!.n ?? 1;
  const choices = requests.flatMap((_, i) =>
    Array.from({ length: n }, (_, sample) => new Choice(tokenizer, shape, i * n + sample))
  );
  const usage = () => {
    const prompt = requests.reduce((sum, { promptIds }) => sum + promptIds.length, 0);
    const completion = choices.reduce((sum, choice) => sum + choice.tokens, 0);
    return {
      prompt_tokens: prompt,
      completion_tokens: completion,
      total_tokens: prompt + completion,
    };
  };
  if (!stream) {
    await generator.generate(requests, {
      signal: c.req.raw.signal,
      onTokens: (update) => choices[update.request * n + update.sample]!.push(update),
    });
    const whole = choices.map((choice) => choice.whole());
    return c.json({ ...head, object: shape.kind, choices: whole, usage: usage() });
  }
  const object = shape.kind === "text_completion" ? shape.kind : `${shape.kind}.chunk`;
  const gone = new AbortController();
  const chunks: object[] = [];
  let wake = () => {};
  const work = generator.generate(requests, {
    signal: gone.signal,
    onTokens: (update) => {
      const delta = choices[update.request * n + update.sample]!.push(update);
      if (delta !== undefined) chunks.push({ ...head, object, choices: [delta] });
      wake();
    },
  });
  // A refusal comes at once, before anything is sent, and then is an ordinary answer.
  const outcome = work.then(() => undefined, (error: unknown) => error ?? new Error("aborted"));
  const moment = new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), 0));
  const early = await Promise.race([outcome, moment]);
  if (early !== undefined) throw early;
  return streamSSE(c, async (sse) => {
    sse.onAbort(() => gone.abort(new Error("the client is gone")));
    const send = (data: object) => sse.writeSSE({ data: JSON.stringify(data) });
    if (shape.kind === "chat.completion") {
      for (const choice of choices) await send({ ...head, object, choices: [choice.opening()] });
    }
    let ended: { error: unknown } | undefined;
    void outcome.then((error) => {
      ended = { error };
      wake();
    });
    while (true) {
      while (chunks.length > 0) await send(chunks.shift()!);
      if (ended !== undefined) break;
      await new Promise<void>((resolve) => wake = resolve);
    }
    if (ended.error !== undefined) {
      if (gone.signal.aborted) return;
      const { message } = ended.error as Error;
      return await send({ error: { message, type: "server_error", param: null, code: null } });
    }
    if (includeUsage) await send({ ...head, object, choices: [], usage: usage() });
    await sse.writeSSE({ data: "[DONE]" });
  });
}
