/** One choice of an OpenAI-compatible answer, put together from tokens as they come. */
import type { GenerationUpdate } from "./requests.ts";
import { StopCutter, TextStream } from "./text_stream.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** How answers to a request look. */
export interface Shape {
  readonly kind: "text_completion" | "chat.completion";
  readonly model: string;
  readonly logProbs: boolean;
  readonly tokenIds: boolean;
  /** Stop strings that the text ends before. */
  readonly cut: readonly string[];
}

interface Piece {
  readonly text: string;
  readonly ids: readonly number[];
  readonly logProbs: readonly number[];
  readonly finish?: "stop" | "length";
}

export class Choice {
  readonly #stream: TextStream;
  readonly #cutter: StopCutter;
  readonly #ids: number[] = [];
  readonly #logProbs: number[] = [];
  #text = "";
  #finish: "stop" | "length" | undefined;

  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly shape: Shape,
    private readonly index: number,
  ) {
    this.#stream = new TextStream(tokenizer, { skipSpecialTokens: true });
    this.#cutter = new StopCutter(shape.cut);
  }

  get tokens(): number {
    return this.#ids.length;
  }

  /** Takes new tokens; what a stream says about them, where it is worth an event. */
  push({ ids, logProbs, finish }: GenerationUpdate): object | undefined {
    const offset = this.#text.length;
    let text = "";
    for (const id of ids) text += this.#cutter.push(this.#stream.push(id));
    if (finish !== undefined) {
      text += this.#cutter.push(this.#stream.end());
      text += this.#cutter.end();
      this.#finish = finish;
    }
    this.#text += text;
    this.#ids.push(...ids);
    this.#logProbs.push(...logProbs);
    const quiet = text === "" && finish === undefined;
    if (quiet && !this.shape.logProbs && !this.shape.tokenIds) return undefined;
    const piece = { text, ids, logProbs, ...(finish === undefined ? {} : { finish }) };
    return this.shape.kind === "chat.completion"
      ? { ...this.#common(piece, offset), delta: { content: text } }
      : { ...this.#common(piece, offset), text };
  }

  /** The first event of a streamed chat. */
  opening(): object {
    const delta = { role: "assistant", content: "" };
    return { index: this.index, delta, logprobs: null, finish_reason: null };
  }

  /** The choice of an answer that is not streamed. */
  whole(): object {
    const piece = {
      text: this.#text,
      ids: this.#ids,
      logProbs: this.#logProbs,
      ...(this.#finish === undefined ? {} : { finish: this.#finish }),
    };
    return this.shape.kind === "chat.completion"
      ? {
        ...this.#common(piece, 0),
        message: { role: "assistant", content: this.#text, refusal: null },
      }
      : { ...this.#common(piece, 0), text: this.#text };
  }

  #common({ ids, logProbs, finish }: Piece, offset: number) {
    return {
      index: this.index,
      logprobs: this.shape.logProbs ? this.#logprobs(ids, logProbs, offset) : null,
      finish_reason: finish ?? null,
      ...(this.shape.tokenIds ? { token_ids: ids } : {}),
    };
  }

  #logprobs(ids: readonly number[], logProbs: readonly number[], offset: number): object {
    const tokens = ids.map((id) => this.tokenizer.decode([id]));
    if (this.shape.kind === "chat.completion") {
      const content = tokens.map((token, i) => ({
        token,
        logprob: logProbs[i]!,
        // A part of a character has no text of its own to give the bytes of.
        bytes: token.includes("\ufffd") ? null : [...new TextEncoder().encode(token)],
        top_logprobs: [],
      }));
      return { content, refusal: null };
    }
    let at = offset;
    const offsets = tokens.map((token) => {
      const start = at;
      at += token.length;
      return start;
    });
    return { tokens, token_logprobs: logProbs, top_logprobs: null, text_offset: offsets };
  }
}
