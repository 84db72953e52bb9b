/**
 * Text to token ids and back, by a Hugging Face `tokenizer.json`, with the chat template that comes
 * beside it. The files as read are kept and saved again unchanged, so other programs load the same
 * tokenizer. Encoding adds no special tokens unless asked; special tokens written in the text are
 * recognised, as Hugging Face does.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { z } from "zod";
import { UserError } from "../errors.ts";
import { ChatTemplate } from "./chat_template.ts";
import { decodeBytesExactly, splitExactly } from "./tokenizer_repairs.ts";

/** One message of a conversation; other fields (tool calls...) reach the template as they are. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string;
  readonly [field: string]: unknown;
}

export interface ChatTemplateOptions {
  /** End with the header of the assistant's turn, so that the model answers. Default false. */
  readonly addGenerationPrompt?: boolean;
  /** Further variables of the template, e.g. `tools` or `enable_thinking`. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

const specialToken = z.union([z.string(), z.looseObject({ content: z.string() })]).nullish()
  .transform((token) => typeof token === "object" ? token?.content : token);

const tokenizerConfig = z.looseObject({
  bos_token: specialToken,
  eos_token: specialToken,
  pad_token: specialToken,
  unk_token: specialToken,
  chat_template: z.union([
    z.string(),
    z.array(z.looseObject({ name: z.string(), template: z.string() })),
  ]).nullish(),
});
type TokenizerConfig = z.infer<typeof tokenizerConfig>;

const tokenizerFile = z.looseObject({
  model: z.looseObject({
    type: z.enum(["BPE", "Unigram", "WordPiece"]).optional(),
    vocab: z.union([z.record(z.string(), z.number().int().nonnegative()), z.array(z.unknown())]),
  }),
  added_tokens: z.array(
    z.looseObject({ id: z.number().int().nonnegative(), content: z.string() }),
  ).default([]),
});

/** Twice what the largest in use have; each takes several times its size once it is loaded. */
const MOST_ENTRIES = 2 ** 20;

/** The texts of a tokenizer's files, by file name. */
export type TokenizerFiles = Readonly<Record<string, string>>;

const fileNames = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] as const;

export class Tokenizer {
  readonly #inner: HuggingFaceTokenizer;
  readonly #config: TokenizerConfig;
  readonly #added: ReadonlyMap<string, number>;
  readonly #specialIds: ReadonlySet<number>;
  readonly #characters: CharacterTable | undefined;
  #template: ChatTemplate | undefined;

  /** Ids below this exist; a model's embedding may be larger (padded). */
  readonly vocabSize: number;
  readonly files: TokenizerFiles;

