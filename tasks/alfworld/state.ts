/**
 * One state of a game: which facts hold (a bit each), which operators are applicable and which
 * commands that makes admissible. All of it is kept up to date fact by fact: every operator counts the
 * literals of its condition that do not hold, and only operators that mention a changed fact are
 * looked at.
 *
 * What is told can differ from what holds: the original's texts and facts take every conditional
 * effect of an operator for one that happened, deletions last, while its rules do not.
 */
import { contextOf } from "./commands.ts";
import type { Game } from "./game.ts";
import type { Conditional } from "./ground.ts";
import type { Facts } from "./telling.ts";
import { nextBit } from "./telling.ts";

export class State implements Facts {
  /** Facts that are told to hold. */
  readonly truth: Uint32Array;
  /** Facts that are told to have been made false. */
  readonly denied: Uint32Array;
  /** Facts that do hold. */
  readonly #held: Uint32Array;
  readonly #unsatisfied: Uint8Array | Uint16Array | Uint32Array;
  /** Applicable operators by command. */
  readonly #counts: Uint8Array | Uint32Array;
  /** Commands with an applicable operator. */
  readonly #admissible: Uint32Array;
  #goals = 0;

  constructor(readonly game: Game) {
    const { grounding, commands } = game.prepared;
    this.truth = grounding.initial.slice();
    this.denied = new Uint32Array(this.truth.length);
    this.#held = this.truth.slice();
    this.#unsatisfied = grounding.unsatisfied.slice();
    this.#counts = commands.mostOperators < 256
      ? new Uint8Array(commands.texts.length)
      : new Uint32Array(commands.texts.length);
    this.#admissible = new Uint32Array((commands.texts.length + 31) >> 5);
    this.reset();
  }

