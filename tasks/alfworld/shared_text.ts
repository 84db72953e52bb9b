/**
 * Texts that many games have in common (names, commands), kept once: with thousands of games held at a
 * time they would take as much as all else. A world has some ten thousand of them; they are never
 * forgotten, up to a bound.
 */

/** A guard for programs that see worlds without end: texts beyond it belong to their games. */
const mostTexts = 500_000;

const texts: string[] = [];
const numbers = new Map<string, number>();

/** The text's number, the same for all games; undefined where there are too many texts. */
function numberOf(text: string): number | undefined {
  const known = numbers.get(text);
  if (known !== undefined || texts.length >= mostTexts) return known;
  numbers.set(text, texts.length);
  return texts.push(text) - 1;
}

/** The copy of the text that all games share. One that was cut from a longer text keeps that alive. */
export function sharedText(text: string): string {
  const number = numberOf(text);
  return number === undefined ? text : texts[number]!;
}

/** A list of shared texts, four bytes each. */
export class TextList {
  readonly length: number;
  /** Numbers of the texts, or the texts themselves where they cannot be shared. */
  readonly #items: Uint32Array | readonly string[];

  constructor(items: readonly string[]) {
    this.length = items.length;
    const shared = items.map(numberOf);
    this.#items = shared.includes(undefined) ? items : Uint32Array.from(shared as number[]);
  }

  /** The text at a place from 0 up to `length`, which is excluded. */
  at(place: number): string {
    const item = this.#items[place]!;
    return typeof item === "string" ? item : texts[item]!;
  }
}