  /**
   * @param files texts by file name: `tokenizer.json`, and where there are any
   *   `tokenizer_config.json` and `chat_template.jinja`.
   * @throws UserError where a file is malformed.
   */
  constructor(files: TokenizerFiles, source = "the tokenizer") {
    this.files = files;
    const json = parseJson(files["tokenizer.json"], `${source}: tokenizer.json`);
    const configText = files["tokenizer_config.json"] ?? "{}";
    const config = parseJson(configText, `${source}: tokenizer_config.json`);
    const parsed = checked(tokenizerFile, json, `${source}: tokenizer.json`);
    this.#config = checked(tokenizerConfig, config, `${source}: tokenizer_config.json`);
    const { vocab, merges } = parsed.model;
    for (const [name, list] of Object.entries({ vocab, merges, added: parsed.added_tokens })) {
      const entries = Array.isArray(list) ? list.length : Object.keys(list ?? {}).length;
      if (entries <= MOST_ENTRIES) continue;
      throw new UserError(
        `${source}: tokenizer.json: ${name} has ${entries} entries, expected at most ${MOST_ENTRIES}`,
      );
    }
    try {
      this.#inner = new HuggingFaceTokenizer(json as object, config as object);
    } catch (cause) {
      throw new UserError(`${source}: tokenizer.json: ${(cause as Error).message}`, { cause });
    }
    decodeBytesExactly(this.#inner.decoder);
    splitExactly(this.#inner.pre_tokenizer);
    this.#added = new Map(parsed.added_tokens.map((token) => [token.content, token.id]));
    this.#specialIds = new Set(
      parsed.added_tokens.filter((token) => token.special === true).map((token) => token.id),
    );
    const ids = Array.isArray(parsed.model.vocab)
      ? [parsed.model.vocab.length - 1]
      : Object.values(parsed.model.vocab);
    let top = -1;
    for (const id of [...ids, ...this.#added.values()]) top = Math.max(top, id);
    this.vocabSize = top + 1;
    // Real vocabularies have few gaps; an id out of all proportion would be taken for a size.
    if (top > 2 * (ids.length + this.#added.size) + 10_000) {
      throw new UserError(
        `${source}: tokenizer.json: token id ${top} is out of proportion to its ${ids.length} tokens`,
      );
    }
    this.#characters = CharacterTable.from(json, this.#added);
  }

  /** Reads the tokenizer of a model folder. */
  static async load(folder: string): Promise<Tokenizer> {
    const files: Record<string, string> = {};
    for (const name of fileNames) {
      const path = join(folder, name);
      if (existsSync(path)) files[name] = await readFile(path, "utf8");
    }
    if (files["tokenizer.json"] === undefined) {
      throw new UserError(`${folder} holds no tokenizer.json`);
    }
    return new Tokenizer(files, folder);
  }

  /** Writes the files into `folder` as they were read. */
  async save(folder: string): Promise<void> {
    await mkdir(folder, { recursive: true });
    for (const [name, text] of Object.entries(this.files)) {
      await writeFile(join(folder, name), text);
    }
  }

  /** Token ids of a text; `addSpecialTokens` lets the post-processor add e.g. a first token. */
  encode(text: string, options: { addSpecialTokens?: boolean } = {}): number[] {
    if (text === "" && !options.addSpecialTokens) return [];
    const own = this.#characters?.encode(text);
    if (own !== undefined) return own;
    const { ids } = this.#trying(
      "encode",
      text,
      () => this.#inner.encode(text, { add_special_tokens: options.addSpecialTokens ?? false }),
    );
    const missing = ids.indexOf(undefined as unknown as number);
    if (missing >= 0) {
      throw new UserError(
        `cannot encode ${
          JSON.stringify(text.slice(0, 60))
        }: the tokenizer has no token for part of it`,
      );
    }
    return ids;
  }

  /** The text of token ids; ids beyond the vocabulary are refused. */
  decode(ids: readonly number[], options: { skipSpecialTokens?: boolean } = {}): string {
    for (const id of ids) {
      if (!(id >= 0 && id < this.vocabSize)) {
        throw new UserError(`cannot decode token ${id}: the vocabulary has ${this.vocabSize}`);
      }
    }
    const kept = options.skipSpecialTokens
      ? ids.filter((id) => !this.#specialIds.has(id))
      : [...ids];
    if (kept.length === 0) return "";
    return this.#characters?.decode(kept) ??
      this.#trying(
        "decode",
        kept,
        () => this.#inner.decode(kept, { clean_up_tokenization_spaces: false }),
      );
  }

  /** What a malformed file may break only when it is used is an error of the file all the same. */
  #trying<T>(action: string, value: unknown, body: () => T): T {
    try {
      return body();
    } catch (cause) {
      const shown = JSON.stringify(value).slice(0, 60);
      throw new UserError(
        `cannot ${action} ${shown}: the tokenizer fails with '${(cause as Error).message}'`,
        { cause },
      );
    }
  }

  /** The id of a token by its exact text, e.g. `<|im_end|>`. */
  idOf(token: string): number | undefined {
    return this.#added.get(token) ?? this.#inner.token_to_id(token);
  }

  /** The tokens that write `part` by themselves: it lies in their text, or it is a special token. */
  idsContaining(part: string): number[] {
    const ids: number[] = [];
    for (let id = 0; id < this.vocabSize; id++) {
      const text = this.decode([id]);
      if (this.isSpecial(id) ? text === part : text.includes(part)) ids.push(id);
    }
    return ids;
  }

  isSpecial(id: number): boolean {
    return this.#specialIds.has(id);
  }

  /** The end-of-sequence token. @throws UserError where the tokenizer names none. */
  get eosId(): number {
    const token = this.#config.eos_token ?? undefined;
    const id = token === undefined ? undefined : this.idOf(token);
    if (id === undefined) {
      throw new UserError("the tokenizer names no end token (eos_token in tokenizer_config.json)");
    }
    return id;
  }

  get bosId(): number | undefined {
    const token = this.#config.bos_token ?? undefined;
    return token === undefined ? undefined : this.idOf(token);
  }

  /** The padding token, or the end token where there is none. */
  get padId(): number {
    const token = this.#config.pad_token ?? undefined;
    const id = token === undefined ? undefined : this.idOf(token);
    return id ?? this.eosId;
  }

  /** The Jinja source of the chat template, where the tokenizer has one. */
  get chatTemplate(): string | undefined {
    const file = this.files["chat_template.jinja"];
    if (file !== undefined) return file;
    const field = this.#config.chat_template;
    if (Array.isArray(field)) {
      return (field.find((entry) => entry.name === "default") ?? field[0])?.template;
    }
    return field ?? undefined;
  }

  /**
   * The conversation as one text, ready for {@link encode}.
   * @throws UserError where there is no template or it rejects the messages.
   */
  applyChatTemplate(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): string {
    const source = this.chatTemplate;
    if (source === undefined) {
      throw new UserError("the tokenizer has no chat template: give the prompt as text instead");
    }
    const { bos_token, eos_token, pad_token, unk_token } = this.#config;
    const named = Object.entries({ bos_token, eos_token, pad_token, unk_token })
      .filter(([, token]) => token !== undefined && token !== null);
    try {
      this.#template ??= new ChatTemplate(source);
      return this.#template.render({
        ...Object.fromEntries(named),
        messages,
        add_generation_prompt: options.addGenerationPrompt ?? false,
        ...options.variables,
      });
    } catch (cause) {
      throw new UserError(`the chat template failed: ${(cause as Error).message}`, { cause });
    }
  }
}

