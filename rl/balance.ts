/**
 * Which trajectories are learned from: duplicates go, and each query keeps a bounded number of correct
 * and wrong ones, so that easy queries do not drown the hard ones.
 */
import { shuffled } from "./shuffle.ts";
import type { Trajectory } from "./trajectory.ts";

export interface BalanceOptions {
  /** At most this many correct trajectories of a query; default 4 (the paper's, 7B). */
  maxCorrect?: number;
  /** At most this many wrong ones; default 4. */
  maxWrong?: number;
  /** Chooses which are kept. */
  seed: number;
}

type Graded = Pick<Trajectory, "query" | "reward">;

/**
 * Per query: at most `maxWrong` wrong and `maxCorrect` correct, no more correct than wrong, but at
 * least one correct where there is any. Order is kept.
 */
export function balance<T extends Graded>(
  trajectories: readonly T[],
  options: BalanceOptions,
): T[] {
  const { maxCorrect = 4, maxWrong = 4, seed } = options;
  const kept = new Set<number>();
  for (const [query, indices] of Map.groupBy(trajectories.keys(), (i) => trajectories[i]!.query)) {
    const order = shuffled(indices, `balance/${seed}/${query}`);
    const correct = order.filter((i) => trajectories[i]!.reward === 1);
    const wrong = order.filter((i) => trajectories[i]!.reward === 0).slice(0, maxWrong);
    for (const i of wrong) kept.add(i);
    for (const i of correct.slice(0, Math.min(maxCorrect, Math.max(1, wrong.length)))) kept.add(i);
  }
  return trajectories.filter((_, i) => kept.has(i));
}

/** The first of every group of trajectories with the same query and the same response tokens. */
export function deduplicate<T extends Pick<Trajectory, "query" | "responseIds">>(
  trajectories: readonly T[],
): T[] {
  const seen = new Set<string>();
  return trajectories.filter(({ query, responseIds }) => {
    const key = `${responseIds.join(" ")} ${query}`;
    return !seen.has(key) && seen.add(key);
  });
}

export interface BalanceStatistics {
  queries: number;
  trajectories: number;
  correct: number;
  wrong: number;
  /** Queries with no correct trajectory. */
  unsolved: number;
  /** Queries with no wrong one. */
  mastered: number;
}

/** Counts to log before and after balancing. */
export function statistics(trajectories: readonly Graded[]): BalanceStatistics {
  const groups = [...Map.groupBy(trajectories, (t) => t.query).values()];
  const correct = trajectories.filter((t) => t.reward === 1).length;
  return {
    queries: groups.length,
    trajectories: trajectories.length,
    correct,
    wrong: trajectories.length - correct,
    unsolved: groups.filter((group) => group.every((t) => t.reward === 0)).length,
    mastered: groups.filter((group) => group.every((t) => t.reward === 1)).length,
  };
}
