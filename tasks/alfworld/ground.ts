/**
 * Preparing a problem for play: all facts that can come to hold and all operators (actions with their
 * arguments) that can become applicable, in compact arrays. The goal's alternatives are operators
 * without effect: the game is won while one of them is applicable.
 *
 * Facts are numbered by predicate, then by their arguments in the order of the objects' names. A
 * literal is 2 · fact, or 2 · fact + 1 for its negation.
 */
import { UserError } from "../../errors.ts";
import type { Domain } from "./domain.ts";
import { FactTable } from "./facts.ts";
import { truth, type Typed } from "./formula.ts";
import { type Alternative, type Literal, Normalizer, Types } from "./normal_form.ts";
import type { Problem } from "./problem.ts";
import { Joiner } from "./rules.ts";

export type Numbers = Uint8Array | Uint16Array | Uint32Array;

/** Where `condition` (literals) holds, `effect` (a literal) comes to hold. */
export interface Conditional {
  readonly condition: readonly number[];
  readonly effect: number;
}

export interface Grounding {
  readonly factCount: number;
  /** Most arguments of a predicate. */
  readonly stride: number;
  /** First fact by predicate's id; one more entry closes the last. */
  readonly predicateStart: Numbers;
  /** `[fact, stride]` objects. */
  readonly factArgs: Numbers;
  /** A bit a fact. */
  readonly initial: Uint32Array;
  /** Operators proper are before this one, the goal's alternatives from it on. */
  readonly goalStart: number;
  readonly operatorCount: number;
  /** Index of the domain's action, by operator proper. */
  readonly actions: Numbers;
  /** Operator's arguments: from `argStart[op]`, one a parameter of its action. */
  readonly argStart: Numbers;
  readonly args: Numbers;
  /** Literals that an operator makes true: from `effectStart[op]` to `effectStart[op + 1]`. */
  readonly effectStart: Numbers;
  readonly effects: Numbers;
  readonly conditionals: ReadonlyMap<number, readonly Conditional[]>;
  /** Operators whose condition has the literal: from `watchStart[literal]` to the next. */
  readonly watchStart: Numbers;
  readonly watchers: Numbers;
  /** How many literals of an operator's condition do not hold at the start. */
  readonly unsatisfied: Numbers;
}

interface SchemaEffect {
  readonly variables: readonly number[];
  readonly conditions: readonly Alternative[];
  readonly literal: Literal;
  readonly typeOf: (variable: number) => string;
}

interface Schema {
  /** Index of the action; -1 for the goal. */
  readonly action: number;
  readonly parameters: number;
  readonly alternative: Alternative;
  /** What always happens, and what depends on a condition of its own or on more variables. */
  readonly plain: readonly Literal[];
  readonly others: readonly SchemaEffect[];
  /** How many variables the condition and the effects use: the highest one and those before it. */
  readonly bound: number;
  readonly typeOf: (variable: number) => string;
}

/** Most operators that are prepared; a guard against domains that explode. */
const mostInstances = 2_000_000;

/** @throws {UserError} where the problem has too many facts or operators */
export function ground(domain: Domain, problem: Problem): Grounding {
  return new Grounder(domain, problem).result();
}

class Grounder {
  readonly #types: Types;
  readonly #facts: FactTable;
  // Instances of actions and of the goal, flat: a schema each, and the values of its variables.
  readonly #schemas: Schema[] = [];
  readonly #starts: number[] = [];
  readonly #values: number[] = [];
  readonly #queue: number[] = [];
  readonly #queued: boolean[] = [];
  readonly #joiner: Joiner;
  readonly #fluent: boolean[];

