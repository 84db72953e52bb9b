/**
 * What a result is compared with: decoding with search against the same policy's greedy decoding,
 * everything else against the starting policy (the lowest iteration's first method, SFT in the
 * workflows here) under the same decoding.
 */
import { type MethodResult, methodTitle, ordered } from "./data.ts";
import { wilson } from "./statistics.ts";

export interface Comparison {
  /** What it is compared with, for people: `SFT`, `greedy`. */
  against: string;
  /** Accuracy minus the other's accuracy, as a share: 0.1 is ten percentage points. */
  difference: number;
  /** True when the two 95 % intervals do not touch. */
  apart: boolean;
}

/** Undefined where there is nothing to compare with: the baseline itself, or a missing counterpart. */
export function compareResults(
  result: MethodResult,
  all: readonly MethodResult[],
): Comparison | undefined {
  if (result.n === 0) return undefined;
  const baseline = ordered(all)[0];
  const searched = result.decoding === "beam" || result.decoding === "best_of";
  const other = searched
    ? all.find((m) =>
      m.name === result.name && m.iteration === result.iteration && m.decoding === "greedy"
    )
    : all.find((m) =>
      m.name === baseline?.name && m.iteration === baseline.iteration &&
      m.decoding === result.decoding
    );
  if (other === undefined || other === result || other.n === 0) return undefined;
  const a = wilson(result.correct, result.n);
  const b = wilson(other.correct, other.n);
  return {
    against: searched ? "greedy" : methodTitle(other.name),
    difference: a.accuracy - b.accuracy,
    apart: a.low > b.high || a.high < b.low,
  };
}
