/**
 * Facts found so far while a game is prepared: numbered as they come, looked up by predicate and
 * arguments, listed by predicate or by one argument.
 */
import { UserError } from "../../errors.ts";

export class FactTable {
  /** Predicate by fact. */
  readonly predicates: number[] = [];
  /** Arguments, `stride` places a fact; unused places are 0. */
  readonly args: number[] = [];
  readonly #ids = new Map<number, number>();
  readonly #ofPredicate: number[][];
  readonly #ofArgument: (number[] | undefined)[];
  readonly #listed: boolean[] = [];

  /**
   * @param stride most arguments of a predicate, at least 1
   * @param objects how many objects there are
   */
  constructor(readonly stride: number, predicates: number, readonly objects: number) {
    if (Math.max(1, predicates) * Math.max(1, objects) ** stride > Number.MAX_SAFE_INTEGER) {
      throw new UserError(
        `predicates with ${stride} arguments over ${objects} objects are too many facts to number`,
      );
    }
    this.#ofPredicate = Array.from({ length: predicates }, () => []);
    this.#ofArgument = [];
  }

  get size(): number {
    return this.predicates.length;
  }

  /** A number that orders facts by predicate, then by arguments. */
  key(fact: number): number {
    let key = this.predicates[fact]!;
    for (let at = 0; at < this.stride; at++) {
      key = key * this.objects + this.args[fact * this.stride + at]!;
    }
    return key;
  }

  #key(predicate: number, args: ArrayLike<number>, count: number): number {
    let key = predicate;
    for (let at = 0; at < this.stride; at++) {
      key = key * this.objects + (at < count ? args[at]! : 0);
    }
    return key;
  }

  /** The fact's number, or -1. */
  find(predicate: number, args: ArrayLike<number>, count: number): number {
    return this.#ids.get(this.#key(predicate, args, count)) ?? -1;
  }

  /** The fact's number; a new one is numbered, not listed. */
  add(predicate: number, args: ArrayLike<number>, count: number): number {
    const key = this.#key(predicate, args, count);
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    const fact = this.predicates.length;
    this.#ids.set(key, fact);
    this.predicates.push(predicate);
    for (let at = 0; at < this.stride; at++) this.args.push(at < count ? args[at]! : 0);
    return fact;
  }

  /** From now on `matching` and `isListed` know the fact. */
  list(fact: number): void {
    if (this.#listed[fact] === true) return;
    this.#listed[fact] = true;
    const predicate = this.predicates[fact]!;
    this.#ofPredicate[predicate]!.push(fact);
    for (let at = 0; at < this.stride; at++) {
      const place = this.#place(predicate, at, this.args[fact * this.stride + at]!);
      (this.#ofArgument[place] ??= []).push(fact);
    }
  }

  isListed(fact: number): boolean {
    return fact >= 0 && this.#listed[fact] === true;
  }

  /** Listed facts of a predicate, all or those with `object` as argument `at`. */
  matching(predicate: number, at = -1, object = 0): readonly number[] {
    if (at < 0) return this.#ofPredicate[predicate]!;
    return this.#ofArgument[this.#place(predicate, at, object)] ?? none;
  }

  #place(predicate: number, at: number, object: number): number {
    return (predicate * this.stride + at) * this.objects + object;
  }
}

const none: readonly number[] = [];
