/**
 * What the preference baselines learn from: pairs of a right and a wrong solution of one query for DPO,
 * and, for KTO's reference point, prompts with responses to other queries.
 */
import { shuffled } from "./shuffle.ts";
import { lengthOf, type Trajectory } from "./trajectory.ts";

export interface PairOptions {
  /** At most this many pairs of a query; default 4, as many as balancing keeps of a kind. */
  maxPairs?: number;
  seed: number;
}

export interface Pair<T> {
  chosen: T;
  rejected: T;
}

/**
 * Per query up to `maxPairs` different pairs of a correct and a wrong trajectory, in which each takes
 * part about as often as the others. Queries without both give none.
 */
export function preferencePairs<T extends Pick<Trajectory, "query" | "reward">>(
  trajectories: readonly T[],
  { maxPairs = 4, seed }: PairOptions,
): Pair<T>[] {
  const pairs: Pair<T>[] = [];
  for (const [query, group] of Map.groupBy(trajectories, (t) => t.query)) {
    const order = shuffled(group, `pairs/${seed}/${query}`);
    const correct = order.filter((t) => t.reward === 1);
    const wrong = order.filter((t) => t.reward === 0);
    const all = correct.length * wrong.length;
    // Along diagonals; each turn of least common multiple length begins one further on.
    const turn = all / Math.max(1, greatestCommonDivisor(correct.length, wrong.length));
    for (let k = 0; k < Math.min(maxPairs, all); k++) {
      pairs.push({
        chosen: correct[k % correct.length]!,
        rejected: wrong[(k + Math.floor(k / turn)) % wrong.length]!,
      });
    }
  }
  return pairs;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/**
 * For each trajectory its prompt with the response to another query (to the same where there is no
 * other), cut at `maxLength` tokens. What policy and reference say of them estimates KTO's reference
 * point.
 */
export function mismatched(
  trajectories: readonly Trajectory[],
  { seed, maxLength }: { seed: number; maxLength: number },
): Trajectory[] {
  const order = shuffled([...trajectories.keys()], `mismatched/${seed}`);
  const out: Trajectory[] = [];
  for (const [at, i] of order.entries()) {
    const own = trajectories[i]!;
    const others = order.length;
    let other = trajectories[order[(at + 1) % others]!]!;
    for (let k = 1; k < others && other.query === own.query; k++) {
      other = trajectories[order[(at + k) % others]!]!;
    }
    const room = Math.max(1, maxLength - own.promptIds.length);
    const { refLogProbs: _r, sampleLogProbs: _s, actionMask, ...rest } = other;
    out[i] = {
      ...rest,
      query: own.query,
      prompt: own.prompt,
      promptIds: own.promptIds,
      responseIds: other.responseIds.slice(0, room),
      ...(actionMask === undefined ? {} : { actionMask: actionMask.slice(0, room) }),
      stepEnds: [],
    };
  }
  return out;
}

/** The longer of two. */
export function longer(a: Trajectory, b: Trajectory): number {
  return Math.max(lengthOf(a), lengthOf(b));
}