function parseJson(text: string | undefined, source: string): unknown {
  if (text === undefined) throw new UserError(`${source} is missing`);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UserError(`${source} is not JSON: ${(cause as Error).message}`, { cause });
  }
}

function checked<T extends z.ZodType>(type: T, value: unknown, source: string): z.infer<T> {
  const parsed = type.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new UserError(`${source}: ${issue.path.join(".") || "the file"}: ${issue.message}`);
}

/**
 * Encoding and decoding of character-level tokenizers without the general machinery, which matters
 * where tens of thousands of short texts go through. Ids are those the general machinery gives.
 */
class CharacterTable {
  private constructor(
    private readonly idOf: ReadonlyMap<string, number>,
    private readonly textOf: readonly string[],
    private readonly added: readonly string[],
  ) {}

  /** The table where `json` is a tokenizer as `charTokenizer` writes it, else undefined. */
  static from(json: unknown, added: ReadonlyMap<string, number>): CharacterTable | undefined {
    const shape = z.object({
      normalizer: z.null(),
      post_processor: z.null(),
      pre_tokenizer: z.object({
        type: z.literal("Split"),
        pattern: z.object({ Regex: z.literal(ANY_CHARACTER) }),
      }),
      decoder: z.object({ type: z.literal("Fuse") }),
      model: z.object({
        type: z.literal("BPE"),
        merges: z.array(z.never()),
        vocab: z.record(z.string(), z.number()),
      }),
    }).safeParse(json);
    if (!shape.success) return undefined;
    const idOf = new Map<string, number>();
    const textOf: string[] = [];
    for (const [text, id] of Object.entries(shape.data.model.vocab)) {
      textOf[id] = text;
      if (!added.has(text)) idOf.set(text, id);
    }
    for (const [text, id] of added) textOf[id] = text;
    return new CharacterTable(idOf, textOf, [...added.keys()]);
  }

  /** Undefined where the text holds an added token, which the general machinery finds. */
  encode(text: string): number[] | undefined {
    if (this.added.some((token) => text.includes(token))) return undefined;
    const ids: number[] = [];
    for (const character of text) {
      const id = this.idOf.get(character);
      if (id === undefined) {
        throw new UserError(
          `cannot encode ${JSON.stringify(text.slice(0, 60))}: ` +
            `the alphabet has no ${JSON.stringify(character)}`,
        );
      }
      ids.push(id);
    }
    return ids;
  }

  decode(ids: readonly number[]): string {
    let text = "";
    for (const id of ids) text += this.textOf[id] ?? "";
    return text;
  }
}

/** What a character tokenizer splits texts by. */
export const ANY_CHARACTER = "[\\s\\S]";
