/** `generate`: continue prompts with a model, JSON lines in and out. */
import process from "node:process";
import { z } from "zod";
import { UserError } from "../errors.ts";
import {
  type ChatMessage,
  type Generation,
  type GenerationRequest,
  Generator,
  loadModel,
  type Model,
  packedTypes,
  RemoteGenerator,
} from "../lm/mod.ts";
import { chooseEngine, startEngine } from "../stages/mod.ts";
import { checkTokenIds, type Line, lineId, readJsonLines, writeJsonLine } from "./json_lines.ts";
import {
  backend,
  decimal,
  dtype,
  modelOptions,
  plainCommand,
  repeated,
  storedType,
  wholeNumber,
} from "./options.ts";

const Message = z.looseObject({ role: z.string(), content: z.string() });

const Prompt = z.strictObject({
  id: lineId,
  input_ids: z.array(z.int().nonnegative()).min(1, "it must hold at least one token").optional(),
  prompt: z.string().optional(),
  messages: z.array(Message).min(1, "it must hold at least one message").optional(),
}).refine(
  (line) =>
    [line.input_ids, line.prompt, line.messages].filter((x) => x !== undefined).length === 1,
  "give one of input_ids, prompt and messages",
);
type Prompt = z.infer<typeof Prompt>;

interface Settings {
  readonly greedy?: true | undefined;
  readonly ignoreEos?: true | undefined;
  readonly maxNewTokens?: number | undefined;
  readonly temperature?: number | undefined;
  readonly topK?: number | undefined;
  readonly topP?: number | undefined;
  readonly minP?: number | undefined;
  readonly repetitionPenalty?: number | undefined;
  readonly seed: number;
  readonly stop?: string[] | undefined;
}

/** The command. */
export function generateCommand() {
  const command = plainCommand(
    "generate",
    'continue {"id", "input_ids" | "prompt" | "messages"} lines: {"id", "output_ids", "text", "logprobs"}',
  )
    .requiredOption(...modelOptions.model)
    .option(...modelOptions.adapter)
    .option("--max-new-tokens <number>", "most new tokens a line (default: 256)", wholeNumber)
    .option("--greedy", "take the most likely token at each step")
    .option("--ignore-eos", "go on past the model's end tokens")
    .option(
      "--temperature <number>",
      "default: the model's generation_config.json, else 1",
      decimal,
    )
    .option("--top-k <number>", "only the k most likely tokens; 0 for all", wholeNumber)
    .option("--top-p <number>", "only the likeliest tokens of this probability together", decimal)
    .option("--min-p <number>", "only tokens with this share of the likeliest's", decimal)
    .option("--repetition-penalty <number>", "above 1: less of what is there already", decimal)
    .option("--stop <text>", "end after this text; may be repeated", repeated)
    .option("--seed <number>", "line i (from 0) draws by seed + i", wholeNumber, 0)
    .addOption(dtype(packedTypes))
    .option("--slots <number>", "sequences decoded side by side", wholeNumber, 32)
    .option(
      "--server <url>",
      "let an OpenAI-compatible server generate; --model is then its tokenizer and configuration",
    )
    .option("--server-model <name>", "the server's name of the model (default: its first)")
    .option(...backend);
  return command.action(
    async ({ model: path, adapter, slots, server, serverModel, dtype, ...options }) => {
      if (options.maxNewTokens === 0) {
        throw new UserError("--max-new-tokens must be at least 1", { exitCode: 2 });
      }
      if (slots < 1) throw new UserError("--slots must be at least 1", { exitCode: 2 });
      chooseEngine(options.backend);
      await startEngine(() => {});
      const model = await loadModel(path, {
        dtype: storedType(dtype),
        ...(adapter === undefined ? {} : { adapter }),
        ...(server === undefined ? {} : { weights: false }),
      });
      const lines: Line<Prompt>[] = [];
      for await (const line of readJsonLines(Prompt, process.stdin)) lines.push(line);
      const requests = lines.map((line, i) => request(model, line, i, options));
      const maxLength = requests.reduce(
        (most, { promptIds, maxNewTokens }) => Math.max(most, promptIds.length + maxNewTokens!),
        1,
      );
      using generator = server === undefined
        ? new Generator(model, {
          slots: Math.min(slots, Math.max(1, lines.length)),
          maxLength,
          dtype,
        })
        : await RemoteGenerator.connect(server, { model: serverModel, tokenizer: model.tokenizer });
      await inOrder(lines, requests, generator);
    },
  );
}

