/**
 * A planner that knows everything: greedy best-first search guided by the length of a relaxed plan
 * (deletions ignored), trying the relaxed plan's own operators first (as the FF planner does). It
 * tells whether a game can be won, and how.
 */
import type { Game } from "./game.ts";
import { State } from "./state.ts";
import { nextBit } from "./telling.ts";

/** Most states to expand before giving up; real games need some dozens. */
const mostStates = 20_000;

/**
 * Commands that win from `state` (the start where left out), none where it is won already; undefined
 * where no plan was found.
 */
export function plan(game: Game, state: State = new State(game)): string[] | undefined {
  const operators = new Search(game).run(state.snapshot());
  if (operators === undefined) return undefined;
  const replay = state.copy();
  return shortened(
    state,
    operators.map((operator) => {
      const command = replay.commandOf(operator);
      replay.apply(operator);
      return command;
    }),
  );
}

/** The plan without commands, or pairs of them, that it does not need. */
function shortened(start: State, commands: readonly string[]): string[] {
  let result = [...commands];
  for (let at = result.length - 1; at >= 0; at--) {
    const shorter = [1, 2].map((count) => result.toSpliced(at, count))
      .find((each) => wins(start, each));
    if (shorter !== undefined) result = shorter;
  }
  return result;
}

function wins(start: State, commands: readonly string[]): boolean {
  const state = start.copy();
  for (const command of commands) {
    const operator = state.operatorOf(command);
    if (operator < 0) return false;
    state.apply(operator);
  }
  return state.won;
}

interface Open {
  readonly bits: Uint32Array;
  readonly path: Path | undefined;
}

interface Path {
  readonly operator: number;
  readonly before: Path | undefined;
}

/** How far a state seems from the goal. */
interface Estimate {
  /** Operators of a relaxed plan. */
  readonly distance: number;
  /** Operators that are applicable and part of the relaxed plan. */
  readonly helpful: readonly number[];
  readonly applicable: readonly number[];
}

class Search {
  readonly #needs: Uint32Array;
  readonly #count: Uint8Array | Uint32Array;
  readonly #supporter: Int32Array;
  readonly #conditionStart: Uint32Array;
  readonly #conditions: Uint32Array;

  constructor(readonly game: Game) {
    const { grounding } = game.prepared;
    const { operatorCount, watchStart, watchers, factCount } = grounding;
    this.#conditionStart = new Uint32Array(operatorCount + 1);
    for (const operator of watchers) this.#conditionStart[operator + 1]!++;
    for (let at = 0; at < operatorCount; at++) {
      this.#conditionStart[at + 1]! += this.#conditionStart[at]!;
    }
    const next = this.#conditionStart.slice();
    this.#conditions = new Uint32Array(watchers.length);
    for (let literal = 0; literal < 2 * factCount; literal++) {
      for (let at = watchStart[literal]!; at < watchStart[literal + 1]!; at++) {
        this.#conditions[next[watchers[at]!]!++] = literal;
      }
    }
    this.#needs = new Uint32Array(operatorCount);
    for (let each = 0; each < operatorCount; each++) {
      this.#needs[each] = this.#conditionStart[each + 1]! - this.#conditionStart[each]!;
    }
    this.#count = new Uint32Array(operatorCount);
    this.#supporter = new Int32Array(2 * factCount);
  }

  run(start: Uint32Array): number[] | undefined {
    const open: Open[][] = [[{ bits: start, path: undefined }]];
    const seen = new Set([keyOf(start)]);
    for (let expanded = 0; expanded < mostStates; expanded++) {
      const bucket = open.find((each) => each !== undefined && each.length > 0);
      const state = bucket?.shift();
      if (state === undefined) return undefined;
      const estimate = this.#estimate(state.bits);
      if (estimate === undefined) continue;
      if (estimate.distance === 0) return operatorsOf(state.path);
      const helpful = new Set(estimate.helpful);
      for (const operator of estimate.applicable) {
        const bits = this.#apply(state.bits, operator);
        const key = keyOf(bits);
        if (seen.has(key)) continue;
        seen.add(key);
        // A state is judged when its turn comes; until then it is as near as the one before it.
        const priority = 2 * estimate.distance - (helpful.has(operator) ? 1 : 0);
        (open[priority] ??= []).push({ bits, path: { operator, before: state.path } });
      }
    }
    return undefined;
  }