  reset(): void {
    const { grounding } = this.game.prepared;
    this.truth.set(grounding.initial);
    this.denied.fill(0);
    this.#held.set(grounding.initial);
    this.#unsatisfied.set(grounding.unsatisfied);
    this.#counts.fill(0);
    this.#admissible.fill(0);
    this.#goals = 0;
    for (let operator = 0; operator < grounding.operatorCount; operator++) {
      if (this.#unsatisfied[operator] === 0) this.#activate(operator);
    }
  }

  /** A state of its own that is the same as this one now. */
  copy(): State {
    const copy = new State(this.game);
    copy.truth.set(this.truth);
    copy.denied.set(this.denied);
    copy.#held.set(this.#held);
    copy.#unsatisfied.set(this.#unsatisfied);
    copy.#counts.set(this.#counts);
    copy.#admissible.set(this.#admissible);
    copy.#goals = this.#goals;
    return copy;
  }

  /** Whether the goal holds. */
  get won(): boolean {
    return this.#goals > 0;
  }

  holds(fact: number): boolean {
    return (this.#held[fact >> 5]! >>> (fact & 31) & 1) === 1;
  }

  isApplicable(operator: number): boolean {
    return this.#unsatisfied[operator] === 0;
  }

  #activate(operator: number): void {
    const { grounding, commands } = this.game.prepared;
    if (operator >= grounding.goalStart) {
      this.#goals++;
      return;
    }
    const command = commands.ofOperator[operator]!;
    if (command === commands.texts.length) return;
    if (this.#counts[command]!++ === 0) this.#admissible[command >> 5]! |= 1 << (command & 31);
  }

  #deactivate(operator: number): void {
    const { grounding, commands } = this.game.prepared;
    if (operator >= grounding.goalStart) {
      this.#goals--;
      return;
    }
    const command = commands.ofOperator[operator]!;
    if (command === commands.texts.length) return;
    if (--this.#counts[command]! === 0) this.#admissible[command >> 5]! &= ~(1 << (command & 31));
  }

  /** Tells that a literal is true. */
  #tell(literal: number): void {
    const fact = literal >> 1;
    const bit = 1 << (fact & 31);
    const word = fact >> 5;
    if ((literal & 1) === 1) {
      this.denied[word]! |= bit;
      this.truth[word]! &= ~bit;
    } else {
      this.denied[word]! &= ~bit;
      this.truth[word]! |= bit;
    }
  }

  /** Makes a literal true. */
  #set(literal: number): void {
    const fact = literal >> 1;
    const bit = 1 << (fact & 31);
    const word = fact >> 5;
    const held = (this.#held[word]! & bit) !== 0;
    if (held === ((literal & 1) === 0)) return;
    this.#held[word]! ^= bit;
    const { watchStart, watchers } = this.game.prepared.grounding;
    const lost = literal ^ 1;
    for (let at = watchStart[lost]!, end = watchStart[lost + 1]!; at < end; at++) {
      const operator = watchers[at]!;
      if (this.#unsatisfied[operator]!++ === 0) this.#deactivate(operator);
    }
    for (let at = watchStart[literal]!, end = watchStart[literal + 1]!; at < end; at++) {
      const operator = watchers[at]!;
      if (--this.#unsatisfied[operator]! === 0) this.#activate(operator);
    }
  }

  /** Applies an applicable operator: what it deletes first, then what it adds. */
  apply(operator: number): void {
    const { effectStart, effects, conditionals } = this.game.prepared.grounding;
    const start = effectStart[operator]!, end = effectStart[operator + 1]!;
    const conditional = conditionals.get(operator);
    if (conditional !== undefined) {
      this.#applyConditional([...effects.subarray(start, end)], conditional);
      return;
    }
    for (let at = start; at < end; at++) {
      this.#tell(effects[at]!);
      if ((effects[at]! & 1) === 1) this.#set(effects[at]!);
    }
    for (let at = start; at < end; at++) if ((effects[at]! & 1) === 0) this.#set(effects[at]!);
  }

  #applyConditional(plain: readonly number[], conditional: readonly Conditional[]): void {
    const fired = conditional.filter(({ condition }) =>
      condition.every((literal) => this.holds(literal >> 1) === ((literal & 1) === 0))
    );
    const happens = new Set([...plain, ...fired.map(({ effect }) => effect)]);
    for (const literal of happens) {
      if ((literal & 1) === 1 && !happens.has(literal ^ 1)) this.#set(literal);
    }
    for (const literal of happens) if ((literal & 1) === 0) this.#set(literal);
    const told = [...plain, ...conditional.map(({ effect }) => effect)];
    for (const literal of told) if ((literal & 1) === 0) this.#tell(literal);
    for (const literal of told) if ((literal & 1) === 1) this.#tell(literal);
  }

  /** The operator that a command stands for, or -1 where it is not admissible. */
  operatorOf(command: string): number {
    const { commands } = this.game.prepared;
    const { texts, ofOperator } = commands;
    let low = 0, high = texts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (texts.at(middle) < command) low = middle + 1;
      else high = middle;
    }
    if (low < texts.length && texts.at(low) === command && this.#counts[low]! > 0) {
      // Searched, not listed: a list would be a tenth of what a game takes.
      for (let at = ofOperator.indexOf(low); at >= 0; at = ofOperator.indexOf(low, at + 1)) {
        if (this.isApplicable(at)) return at;
      }
    }
    return commands.unfixed.find((each) =>
      this.isApplicable(each) && this.#wording(each) === command
    ) ?? -1;
  }

  /** How an applicable operator is commanded. */
  commandOf(operator: number): string {
    const { texts, ofOperator } = this.game.prepared.commands;
    const command = ofOperator[operator]!;
    return command < texts.length ? texts.at(command) : this.#wording(operator);
  }

  #wording(operator: number): string {
    const { domain, grammar, prepared: { grounding, teller } } = this.game;
    const { template } = grammar.actions.get(domain.actions[grounding.actions[operator]!]!.name)!;
    return teller.tell(template, contextOf(domain, grounding, operator), this);
  }

  /** Ascending, each once. */
  admissibleCommands(): string[] {
    const { texts, unfixed } = this.game.prepared.commands;
    const result: string[] = [];
    for (let word = 0; word < this.#admissible.length; word++) {
      for (let bits = this.#admissible[word]!; bits !== 0; bits &= bits - 1) {
        result.push(texts.at(word * 32 + 31 - Math.clz32(bits & -bits)));
      }
    }
    if (unfixed.length === 0) return result;
    const more = unfixed.filter((each) => this.isApplicable(each)).map((each) =>
      this.#wording(each)
    );
    return [...new Set([...result, ...more])].sort();
  }

  /** A copy of which facts hold, a bit a fact. */
  snapshot(): Uint32Array {
    return this.#held.slice();
  }

  /** Facts in readable form, ascending, each once. */
  describe(): string[] {
    const { grounding, teller } = this.game.prepared;
    const { predicateStart, factArgs, stride } = grounding;
    const lines = new Set<string>();
    for (const { id, name, arity } of this.game.domain.predicates.values()) {
      const end = predicateStart[id + 1]!;
      for (const [bits, prefix] of [[this.truth, ""], [this.denied, "not_"]] as const) {
        for (let fact = nextBit(bits, predicateStart[id]!, end); fact < end;) {
          const args = Array.from(
            { length: arity },
            (_, at) => teller.names[factArgs[fact * stride + at]!]!,
          );
          lines.add(`${prefix}${name}(${args.join(", ")})`);
          fact = nextBit(bits, fact + 1, end);
        }
      }
    }
    return [...lines].sort();
  }
}
