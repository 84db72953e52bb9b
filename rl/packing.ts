/**
 * Several sequences side by side in one row of tokens, none seeing another, in place of a row of padding
 * each. Tokens lie packed where the model computes; what objectives read stays one row a sequence, from
 * the last prompt token on, and only tokens that are actions get a distribution over the vocabulary. The
 * gradient is that of padded rows. All on the host, all determined by the items.
 */
import {
  type Batch,
  bucketLengths,
  type CollateOptions,
  columnsOf,
  type Item,
  roundUp,
  weightsOf,
} from "./batches.ts";
import { lengthOf } from "./trajectory.ts";

/** Where packed tokens stand; flat places count `row * time + column`. */
export interface Layout {
  /** Number of the sequence in its row from 1 on, 0 at padding; int32 `[rows, time]`. */
  segments: Int32Array;
  /** Place in the own sequence; int32 `[rows, time]`. */
  positions: Int32Array;
  /** Flat places of the tokens before each action; int32 `[actions]`, the last of them unused. */
  at: Int32Array;
  /** The action tokens themselves; int32 `[actions]`. */
  targets: Int32Array;
  /** For each flat place its index in `at`, the unused one where it has none; int32 `[rows * time]`. */
  slots: Int32Array;
  /** For each column of the objectives its index in `at`; int32 `[sequences, columns]`. */
  columns: Int32Array;
  /** For each index in `at` its flat column, an unused one where it has none; int32 `[actions]`. */
  sources: Int32Array;
}

/** The shapes that programs are compiled for. */
export interface PackShapes {
  /** Tokens of a row. */
  time: number;
  /** Most rows of a micro-batch. */
  most: number;
  /** Numbers of rows, ascending; above the last, rows as needed. */
  rows: readonly number[];
  /** Sequences that a micro-batch has room for; more where it needs more. */
  sequences: number;
  /** Columns of the objectives, more than the longest response has. */
  columns: number;
  /** Actions per token of room that `at` holds; more where there are more. */
  share: number;
}

/** Items that stay together, by index, and their tokens. */
interface Unit {
  members: number[];
  tokens: number;
}

function unitsOf(items: readonly Item[], together: number): Unit[] {
  return Array.from({ length: Math.ceil(items.length / together) }, (_, u) => {
    const members = [...items.keys()].slice(u * together, (u + 1) * together);
    return { members, tokens: members.reduce((sum, i) => sum + lengthOf(items[i]!), 0) };
  });
}

/** Rows of `time` tokens that hold all lengths: the longest first, each where least room is left. */
export function packRows(lengths: readonly number[], time: number): number[][] {
  const rows: { members: number[]; room: number }[] = [];
  const order = [...lengths.keys()].sort((a, b) => lengths[b]! - lengths[a]! || a - b);
  for (const i of order) {
    const length = lengths[i]!;
    if (length > time) {
      throw new RangeError(`a sequence of ${length} tokens fits no row of ${time}`);
    }
    let best: typeof rows[number] | undefined;
    for (const row of rows) {
      if (row.room >= length && (best === undefined || row.room < best.room)) best = row;
    }
    if (best === undefined) rows.push(best = { members: [], room: time });
    best.members.push(i);
    best.room -= length;
  }
  return rows.map(({ members }) => members);
}

/**
 * The micro-batches of a batch, as rows of item indices: the whole batch is packed, and its rows, the
 * full and the emptier ones by turns, go into as few micro-batches of at most `most` rows as they need.
 */
export function packedParts(
  items: readonly Item[],
  { time, most, together = 1 }: { time: number; most: number; together?: number },
): number[][][] {
  const units = unitsOf(items, together);
  const rows = packRows(units.map(({ tokens }) => tokens), time)
    .map((row) => row.flatMap((u) => units[u]!.members));
  const count = Math.max(1, Math.ceil(rows.length / most));
  return Array.from({ length: count }, (_, k) => rows.filter((_, r) => r % count === k));
}

export interface ShapeOptions {
  /** Numbers of rows, so of compilations; default 4. */
  count?: number;
  /** Rows come in multiples of this. */
  multiple?: number;
  /** Sequences of a micro-batch, on average. */
  microBatch: number;
  /** Consecutive items that stay in one row; default 1. */
  together?: number;
  /** All items that will come, which may be more than `batches` hold. */
  items: readonly Item[];
}

/** Row lengths that are tried, in units of the longest sequence: longer rows pack better, attend more. */
const stretches = [1, 1.5, 2];

/** Padding that is not worth longer rows. */
const enough = 0.095;

/**
 * Shapes for batches like `batches`: rows as long as the longest sequence where these leave little room
 * empty, else longer ones, and the numbers of rows with the least padding.
 */
export function packShapes(
  batches: readonly (readonly Item[])[],
  options: ShapeOptions,
): PackShapes {
  const longest = Math.max(
    ...unitsOf(options.items, options.together ?? 1).map(({ tokens }) => tokens),
  );
  let best: { shapes: PackShapes; padding: number } | undefined;
  for (const stretch of stretches) {
    const found = shapesOf(batches, roundUp(stretch * longest, 8), options);
    if (best === undefined || found.padding < best.padding) best = found;
    if (best.padding < enough) break;
  }
  return best!.shapes;
}

