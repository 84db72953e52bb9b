/**
 * From trajectories to arrays of fixed shapes: which ones share a batch, padded to which length, with
 * which masks and weights. Few lengths (buckets) mean few compilations; batches of similar lengths mean
 * little padding. All on the host, all determined by seed and epoch.
 */
import { UserError } from "../errors.ts";
import type { Layout } from "./packing.ts";
import type { Normalisation } from "./objectives/mod.ts";
import { shuffled } from "./shuffle.ts";
import {
  actionsOf,
  actionStarts,
  type Demonstration,
  lengthOf,
  type Trajectory,
} from "./trajectory.ts";

export const roundUp = (x: number, multiple: number) => Math.ceil(x / multiple) * multiple;

/**
 * At most `count` padded lengths, multiples of `multiple` (but for the last, never above `maxLength`),
 * that hold every length with the least padding.
 */
export function bucketLengths(
  lengths: readonly number[],
  { count = 4, multiple = 8, maxLength = Infinity }: {
    count?: number;
    multiple?: number;
    maxLength?: number;
  } = {},
): number[] {
  const longest = Math.max(...lengths);
  if (longest > maxLength) {
    throw new UserError(
      `a sequence has ${longest} tokens, more than the ${maxLength} that the model can see; ` +
        "sample with fewer new tokens or leave such sequences out",
    );
  }
  const rounded = lengths.map((l) => Math.min(maxLength, Math.ceil(l / multiple) * multiple));
  const candidates = [...new Set(rounded)].sort((a, b) => a - b);
  const counts = candidates.map((c) => rounded.filter((l) => l === c).length);
  // cost[j]: least padded tokens for the candidates up to j; one more bucket a round.
  const tokens = (from: number, to: number) =>
    counts.slice(from, to + 1).reduce((sum, n) => sum + n, 0) * candidates[to]!;
  let best = candidates.map((_, j) => ({ cost: tokens(0, j), ends: [j] }));
  for (let round = 1; round < count; round++) {
    best = candidates.map((_, j) => {
      let choice = best[j]!;
      for (let i = 0; i < j; i++) {
        const cost = best[i]!.cost + tokens(i + 1, j);
        if (cost < choice.cost) choice = { cost, ends: [...best[i]!.ends, j] };
      }
      return choice;
    });
  }
  return best.at(-1)!.ends.map((j) => candidates[j]!);
}

export interface PlanOptions {
  batchSize: number;
  seed: number;
  epoch: number;
  /**
   * Batches are cut from this many batches' worth of shuffled sequences sorted by length, then
   * shuffled themselves; 1 turns grouping by length off. Default 16.
   */
  window?: number;
}

/** The batches of an epoch as indices; each index once, the last batch may be short. */
export function planEpoch(lengths: readonly number[], options: PlanOptions): number[][] {
  const { batchSize, seed, epoch, window = 16 } = options;
  const order = shuffled([...lengths.keys()], `order/${seed}/${epoch}`);
  const batches: number[][] = [];
  let short: number[] | undefined;
  for (let start = 0; start < order.length; start += batchSize * window) {
    const group = order.slice(start, start + batchSize * window);
    if (window > 1) group.sort((a, b) => lengths[a]! - lengths[b]!);
    for (let i = 0; i < group.length; i += batchSize) {
      const batch = group.slice(i, i + batchSize);
      if (batch.length === batchSize) batches.push(batch);
      else short = batch;
    }
  }
  const mixed = window > 1 ? shuffled(batches, `batches/${seed}/${epoch}`) : batches;
  return short === undefined ? mixed : [...mixed, short];
}

/**
 * Arrays of one micro-batch: `rows` rows of `time` tokens, and `sequences` rows of `columns` columns in
 * the shifted form of the objectives. Sequences that stand for nothing have weight 0 everywhere. Without
 * a layout each sequence has a row of its own and starts at column 0; padding follows, so causal
 * attention needs no mask, and there are `time - 1` columns.
 */
export interface Batch {
  rows: number;
  time: number;
  sequences: number;
  columns: number;
  /** Tokens that are not padding. */
  tokens: number;
  /** int32 `[rows, time]`. */
  ids: Int32Array;
  /** Weights of action tokens, `[sequences, columns]`; the whole batch's sum to one. */
  actionWeights: Float32Array;
  /** Weights of states, the same way. */
  stateWeights: Float32Array;
  /** `[sequences]`. */
  rewards: Float32Array;
  /** log π_ref of the tokens, `[sequences, columns]`; zeros where the data have none. */
  refLogProbs: Float32Array;
  /** Share of the batch's sequences that stand here (1 but for micro-batches). */
  share: number;
  /** Where several sequences share a row. */
  layout?: Layout;
}

