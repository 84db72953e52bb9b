/**
 * Text as its tokens come, one at a time. A token may end within a character, and what a token writes
 * may depend on the one before it, so each piece is the difference of two decodings that begin a little
 * earlier; what ends in a broken character waits for the next token.
 */
import type { Tokenizer } from "./tokenizer.ts";

const BROKEN = "\ufffd";

/**
 * Pieces of text whose sum is the decoding of all tokens. (One exception, shared by all streams of
 * byte-fallback tokenizers: bytes after a whole character that turn out to be invalid would, decoded at
 * once, break that character too.)
 */
export class TextStream {
  readonly #ids: number[] = [];
  /** Decoding begins here... */
  #from = 0;
  /** ...and up to here the text is given out. */
  #given = 0;

  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly options: { skipSpecialTokens?: boolean } = {},
  ) {}

  /** The text that this token makes certain; often its own, sometimes none or more. */
  push(id: number): string {
    this.#ids.push(id);
    const { piece, whole } = this.#next();
    if (!whole || piece === "") return "";
    this.#from = this.#given;
    this.#given = this.#ids.length;
    return piece;
  }

  /** What was held back, when no more tokens come. */
  end(): string {
    const { piece } = this.#next();
    this.#given = this.#ids.length;
    return piece;
  }

  #next(): { piece: string; whole: boolean } {
    const decode = (ids: number[]) => this.tokenizer.decode(ids, this.options);
    const before = decode(this.#ids.slice(this.#from, this.#given));
    const now = decode(this.#ids.slice(this.#from));
    return { piece: now.slice(before.length), whole: !now.endsWith(BROKEN) };
  }
}

/** Looks for strings in the text that tokens write, across their boundaries. */
export class StopWatch {
  readonly #stream: TextStream;
  readonly #reach: number;
  #tail = "";

  /** @param strings none of them empty */
  constructor(tokenizer: Tokenizer, private readonly strings: readonly string[]) {
    this.#stream = new TextStream(tokenizer, { skipSpecialTokens: true });
    this.#reach = Math.max(...strings.map((text) => text.length)) - 1;
  }

  /** Whether this token completes one of the strings. */
  completes(id: number): boolean {
    const text = this.#tail + this.#stream.push(id);
    this.#tail = this.#reach === 0 ? "" : text.slice(-this.#reach);
    return this.strings.some((stop) => text.includes(stop));
  }
}

/** Cuts text before the first stop string, holding back what may be the beginning of one. */
export class StopCutter {
  #held = "";
  /** A stop string was found; nothing comes after it. */
  stopped = false;

  constructor(private readonly strings: readonly string[]) {}

  push(piece: string): string {
    if (this.stopped) return "";
    const text = this.#held + piece;
    const found = this.strings.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
    if (found.length > 0) {
      this.stopped = true;
      this.#held = "";
      return text.slice(0, Math.min(...found));
    }
    let held = 0;
    for (const stop of this.strings) {
      for (let n = Math.min(stop.length - 1, text.length); n > held; n--) {
        if (text.endsWith(stop.slice(0, n))) held = n;
      }
    }
    this.#held = held === 0 ? "" : text.slice(-held);
    return text.slice(0, text.length - held);
  }

  /** What was held back, when no more text comes. */
  end(): string {
    const rest = this.#held;
    this.#held = "";
    return rest;
  }
}
