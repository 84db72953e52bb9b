/**
 * The bodies of an OpenAI-compatible API, as far as a local model can answer them, with the fields that
 * vLLM adds. What would change the answer and is not implemented is refused by name, never ignored.
 */
import { z } from "zod";

const count = z.int().nonnegative();
const tokens = z.array(count).min(1);
const off = <T extends z.ZodType>(type: T, wanted: string) =>
  type.nullish().describe(wanted).refine((value) => value === null || value === undefined, {
    message: "is not supported here: leave it out",
  });
const zero = z.number().nullish().refine((value) => !value, {
  message: "is not supported here: leave it out or give 0",
});

/** Fields that both kinds of request have. */
const common = {
  model: z.string(),
  n: z.int().min(1).max(128).nullish(),
  seed: z.int().nullish(),
  temperature: z.number().nonnegative().nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  stop: z.union([z.string().min(1), z.array(z.string().min(1)).max(16)]).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  max_tokens: z.int().positive().nullish(),
  frequency_penalty: zero,
  presence_penalty: zero,
  logit_bias: z.record(z.string(), z.number()).nullish().refine(
    (value) => Object.keys(value ?? {}).length === 0,
    { message: "is not supported here: leave it out" },
  ),
  user: z.string().nullish(),
  metadata: z.unknown().optional(),
  store: z.unknown().optional(),
  service_tier: z.unknown().optional(),
  safety_identifier: z.unknown().optional(),
  prompt_cache_key: z.unknown().optional(),
  // What vLLM has beside.
  top_k: z.int().min(-1).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  repetition_penalty: z.number().positive().nullish(),
  stop_token_ids: z.array(count).nullish(),
  ignore_eos: z.boolean().nullish(),
  include_stop_str_in_output: z.boolean().nullish(),
  return_token_ids: z.boolean().nullish(),
};

/** `POST /v1/completions`. */
export const CompletionBody = z.strictObject({
  ...common,
  prompt: z.union(
    [z.string(), z.array(z.string()).min(1), tokens, z.array(tokens).min(1)],
    "must be a text, a list of texts, token ids, or a list of those",
  ),
  logprobs: z.int().min(0).max(1, "the chosen token's alone: 0 or 1").nullish(),
  echo: z.literal(false, "is not supported here: leave it out").nullish(),
  best_of: z.int().nullish(),
  suffix: off(z.string(), "text after the completion"),
}).refine(({ best_of, n }) => best_of === undefined || best_of === null || best_of === (n ?? 1), {
  path: ["best_of"],
  message: "is not supported here: it must be n",
});
export type CompletionBody = z.infer<typeof CompletionBody>;

const content = z.union([
  z.string(),
  z.array(z.object({ type: z.literal("text"), text: z.string() }))
    .transform((parts) => parts.map((part) => part.text).join("")),
], "must be a text or a list of text parts: nothing else is supported");

/** `POST /v1/chat/completions`. */
export const ChatBody = z.strictObject({
  ...common,
  messages: z.array(z.looseObject({ role: z.string(), content })).min(1),
  max_completion_tokens: z.int().positive().nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: zero,
  tools: z.array(z.unknown()).max(0, "is not supported here: leave it out").nullish(),
  tool_choice: z.unknown().optional(),
  response_format: z.object({ type: z.literal("text", "only text is supported") }).nullish(),
  chat_template_kwargs: z.record(z.string(), z.unknown()).nullish(),
});
export type ChatBody = z.infer<typeof ChatBody>;

/** What a client reads of a completion with `return_token_ids`; other fields pass. */
export const CompletionAnswer = z.object({
  choices: z.array(z.object({
    index: count,
    text: z.string(),
    finish_reason: z.string().nullable(),
    token_ids: z.array(count).nullish(),
    logprobs: z.object({ token_logprobs: z.array(z.number().nullable()) }).nullish(),
  })),
});

/** `GET /v1/models`. */
export const ModelList = z.object({ data: z.array(z.object({ id: z.string() })) });