  #apply(bits: Uint32Array, operator: number): Uint32Array {
    const { effectStart, effects, conditionals } = this.game.prepared.grounding;
    const result = bits.slice();
    const all = [...effects.subarray(effectStart[operator]!, effectStart[operator + 1]!)];
    for (const { condition, effect } of conditionals.get(operator) ?? []) {
      if (condition.every((literal) => holds(bits, literal))) all.push(effect);
    }
    for (const literal of all) {
      const fact = literal >> 1;
      if ((literal & 1) === 1) result[fact >> 5]! &= ~(1 << (fact & 31));
    }
    for (const literal of all) {
      const fact = literal >> 1;
      if ((literal & 1) === 0) result[fact >> 5]! |= 1 << (fact & 31);
    }
    return result;
  }

  /** Undefined where even the relaxed problem has no solution. */
  #estimate(bits: Uint32Array): Estimate | undefined {
    const { grounding } = this.game.prepared;
    const { factCount, operatorCount, goalStart, watchStart, watchers } = grounding;
    const { effectStart, effects, conditionals } = grounding;
    const reached = this.#supporter.fill(-2);
    this.#count.set(this.#needs);
    const ready: number[] = [];
    const queue: number[] = [];
    for (let fact = 0; fact < factCount; fact++) {
      const literal = 2 * fact + (holds(bits, 2 * fact) ? 0 : 1);
      reached[literal] = -1;
      queue.push(literal);
    }
    for (let operator = 0; operator < operatorCount; operator++) {
      if (this.#count[operator] === 0) ready.push(operator);
    }
    const start = queue.length;
    let applicable: number[] | undefined;
    let next = 0, fired = 0;
    let goal = -1;
    while (goal < 0) {
      while (next < queue.length) {
        const literal = queue[next++]!;
        for (let at = watchStart[literal]!; at < watchStart[literal + 1]!; at++) {
          if (--this.#count[watchers[at]!]! === 0) ready.push(watchers[at]!);
        }
      }
      applicable ??= ready.filter((each) => each < goalStart);
      goal = ready.slice(fired).find((each) => each >= goalStart) ?? -1;
      if (goal >= 0) break;
      if (fired === ready.length) return undefined;
      for (const end = ready.length; fired < end; fired++) {
        const operator = ready[fired]!;
        const reach = (literal: number) => {
          if (reached[literal] !== -2) return;
          reached[literal] = operator;
          queue.push(literal);
        };
        for (let at = effectStart[operator]!; at < effectStart[operator + 1]!; at++) {
          reach(effects[at]!);
        }
        for (const { effect } of conditionals.get(operator) ?? []) reach(effect);
      }
    }
    if (next === start && this.#needsOf(goal).every((literal) => reached[literal] === -1)) {
      return { distance: 0, helpful: [], applicable: [] };
    }
    const chosen = new Set<number>();
    const open = [...this.#needsOf(goal)];
    for (let literal = open.pop(); literal !== undefined; literal = open.pop()) {
      const operator = reached[literal]!;
      if (operator < 0 || chosen.has(operator)) continue;
      chosen.add(operator);
      open.push(...this.#needsOf(operator));
    }
    const now = new Set(applicable);
    return {
      distance: chosen.size,
      helpful: [...chosen].filter((each) => now.has(each)),
      applicable: applicable!,
    };
  }

  #needsOf(operator: number): Uint32Array {
    return this.#conditions.subarray(
      this.#conditionStart[operator]!,
      this.#conditionStart[operator + 1]!,
    );
  }
}

function holds(bits: Uint32Array, literal: number): boolean {
  const fact = literal >> 1;
  return (bits[fact >> 5]! >>> (fact & 31) & 1) === 1 - (literal & 1);
}

function keyOf(bits: Uint32Array): string {
  let key = "";
  for (let at = nextBit(bits, 0, bits.length * 32); at < bits.length * 32;) {
    key += String.fromCharCode(at);
    at = nextBit(bits, at + 1, bits.length * 32);
  }
  return key;
}

function operatorsOf(path: Path | undefined): number[] {
  const operators: number[] = [];
  for (let each = path; each !== undefined; each = each.before) operators.push(each.operator);
  return operators.reverse();
}
