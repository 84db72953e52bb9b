/** How strongly an adapter acts on each module; data of a model's configuration, without tensors. */

export interface LoraScaling {
  readonly rank: number;
  readonly alpha: number;
  /** alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski 2023). */
  readonly rankStabilised: boolean;
  /** Other ranks and alphas of the modules whose names end in one of these patterns; the first decides. */
  readonly ranks: Readonly<Record<string, number>>;
  readonly alphas: Readonly<Record<string, number>>;
}

/** The rank of a module's adapter and the factor of its product. */
export function loraScale(lora: LoraScaling, module: string): { rank: number; scale: number } {
  const rank = matching(lora.ranks, module) ?? lora.rank;
  const alpha = matching(lora.alphas, module) ?? lora.alpha;
  return { rank, scale: alpha / (lora.rankStabilised ? Math.sqrt(rank) : rank) };
}

/** PEFT's patterns: regular expressions for the end of a module's name, at a dot or the whole. */
function matching(patterns: Readonly<Record<string, number>>, module: string): number | undefined {
  for (const [pattern, value] of Object.entries(patterns)) {
    if (patternRegExp(pattern)?.test(module)) return value;
  }
  return undefined;
}

/** What means the same here as in Python, and repeats nothing that itself may repeat. */
const understood = /^(?:\\[.dw]|\[\^?[\w.-]+\]|\((?:\?:)?|\)(?![*+?])|[\w.|^$-]|[*+?])*$/;

/** Each repetition multiplies the time by the name's length. */
const MOST_REPETITIONS = 3;

/** The expression as PEFT applies it; undefined where it is outside of what is understood. */
export function patternRegExp(pattern: string): RegExp | undefined {
  // A file must not bring an expression that takes for ever.
  const repetitions = pattern.replaceAll("(?:", "(").match(/[*+?]/g)?.length ?? 0;
  if (!understood.test(pattern) || repetitions > MOST_REPETITIONS) return undefined;
  try {
    return new RegExp(`^(.*\\.)?(${pattern})$`);
  } catch {
    return undefined;
  }
}