  constructor(readonly domain: Domain, readonly problem: Problem) {
    this.#types = new Types(domain, problem);
    const predicates = [...domain.predicates.values()];
    const stride = Math.max(1, ...predicates.map((each) => each.arity));
    this.#facts = new FactTable(stride, predicates.length, problem.objects.length);
    this.#fluent = predicates.map((each) => each.fluent);
    const schemas = this.#allSchemas();
    const most = Math.max(0, ...schemas.map((each) => each.alternative.variables.length));
    // Variables are numbered through a formula: an action's alternatives share the numbers.
    const variables = most + Math.max(0, ...schemas.map((each) => each.bound));
    this.#joiner = new Joiner(this.#facts, this.#types, this.#fluent, variables);
    this.#addInit(predicates.map((each) => each.arity));
    for (const schema of schemas) this.#addRules(schema);
    for (let next = 0; next < this.#queue.length; next++) this.#joiner.feed(this.#queue[next]!);
  }

  #allSchemas(): Schema[] {
    const { domain, problem } = this;
    const numbers = new Map(problem.objects.map((name, number) => [name, number]));
    const schemas: Schema[] = [];
    const build = (action: number, parameters: readonly Typed[]) => {
      const normalizer = new Normalizer(this.#types, numbers, parameters);
      const formula = action < 0 ? problem.goal : domain.actions[action]!.precondition;
      const alternatives = normalizer.alternatives(formula);
      const effects = (action < 0 ? [] : domain.actions[action]!.effects).map((effect) => {
        const inner = new Normalizer(this.#types, numbers, [
          ...normalizer.variables,
          ...effect.variables,
        ]);
        const own = effect.variables.map((_, at) => normalizer.variables.length + at);
        const conditions = effect.condition === truth
          ? [{ variables: [], literals: [] }]
          : inner.alternatives(effect.condition);
        const literal = inner.literal(effect.atom, effect.negated);
        const typeOf = (variable: number) => inner.variables[variable]!.type;
        return { variables: own, conditions, literal, typeOf };
      });
      const typeOf = (variable: number) => normalizer.variables[variable]!.type;
      const plain = effects.filter(isPlain).map(({ literal }) => literal);
      const others = effects.filter((each) => !isPlain(each));
      for (const alternative of alternatives) {
        const bound = 1 + highest(parameters.length, alternative, effects);
        const { length } = parameters;
        schemas.push({ action, parameters: length, alternative, plain, others, bound, typeOf });
      }
    };
    domain.actions.forEach((action, index) => build(index, action.parameters));
    build(-1, []);
    return schemas;
  }

  #addInit(arities: readonly number[]): void {
    const { init } = this.problem;
    for (let at = 0; at < init.length;) {
      const predicate = init[at]!;
      const arity = arities[predicate]!;
      const fact = this.#facts.add(predicate, init.subarray(at + 1, at + 1 + arity), arity);
      if (this.#fluent[predicate]) this.#push(fact);
      else this.#facts.list(fact);
      at += 1 + arity;
    }
  }

  #push(fact: number): void {
    if (fact < 0 || this.#queued[fact] === true) return;
    this.#queued[fact] = true;
    this.#queue.push(fact);
  }

