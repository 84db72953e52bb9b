/**
 * Seeded order on the host: which trajectories are kept, in which order batches come. Every draw is a
 * function of a text seed alone (SplitMix64 started at the seed's SHA-256), so resuming needs no
 * generator state: the order of epoch 3 is made again from "seed/3".
 */
import { createHash } from "node:crypto";

const mask64 = (1n << 64n) - 1n;

/** A generator of numbers in [0, 1) with 32 random bits, the same for the same `seed` everywhere. */
export function uniforms(seed: string): () => number {
  let state = createHash("sha256").update(seed).digest().readBigUInt64LE(0);
  return () => {
    state = (state + 0x9e3779b97f4a7c15n) & mask64;
    let z = state;
    z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask64;
    z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask64;
    return Number((z ^ (z >> 31n)) >> 32n) / 2 ** 32;
  };
}

/** The items in a random order (Fisher and Yates). */
export function shuffled<T>(items: readonly T[], seed: string): T[] {
  const random = uniforms(seed);
  const out = [...items];
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [out[i], out[j]] = [out[j]!, out[i]!];
  }
  return out;
}