interface Answering {
  generate(requests: readonly GenerationRequest[]): Promise<Generation[][]>;
}

/** Writes each answer as soon as it and those before it are there. */
async function inOrder(
  lines: readonly Line<Prompt>[],
  requests: readonly GenerationRequest[],
  generator: Answering,
): Promise<void> {
  // One call a line, so that each is done when it is done; the generator joins them.
  const answers = requests.map((request) => generator.generate([request]));
  // All are awaited below; one that fails early must not end the process before its turn.
  for (const answer of answers) answer.catch(() => {});
  for (const [i, { value }] of lines.entries()) {
    const { ids, text, logProbs } = (await answers[i]!)[0]![0]!;
    await writeJsonLine({ id: value.id, output_ids: ids, text, logprobs: logProbs });
  }
}

/** @throws UserError naming the line where the model cannot take it */
function request(
  model: Model,
  { number, value }: Line<Prompt>,
  index: number,
  settings: Settings,
): GenerationRequest {
  const promptIds = promptOf(model, value, number);
  checkTokenIds(promptIds, model.config.vocabSize, number);
  const { maxPositions } = model.config;
  if (promptIds.length === 0) {
    throw new UserError(`line ${number} of the input: the prompt has no tokens`);
  }
  const room = maxPositions - promptIds.length;
  if (room < 1) {
    throw new UserError(
      `line ${number} of the input: the prompt's ${promptIds.length} tokens leave no room in the ` +
        `model's ${maxPositions} positions: shorten it`,
    );
  }
  const maxNewTokens = settings.maxNewTokens ?? Math.min(256, room);
  if (maxNewTokens > room) {
    throw new UserError(
      `line ${number} of the input: ${promptIds.length} prompt tokens and ${maxNewTokens} new ` +
        `ones are more than the model's ${maxPositions} positions: lower --max-new-tokens`,
    );
  }
  const defaults = model.generationConfig.doSample === false ? {} : model.generationConfig;
  return {
    promptIds,
    seed: settings.seed + index,
    maxNewTokens,
    temperature: settings.greedy ? 0 : settings.temperature ?? defaults.temperature ?? 1,
    topK: settings.topK ?? defaults.topK ?? 0,
    topP: settings.topP ?? defaults.topP ?? 1,
    minP: settings.minP ?? 0,
    repetitionPenalty: settings.repetitionPenalty ?? 1,
    ...(settings.ignoreEos ? { stopIds: [] } : {}),
    ...(settings.stop === undefined ? {} : { stop: settings.stop }),
  };
}

/** Special tokens come with a prompt's text as its tokenizer adds them, never with ids or messages. */
function promptOf(model: Model, { input_ids, prompt, messages }: Prompt, line: number): number[] {
  if (input_ids !== undefined) return input_ids;
  const { tokenizer } = model;
  if (tokenizer === undefined) {
    throw new UserError(`line ${line} of the input: the model has no tokenizer: give input_ids`);
  }
  if (prompt !== undefined) return tokenizer.encode(prompt, { addSpecialTokens: true });
  try {
    const chat = messages as ChatMessage[];
    return tokenizer.encode(tokenizer.applyChatTemplate(chat, { addGenerationPrompt: true }));
  } catch (cause) {
    if (!(cause instanceof UserError)) throw cause;
    throw new UserError(`line ${line} of the input: ${cause.message}`, { cause });
  }
}