  #addRules(schema: Schema): void {
    const { alternative, others, bound, typeOf } = schema;
    const parameters = Array.from({ length: schema.parameters }, (_, number) => number);
    const added = schema.plain.filter((each) => !each.negated);
    this.#joiner.add({
      alternative,
      typeOf,
      parameters,
      found: (binding) => {
        if (this.#schemas.length === mostInstances) {
          throw new UserError(`the problem has more than ${mostInstances} operators`);
        }
        this.#schemas.push(schema);
        this.#starts.push(this.#values.length);
        for (let at = 0; at < bound; at++) this.#values.push(binding[at]!);
        for (const literal of added) this.#push(this.#joiner.make(literal, binding));
      },
    });
    for (const effect of others) {
      if (effect.literal.negated) continue;
      for (const condition of effect.conditions) {
        this.#joiner.add({
          alternative: merged(alternative, condition, effect.variables),
          typeOf: effect.typeOf,
          parameters,
          found: (binding) => this.#push(this.#joiner.make(effect.literal, binding)),
        });
      }
    }
  }

  result(): Grounding {
    const { order, factArgs, predicateStart } = this.#sortFacts();
    const initially = this.#initially(order);
    const actions: number[] = [], argStart: number[] = [], args: number[] = [];
    const effectStart: number[] = [0], effects: number[] = [];
    const conditionStart: number[] = [0], conditions: number[] = [];
    const conditionals = new Map<number, Conditional[]>();
    const binding = new Int32Array(
      this.#schemas.reduce((most, { bound }) => Math.max(most, bound), 0),
    );
    let goalStart = 0;
    const add = (instance: number) => {
      const schema = this.#schemas[instance]!;
      const start = this.#starts[instance]!;
      for (let at = 0; at < schema.bound; at++) binding[at] = this.#values[start + at]!;
      const condition = this.#condition(schema.alternative, binding, order);
      if (condition === undefined) return;
      if (schema.action >= 0) {
        const { plain, conditional } = this.#effects(schema, binding, condition, order);
        if (plain.length === 0 && conditional.length === 0) return;
        if (conditional.length > 0) conditionals.set(goalStart, conditional);
        for (const literal of plain) effects.push(literal);
        actions.push(schema.action);
        argStart.push(args.length);
        for (let at = 0; at < schema.parameters; at++) args.push(binding[at]!);
        goalStart++;
      }
      effectStart.push(effects.length);
      for (const literal of condition) conditions.push(literal);
      conditionStart.push(conditions.length);
    };
    this.#schemas.forEach(({ action }, instance) => action >= 0 && add(instance));
    this.#schemas.forEach(({ action }, instance) => action < 0 && add(instance));
    return {
      factCount: order.length,
      stride: this.#facts.stride,
      predicateStart,
      factArgs,
      initial: initially.bits,
      goalStart,
      operatorCount: conditionStart.length - 1,
      actions: narrow(actions),
      argStart: narrow(argStart),
      args: narrow(args),
      effectStart: narrow(effectStart),
      effects: narrow(effects),
      conditionals,
      ...watch(conditionStart, conditions, order.length),
      unsatisfied: unsatisfied(conditionStart, conditions, initially.holds),
    };
  }

  /** Final numbers of all facts that can hold: `order[fact]` by number in the table, -1 for none. */
  #sortFacts() {
    const facts = this.#facts;
    const old = new Map<number, number>();
    const keys = new Float64Array(facts.size);
    let count = 0;
    for (let fact = 0; fact < facts.size; fact++) {
      if (!facts.isListed(fact)) continue;
      keys[count] = facts.key(fact);
      old.set(keys[count++]!, fact);
    }
    const sorted = keys.subarray(0, count).sort();
    const order = new Int32Array(facts.size).fill(-1);
    const factArgs = new Uint32Array(count * facts.stride);
    const starts = new Array<number>(this.#fluent.length + 1).fill(0);
    for (let number = 0; number < count; number++) {
      const fact = old.get(sorted[number]!)!;
      order[fact] = number;
      starts[facts.predicates[fact]! + 1]!++;
      for (let at = 0; at < facts.stride; at++) {
        factArgs[number * facts.stride + at] = facts.args[fact * facts.stride + at]!;
      }
    }
    for (let at = 1; at < starts.length; at++) starts[at]! += starts[at - 1]!;
    return { order, factArgs: narrow(factArgs), predicateStart: narrow(starts) };
  }

  #initially(order: Int32Array) {
    const bits = new Uint32Array((order.length + 31) >> 5);
    const { init } = this.problem;
    const arities = [...this.domain.predicates.values()].map((each) => each.arity);
    for (let at = 0; at < init.length; at += 1 + arities[init[at]!]!) {
      const arity = arities[init[at]!]!;
      const fact =
        order[this.#facts.find(init[at]!, init.subarray(at + 1, at + 1 + arity), arity)]!;
      bits[fact >> 5]! |= 1 << (fact & 31);
    }
    return { bits, holds: (fact: number) => (bits[fact >> 5]! >>> (fact & 31) & 1) === 1 };
  }

  /** The fluent literals that must hold; undefined where they contradict each other. */
  #condition(
    alternative: Alternative,
    binding: Int32Array,
    order: Int32Array,
  ): number[] | undefined {
    const literals: number[] = [];
    for (const literal of alternative.literals) {
      if (literal.predicate < 0 || !this.#fluent[literal.predicate]) continue;
      const found = this.#joiner.find(literal, binding);
      const fact = found < 0 ? -1 : order[found]!;
      // What can never hold need not be watched: its negation always holds.
      if (fact < 0) {
        if (literal.negated) continue;
        return undefined;
      }
      const number = 2 * fact + Number(literal.negated);
      if (literals.includes(number ^ 1)) return undefined;
      if (!literals.includes(number)) literals.push(number);
    }
    return literals;
  }

  /** Literals made true; those that the condition already says are no effects. */
  #effects(
    schema: Schema,
    binding: Int32Array,
    condition: readonly number[],
    order: Int32Array,
  ): { plain: number[]; conditional: Conditional[] } {
    const plain: number[] = [];
    const conditional: Conditional[] = [];
    const happens = (literal: number) => plain.includes(literal) || plain.push(literal);
    for (const literal of schema.plain) {
      const found = this.#joiner.find(literal, binding);
      const fact = found < 0 ? -1 : order[found]!;
      if (fact >= 0) happens(2 * fact + Number(literal.negated));
    }
    for (const effect of schema.others) {
      for (const given of effect.conditions) {
        const open = [...effect.variables, ...given.variables];
        for (const full of this.#assignments(binding.slice(), open, effect.typeOf)) {
          const found = this.#joiner.find(effect.literal, full);
          const fact = found < 0 ? -1 : order[found]!;
          if (fact < 0) continue;
          const when = this.#staticallyTrue(given, full)
            ? this.#condition(given, full, order)
            : undefined;
          if (when === undefined) continue;
          const literal = 2 * fact + Number(effect.literal.negated);
          const rest = when.filter((each) => !condition.includes(each));
          if (rest.length > 0) conditional.push({ condition: rest, effect: literal });
          else happens(literal);
        }
      }
    }
    const lasting = plain.filter((literal) =>
      !((literal & 1) === 1 && plain.includes(literal ^ 1)) && !condition.includes(literal)
    );
    return { plain: lasting, conditional };
  }

  *#assignments(
    values: Int32Array,
    open: readonly number[],
    typeOf: (variable: number) => string,
  ): Generator<Int32Array> {
    const [variable, ...rest] = open;
    if (variable === undefined) {
      yield values;
      return;
    }
    for (const object of this.#types.list(typeOf(variable))) {
      values[variable] = object;
      yield* this.#assignments(values, rest, typeOf);
    }
  }

  #staticallyTrue({ literals }: Alternative, binding: Int32Array): boolean {
    return literals.every((literal) => {
      if (literal.predicate < 0) {
        const [a, b] = literal.args.map((term) => term >= 0 ? binding[term]! : term);
        return (a === b) !== literal.negated;
      }
      if (this.#fluent[literal.predicate]) return true;
      return this.#facts.isListed(this.#joiner.find(literal, binding)) !== literal.negated;
    });
  }
}

