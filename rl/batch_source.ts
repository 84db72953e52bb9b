/**
 * The batches of a run, step by step: which items, in which order, in arrays of which shapes. All that
 * decides them is known from the start, so that a run can go on from any step.
 */
import { createHash } from "node:crypto";
import {
  type Batch,
  bucketLengths,
  collate,
  type CollateOptions,
  type Item,
  planEpoch,
} from "./batches.ts";
import { pack, packShapes } from "./packing.ts";
import type { Fingerprint } from "./trainer_checkpoint.ts";
import type { TrainingOptions } from "./trainer_options.ts";
import { lengthOf } from "./trajectory.ts";

export class BatchSource {
  readonly totalSteps: number;
  readonly #lengths: number[];
  readonly #batchSize: number;
  readonly #perEpoch: number;
  readonly #collate: CollateOptions;
  readonly #packing: Omit<Parameters<typeof pack>[1], keyof CollateOptions> | undefined;
  #plan: { epoch: number; batches: number[][] } | undefined;

  /**
   * @param items at least one
   * @param devices that share the rows of a micro-batch
   */
  constructor(
    readonly items: readonly Item[],
    readonly options: TrainingOptions,
    readonly devices = 1,
  ) {
    if ((options.epochs === undefined) === (options.steps === undefined)) {
      throw new TypeError("give either epochs or steps");
    }
    this.#lengths = items.map(lengthOf);
    this.#batchSize = Math.min(options.batchSize ?? 128, items.length);
    this.#perEpoch = Math.ceil(items.length / this.#batchSize);
    this.totalSteps = options.steps ?? Math.ceil(options.epochs! * this.#perEpoch);
    this.#collate = {
      padId: options.padId,
      buckets: bucketLengths([...this.#lengths, ...(options.heldOut?.items ?? []).map(lengthOf)], {
        count: options.buckets ?? 4,
        maxLength: options.maxLength,
      }),
      normalisation: options.normalisation ?? "sequence",
      actionNormalisation: options.actionNormalisation,
      level: options.level ?? "token",
      microBatch: Math.min(options.microBatch ?? this.#batchSize, this.#batchSize),
      multiple: devices,
    };
    this.#packing = options.packing === undefined ? undefined : this.#packed(options.packing);
  }

  /** The items of a step's batch, by index. */
  indicesOf(step: number): number[] {
    const epoch = Math.floor(step / this.#perEpoch);
    if (this.#plan?.epoch !== epoch) {
      const { seed, plan, packing } = this.options;
      // Packed rows need no batches of like lengths.
      const window = this.options.window ?? (packing === undefined ? undefined : 1);
      const order = { batchSize: this.#batchSize, seed, epoch };
      const batches = plan?.(epoch) ??
        planEpoch(this.#lengths, window === undefined ? order : { ...order, window });
      this.#plan = { epoch, batches };
    }
    return this.#plan.batches[step % this.#perEpoch]!;
  }

  /** The micro-batches of these items, padded or packed. */
  arrays(items: readonly Item[]): Batch[] {
    return this.#packing === undefined
      ? collate(items, this.#collate)
      : pack(items, { ...this.#collate, ...this.#packing });
  }

  /** Shapes that the first epoch's batches fill best. */
  #packed({ together = 1 }: { together?: number }) {
    const { heldOut, buckets } = this.options;
    const all = [...this.items, ...heldOut?.items ?? []];
    const batches = Array.from(
      { length: Math.min(this.#perEpoch, this.totalSteps) },
      (_, step) => this.indicesOf(step).map((i) => this.items[i]!),
    );
    const shapes = packShapes(batches, {
      count: buckets ?? 4,
      microBatch: this.#collate.microBatch!,
      multiple: this.devices,
      together,
      items: all,
    });
    return { shapes, together };
  }

  /** What decides the batches, by name, for the checkpoint. */
  settings(): Fingerprint {
    const { options } = this;
    const data = createHash("sha256");
    // Not the reference's log-probabilities: those computed on other devices differ by rounding.
    for (const { promptIds, responseIds, actionMask, stepEnds, reward } of this.items) {
      data.update(JSON.stringify([promptIds, responseIds, actionMask, stepEnds, reward]));
    }
    return {
      data: data.digest("hex").slice(0, 16),
      steps: this.totalSteps,
      batchSize: this.#batchSize,
      microBatch: this.#collate.microBatch!,
      seed: options.seed,
      normalisation: this.#collate.normalisation!,
      ...(options.actionNormalisation === undefined
        ? {}
        : { actionNormalisation: options.actionNormalisation }),
      level: this.#collate.level!,
      buckets: this.#collate.buckets.join(),
      window: options.window ?? null,
      // The shapes themselves follow from these and from the devices, whose number may change.
      ...(this.#packing === undefined ? {} : {
        packing: JSON.stringify({
          together: this.#packing.together ?? 1,
          shapes: this.options.buckets ?? 4,
        }),
      }),
    };
  }
}