function shapesOf(
  batches: readonly (readonly Item[])[],
  time: number,
  { count = 4, multiple = 1, microBatch, together = 1, items }: ShapeOptions,
): { shapes: PackShapes; padding: number } {
  const total = <T>(all: readonly T[], of: (each: T) => number) =>
    all.reduce((sum, each) => sum + of(each), 0);
  const whole = total(
    batches,
    (b) => packedParts(b, { time, most: Infinity, together })[0]!.length,
  );
  const perSequence = whole / total(batches, (b) => b.length);
  const most = roundUp(Math.max(1, Math.round(microBatch * perSequence)), multiple);
  // A batch that is one program run stays one, whatever its rows.
  const limit = batches.every((b) => b.length <= microBatch) ? Infinity : most;
  const needs = batches.flatMap((b) =>
    packedParts(b, { time, most: limit, together }).map((rows) => {
      const members = rows.flat().map((i) => b[i]!);
      return {
        rows: roundUp(rows.length, multiple),
        sequences: members.length,
        tokens: total(members, lengthOf),
        actions: total(members, (item) => columnsOf(item, "token").actions.length),
      };
    })
  );
  const sizes = bucketLengths(needs.map((need) => need.rows), { count, multiple });
  const held = (n: number) => sizes.find((size) => size >= n)! * time;
  return {
    shapes: {
      time,
      most: Number.isFinite(limit) ? most : items.length,
      rows: sizes,
      sequences: roundUp(roundUp(Math.max(...needs.map((need) => need.sequences)), 8), multiple),
      columns: roundUp(Math.max(...items.map((item) => item.responseIds.length)) + 1, 8),
      share: Math.min(1, Math.max(...needs.map((n) => (n.actions + 1) / held(n.rows)))),
    },
    padding: 1 - total(needs, (need) => need.tokens) / total(needs, (need) => held(need.rows)),
  };
}

/** As `collate`, with the sequences of each micro-batch packed. */
export function pack(
  items: readonly Item[],
  options: Omit<CollateOptions, "buckets" | "microBatch"> & {
    shapes: PackShapes;
    together?: number;
  },
): Batch[] {
  const { padId, shapes, level = "token", multiple = 1, together = 1 } = options;
  const { time, columns, most } = shapes;
  const found = items.map((item) => columnsOf(item, level));
  const weights = weightsOf(found, options);
  return packedParts(items, { time, most, together }).map((members) => {
    // Those that belong together follow each other, whatever their rows.
    const part = members.flat().sort((a, b) => a - b);
    const rows = shapes.rows.find((n) => n >= members.length) ?? roundUp(members.length, multiple);
    const sequences = Math.max(shapes.sequences, roundUp(roundUp(part.length, 8), multiple));
    const actions = part.reduce((sum, i) => sum + found[i]!.actions.length, 0);
    const room = roundUp(Math.ceil(rows * time * shapes.share), multiple);
    const slots = actions < room ? room : roundUp(roundUp(actions + 1, 64), multiple);
    const batch: Batch & { layout: Layout } = {
      rows,
      time,
      sequences,
      columns,
      tokens: part.reduce((sum, i) => sum + lengthOf(items[i]!), 0),
      ids: new Int32Array(rows * time).fill(padId),
      actionWeights: new Float32Array(sequences * columns),
      stateWeights: new Float32Array(sequences * columns),
      rewards: new Float32Array(sequences),
      refLogProbs: new Float32Array(sequences * columns),
      share: part.length / items.length,
      layout: {
        segments: new Int32Array(rows * time),
        positions: new Int32Array(rows * time),
        at: new Int32Array(slots),
        targets: new Int32Array(slots).fill(padId),
        slots: new Int32Array(rows * time).fill(slots - 1),
        columns: new Int32Array(sequences * columns).fill(slots - 1),
        // The last column of a sequence is never used: columns are more than any response's tokens.
        sources: new Int32Array(slots).fill(columns - 1),
      },
    };
    let slot = 0;
    for (const [row, inRow] of members.entries()) {
      let start = row * time;
      for (const [segment, i] of inRow.entries()) {
        const item = items[i]!;
        const n = part.indexOf(i);
        place(batch, item, start, segment + 1);
        // Columns of the objectives start at the last prompt token.
        const offset = n * columns - (item.promptIds.length - 1);
        for (const c of found[i]!.actions) {
          batch.actionWeights[offset + c] = weights.actions[i]!;
          batch.layout.at[slot] = start + c;
          batch.layout.targets[slot] = batch.ids[start + c + 1]!;
          batch.layout.slots[start + c] = slot;
          batch.layout.columns[offset + c] = slot;
          batch.layout.sources[slot] = offset + c;
          slot++;
        }
        for (const c of found[i]!.starts) batch.stateWeights[offset + c] = weights.starts[i]!;
        batch.rewards[n] = item.reward ?? 0;
        if (item.refLogProbs !== undefined) batch.refLogProbs.set(item.refLogProbs, n * columns);
        start += lengthOf(item);
      }
    }
    return batch;
  });
}

function place(
  { ids, layout: { segments, positions } }: Batch & { layout: Layout },
  item: Item,
  start: number,
  segment: number,
): void {
  const length = lengthOf(item);
  ids.set(item.promptIds, start);
  ids.set(item.responseIds, start + item.promptIds.length);
  segments.fill(segment, start, start + length);
  for (let i = 0; i < length; i++) positions[start + i] = i;
}