function isPlain({ variables, conditions }: SchemaEffect): boolean {
  return variables.length === 0 && conditions.length === 1 && conditions[0]!.literals.length === 0;
}

/** The highest variable that a condition and effects use, or -1. */
function highest(
  parameters: number,
  alternative: Alternative,
  effects: readonly SchemaEffect[],
): number {
  const used = [
    parameters - 1,
    ...alternative.variables,
    ...effects.flatMap((each) => [
      ...each.variables,
      ...each.conditions.flatMap((condition) => condition.variables),
    ]),
  ];
  return Math.max(...used);
}

function merged(one: Alternative, other: Alternative, variables: readonly number[]): Alternative {
  return {
    variables: [...one.variables, ...variables, ...other.variables],
    literals: [...one.literals, ...other.literals],
  };
}

/** Operators by the literals of their conditions: operator's from `from[op]` to `from[op + 1]`. */
function watch(from: readonly number[], literals: readonly number[], facts: number) {
  const starts = new Uint32Array(2 * facts + 1);
  for (const literal of literals) starts[literal + 1]!++;
  for (let at = 1; at < starts.length; at++) starts[at]! += starts[at - 1]!;
  const next = starts.slice();
  const watchers = new Uint32Array(literals.length);
  for (let operator = 0; operator < from.length - 1; operator++) {
    for (let at = from[operator]!; at < from[operator + 1]!; at++) {
      watchers[next[literals[at]!]!++] = operator;
    }
  }
  return { watchStart: narrow(starts), watchers: narrow(watchers) };
}

/** Counts of literals that do not hold, with room for all literals of the longest condition. */
function unsatisfied(
  from: readonly number[],
  literals: readonly number[],
  holds: (fact: number) => boolean,
): Numbers {
  let longest = 0;
  for (let at = 1; at < from.length; at++) longest = Math.max(longest, from[at]! - from[at - 1]!);
  const counts = longest < 256 ? new Uint8Array(from.length - 1) : new Uint32Array(from.length - 1);
  for (let operator = 0; operator < counts.length; operator++) {
    for (let at = from[operator]!; at < from[operator + 1]!; at++) {
      const literal = literals[at]!;
      if (holds(literal >> 1) !== ((literal & 1) === 0)) counts[operator]!++;
    }
  }
  return counts;
}

/** The same numbers in as few bytes as hold them. */
export function narrow(numbers: ArrayLike<number>): Numbers {
  let most = 0;
  for (let at = 0; at < numbers.length; at++) most = Math.max(most, numbers[at]!);
  if (most < 256) return Uint8Array.from(numbers);
  return most < 65_536 ? Uint16Array.from(numbers) : Uint32Array.from(numbers);
}