export interface CollateOptions {
  padId: number;
  buckets: readonly number[];
  normalisation?: Normalisation;
  /** That of the actions' weights; default `normalisation`. */
  actionNormalisation?: Normalisation | undefined;
  /** Where states are: before every action token, or before every step's first. Default token. */
  level?: "token" | "step";
  /** Sequences per micro-batch; default all. */
  microBatch?: number;
  /** Rows come in multiples of this, for devices that share them; default 1. */
  multiple?: number;
}

/** A trajectory, or a demonstration, which has no states. */
export type Item = Demonstration & Partial<Trajectory>;

/** Columns of the states and of the actions of an item, 0 that of its first token. */
export function columnsOf(item: Item, level: "token" | "step") {
  const offset = item.promptIds.length - 1;
  const actions = actionsOf(item).flatMap((action, i) => action === 1 ? [offset + i] : []);
  const starts = item.reward === undefined
    ? []
    : level === "token"
    ? actions
    : actionStarts(item as Trajectory, level).map((i) => offset + i);
  return { actions, starts };
}

/** The weight of each column of an item's actions and of its states, by item. */
export function weightsOf(
  columns: readonly { actions: number[]; starts: number[] }[],
  { normalisation: ofStates = "sequence", actionNormalisation = ofStates }: Pick<
    CollateOptions,
    "normalisation" | "actionNormalisation"
  > = {},
) {
  const weigh = (kind: "actions" | "starts", normalisation: Normalisation) => {
    const counts = columns.map((c) => c[kind].length);
    const total = counts.reduce((sum, n) => sum + n, 0);
    const rows = counts.filter((n) => n > 0).length;
    return counts.map((n) => normalisation === "token" ? 1 / total : 1 / (n * rows));
  };
  return { actions: weigh("actions", actionNormalisation), starts: weigh("starts", ofStates) };
}

/**
 * The arrays of a batch, cut into micro-batches that are padded each to the smallest bucket that holds
 * them. Weights are the whole batch's, so that adding the micro-batches' losses and gradients gives the
 * batch's whatever the cut.
 */
export function collate(items: readonly Item[], options: CollateOptions): Batch[] {
  const { padId, buckets, level = "token" } = options;
  const size = options.microBatch ?? items.length;
  const rows = roundUp(size, options.multiple ?? 1);
  const columns = items.map((item) => columnsOf(item, level));
  const weights = weightsOf(columns, options);
  const batches: Batch[] = [];
  for (let start = 0; start < items.length; start += size) {
    const part = items.slice(start, start + size);
    const longest = Math.max(...part.map(lengthOf));
    const time = buckets.find((length) => length >= longest);
    if (time === undefined) {
      throw new RangeError(`a sequence of ${longest} tokens fits none of the buckets ${buckets}`);
    }
    const batch: Batch = {
      rows,
      time,
      sequences: rows,
      columns: time - 1,
      tokens: part.reduce((sum, item) => sum + lengthOf(item), 0),
      ids: new Int32Array(rows * time).fill(padId),
      actionWeights: new Float32Array(rows * (time - 1)),
      stateWeights: new Float32Array(rows * (time - 1)),
      rewards: new Float32Array(rows),
      refLogProbs: new Float32Array(rows * (time - 1)),
      share: part.length / items.length,
    };
    for (const [row, item] of part.entries()) {
      const at = row * (time - 1);
      batch.ids.set(item.promptIds, row * time);
      batch.ids.set(item.responseIds, row * time + item.promptIds.length);
      for (const c of columns[start + row]!.actions) {
        batch.actionWeights[at + c] = weights.actions[start + row]!;
      }
      for (const c of columns[start + row]!.starts) {
        batch.stateWeights[at + c] = weights.starts[start + row]!;
      }
      batch.rewards[row] = item.reward ?? 0;
      if (item.refLogProbs !== undefined) {
        batch.refLogProbs.set(item.refLogProbs, at + item.promptIds.length - 1);
      }
    }
    batches.push(batch);
  }
  return batches;
}
