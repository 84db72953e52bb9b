/**
 * A conversation as one sequence of tokens: the prompt, then turns of the model, which are actions, and
 * what it was told in between, which is state. What the model wrote is kept as the tokens that it
 * chose, never encoded again.
 */
import { UserError } from "../errors.ts";
import { type ChatMessage, plainText } from "../tasks/mod.ts";
import type { LanguageModel } from "./language_model.ts";

/** A text that no message contains, to see what a chat template writes around a turn. */
const mark = "\u241f turn \u241f";

/** How messages become tokens: through the model's chat template, or plainly, a message a line. */
export class Wording {
  /** What a chat template has after a turn, by the answer that follows. */
  readonly #after = new Map<string, string>();

  constructor(
    readonly model: Pick<LanguageModel, "tokenizer" | "config" | "generationConfig">,
    readonly chat: boolean,
  ) {}

  /** Tokens that end a turn. */
  get endIds(): number[] {
    const { tokenizer, config, generationConfig } = this.model;
    const ids = [tokenizer.eosId, ...config.eosTokenIds, ...(generationConfig.eosTokenIds ?? [])];
    return [...new Set(ids)];
  }

  /** The prompt: what stands before the model's first turn. */
  prompt(messages: readonly ChatMessage[]): { text: string; ids: number[] } {
    const { tokenizer } = this.model;
    if (!this.chat) {
      const text = plainText(messages);
      return { text, ids: tokenizer.encode(text, { addSpecialTokens: true }) };
    }
    const text = tokenizer.applyChatTemplate(copied(messages), { addGenerationPrompt: true });
    return { text, ids: tokenizer.encode(text) };
  }

  /** The tokens of a turn that was written by someone else, its end included. */
  turn(text: string): number[] {
    return [...this.model.tokenizer.encode(text), this.model.tokenizer.eosId];
  }

  /**
   * What comes between a turn that ended with the token `last` and the next one: its ending, where the
   * template has one that the model did not write, and the answer.
   * @returns `keepsEnd`: whether the template has the end token that the model wrote
   */
  answer(text: string, last: number): { ids: number[]; keepsEnd: boolean } {
    const { tokenizer } = this.model;
    if (!this.chat) return { ids: tokenizer.encode(`\n${text}\n`), keepsEnd: true };
    const ended = this.endIds.includes(last);
    const after = this.#templated(text);
    const end = tokenizer.decode([last]);
    const keepsEnd = ended && after.startsWith(end);
    return { ids: tokenizer.encode(keepsEnd ? after.slice(end.length) : after), keepsEnd };
  }

  #templated(answer: string): string {
    const known = this.#after.get(answer);
    if (known !== undefined) return known;
    const messages = [
      { role: "user", content: "-" },
      { role: "assistant", content: mark },
      { role: "user", content: answer },
    ];
    const text = this.model.tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true });
    const at = text.indexOf(mark);
    if (at < 0) throw new UserError("the model's chat template leaves out what the assistant said");
    const after = text.slice(at + mark.length);
    if (this.#after.size > 10_000) this.#after.clear();
    this.#after.set(answer, after);
    return after;
  }
}

const copied = (messages: readonly ChatMessage[]) => messages.map((each) => ({ ...each }));

/** A turn as it was generated. */
interface WrittenTurn {
  readonly ids: readonly number[];
  readonly logProbs?: readonly number[];
}

export class Transcript {
  readonly prompt: { readonly text: string; readonly ids: readonly number[] };
  /** All that followed the prompt. */
  readonly responseIds: number[] = [];
  /** 1 at the model's own tokens. */
  readonly actionMask: (0 | 1)[] = [];
  /** log π of the model's own tokens, 0 elsewhere. */
  readonly logProbs: number[] = [];
  /** Indices of the last token of each turn. */
  readonly stepEnds: number[] = [];
  /** Where in the response each turn begins. */
  readonly #turnStarts: number[] = [];

  constructor(readonly wording: Wording, messages: readonly ChatMessage[]) {
    this.prompt = wording.prompt(messages);
  }

  /** The number of the model's turns. */
  get turns(): number {
    return this.#turnStarts.length;
  }

  addTurn({ ids, logProbs }: WrittenTurn): void {
    this.#turnStarts.push(this.responseIds.length);
    this.#add(ids, 1, logProbs);
    this.stepEnds.push(this.responseIds.length - 1);
  }

  /** What the model is told after a turn. */
  addAnswer(text: string): void {
    const { ids, keepsEnd } = this.wording.answer(text, this.responseIds.at(-1)!);
    if (!keepsEnd && this.wording.endIds.includes(this.responseIds.at(-1)!)) this.#dropEnd();
    this.#add(ids, 0);
  }

  #add(ids: readonly number[], action: 0 | 1, logProbs?: readonly number[]): void {
    for (const [i, id] of ids.entries()) {
      this.responseIds.push(id);
      this.actionMask.push(action);
      this.logProbs.push(logProbs?.[i] ?? 0);
    }
  }

  /** Takes back an end token that the template does not have: the model never sees one there. */
  #dropEnd(): void {
    if (this.responseIds.length - 1 === this.#turnStarts.at(-1)) return;
    this.responseIds.pop();
    this.actionMask.pop();
    this.logProbs.pop();
    this.stepEnds[this.stepEnds.length - 1]!--;
  }

  /**
   * What the model sees before its next turn: all, or, where that leaves no room for `room` tokens, the
   * prompt and as many of the latest turns as fit into `window`.
   * @returns undefined where not even the prompt leaves room
   */
  context(window: number, room: number): number[] | undefined {
    const most = window - room - this.prompt.ids.length;
    if (most < 0) return undefined;
    if (this.responseIds.length <= most) return [...this.prompt.ids, ...this.responseIds];
    const from = this.#turnStarts.find((start) => this.responseIds.length - start <= most) ??
      this.responseIds.length;
    return [...this.prompt.ids, ...this.responseIds.slice(from)];
  }

  /**
   * The response as training takes it: whole turns, as many from the start as the model sees at once.
   * @returns undefined where not even the first turn fits
   */
  trained(window: number) {
    const most = window - this.prompt.ids.length;
    const ends = this.stepEnds.filter((end) => end < most);
    if (ends.length === 0) return undefined;
    const length = ends.at(-1)! + 1;
    return {
      promptIds: [...this.prompt.ids],
      responseIds: this.responseIds.slice(0, length),
      actionMask: this.actionMask.slice(0, length),
      logProbs: this.logProbs.slice(0, length),
      stepEnds: ends,
    };
  }
}

/** A worked conversation as one sequence. */
export function transcribe(
  wording: Wording,
  messages: readonly ChatMessage[],
  given: number,
): Transcript {
  const transcript = new Transcript(wording, messages.slice(0, given));
  for (const { role, content } of messages.slice(given)) {
    if (role === "assistant") transcript.addTurn({ ids: wording.turn(content) });
    else if (transcript.turns > 0) transcript.addAnswer(content);
  }
  return transcript;
}
