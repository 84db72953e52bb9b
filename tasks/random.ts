/**
 * A small seeded generator for making problems: xoshiro128** by Blackman and Vigna, its state filled
 * from a text seed by SHA-256. The same seed gives the same problems on every machine and release.
 */
import { createHash } from "node:crypto";

export class Random {
  readonly #state: Uint32Array;

  /** @param state four 32-bit words, not all zero */
  constructor(state: Uint32Array) {
    this.#state = Uint32Array.from(state);
  }

  /** A generator for `seed`, e.g. `"arithmetic/7/train"`: different texts are unrelated streams. */
  static from(seed: string): Random {
    const digest = createHash("sha256").update(seed).digest();
    return new Random(Uint32Array.from([0, 4, 8, 12], (at) => digest.readUInt32LE(at)));
  }

  /** The next 32 bits. */
  next(): number {
    const s = this.#state;
    const scrambled = Math.imul(rotateLeft(Math.imul(s[1]!, 5), 7), 9) >>> 0;
    const shifted = s[1]! << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= shifted;
    s[3] = rotateLeft(s[3]!, 11);
    return scrambled;
  }

  /** A number in [0, 1). */
  uniform(): number {
    return this.next() / 2 ** 32;
  }

  /** A whole number in [low, high], both ends included, without bias. */
  integer(low: number, high: number): number {
    const range = high - low + 1;
    const limit = 2 ** 32 - (2 ** 32 % range);
    let bits = this.next();
    while (bits >= limit) bits = this.next();
    return low + (bits % range);
  }

  pick<T>(items: readonly T[]): T {
    return items[this.integer(0, items.length - 1)]!;
  }

  /** `count` different items in random order. */
  sample<T>(items: readonly T[], count: number): T[] {
    const rest = [...items];
    return Array.from(
      { length: count },
      () => rest.splice(this.integer(0, rest.length - 1), 1)[0]!,
    );
  }
}

function rotateLeft(word: number, bits: number): number {
  return ((word << bits) | (word >>> (32 - bits))) >>> 0;
}

/** A number in [0, 1) that depends on `text` alone, e.g. to deal problems to splits. */
export function fractionOf(text: string): number {
  return createHash("sha256").update(text).digest().readUInt32LE(0) / 2 ** 32;
}
