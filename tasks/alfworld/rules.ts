/**
 * Finding all instances of a rule: values for its variables with which its positive literals are
 * facts that can come to hold. Facts are fed in one at a time; each instance is found when the last
 * of its facts is fed in (delete relaxation, as planners ground their operators).
 */
import type { FactTable } from "./facts.ts";
import { type Alternative, equality, type Literal, missing, type Types } from "./normal_form.ts";

/** Called with the variables' values, which are overwritten afterwards. */
export type Found = (binding: Int32Array) => void;

interface Check {
  readonly at: number;
  /** A variable, or -1 - n for object n. */
  readonly term: number;
}

interface Bind {
  readonly at: number;
  readonly variable: number;
  readonly allowed: Uint8Array;
}

type Step =
  | {
    readonly kind: "match";
    readonly predicate: number;
    readonly lookup: Check | undefined;
    readonly checks: readonly Check[];
    readonly binds: readonly Bind[];
  }
  | { readonly kind: "known"; readonly literal: Literal }
  | { readonly kind: "any"; readonly variable: number; readonly objects: readonly number[] };

interface Plan {
  readonly rule: Rule;
  readonly checks: readonly Check[];
  readonly binds: readonly Bind[];
  readonly steps: readonly Step[];
}

/** A conjunction to find instances of. */
export interface Rule {
  readonly alternative: Alternative;
  /** Type by variable number; the alternative's own variables and `parameters` are bound. */
  readonly typeOf: (variable: number) => string;
  readonly parameters: readonly number[];
  readonly found: Found;
}

/** Joins rules with facts. Predicates with `fluent` false are complete before the first rule. */
export class Joiner {
  readonly #plans = new Map<number, Plan[]>();
  readonly #binding: Int32Array;
  readonly #scratch: Int32Array;

  /** @param variables most variables of any rule */
  constructor(
    readonly facts: FactTable,
    readonly types: Types,
    readonly fluent: readonly boolean[],
    variables: number,
  ) {
    this.#binding = new Int32Array(Math.max(1, variables));
    this.#scratch = new Int32Array(facts.stride);
  }

  /** Adds a rule; instances that need no fluent fact are found at once. */
  add(rule: Rule): void {
    const literals = rule.alternative.literals;
    if (literals.some((each) => !each.negated && each.args.includes(missing))) return;
    const positive = literals.filter((each) => !each.negated && each.predicate !== equality);
    const triggers = positive.filter((each) => this.fluent[each.predicate]);
    if (triggers.length === 0) {
      this.#run({ rule, ...this.#plan(rule, positive, undefined) }, 0);
      return;
    }
    for (const trigger of triggers) {
      const plan = { rule, ...this.#plan(rule, positive, trigger) };
      const plans = this.#plans.get(trigger.predicate);
      if (plans === undefined) this.#plans.set(trigger.predicate, [plan]);
      else plans.push(plan);
    }
  }

  /** Tells of a fluent fact that can come to hold. */
  feed(fact: number): void {
    const { facts } = this;
    facts.list(fact);
    for (const plan of this.#plans.get(facts.predicates[fact]!) ?? []) {
      if (this.#unify(plan, fact)) this.#run(plan, 0);
    }
  }

  #plan(rule: Rule, positive: readonly Literal[], trigger: Literal | undefined) {
    const bound = new Set<number>();
    const split = (literal: Literal) => {
      const checks: Check[] = [];
      const binds: Bind[] = [];
      const before = new Set(bound);
      for (const [at, term] of literal.args.entries()) {
        if (term >= 0 && !bound.has(term)) {
          bound.add(term);
          const allowed = this.types.members(rule.typeOf(term));
          binds.push({ at, variable: term, allowed });
        } else if (before.has(term) || term < 0) checks.unshift({ at, term });
        else checks.push({ at, term });
      }
      const usable = checks.length > 0 && (checks[0]!.term < 0 || before.has(checks[0]!.term));
      return { checks, binds, usable };
    };
    const first = trigger === undefined ? { checks: [], binds: [] } : split(trigger);
    const rest = positive.filter((each) => each !== trigger);
    const steps: Step[] = [];
    while (rest.length > 0) {
      const open = (each: Literal) => each.args.filter((t) => t >= 0 && !bound.has(t)).length;
      const cost = (each: Literal) =>
        open(each) * 4 - (each.args.length - open(each)) * 2 +
        (this.fluent[each.predicate] ? 1 : 0);
      rest.sort((a, b) => cost(a) - cost(b));
      const literal = rest.shift()!;
      if (open(literal) === 0) steps.push({ kind: "known", literal });
      else {
        const { checks, binds, usable } = split(literal);
        const lookup = usable ? checks[0] : undefined;
        const others = usable ? checks.slice(1) : checks;
        steps.push({
          kind: "match",
          predicate: literal.predicate,
          lookup,
          checks: others,
          binds,
        });
      }
    }
    for (const variable of [...rule.parameters, ...rule.alternative.variables]) {
      if (bound.has(variable)) continue;
      bound.add(variable);
      const objects = this.types.list(rule.typeOf(variable));
      steps.push({ kind: "any", variable, objects });
    }
    return { ...first, steps };
  }

  #value(term: number): number {
    return term >= 0 ? this.#binding[term]! : -1 - term;
  }

  #unify({ checks, binds }: { checks: readonly Check[]; binds: readonly Bind[] }, fact: number) {
    const { args, stride } = this.facts;
    const start = fact * stride;
    for (const { at, variable, allowed } of binds) {
      const object = args[start + at]!;
      if (allowed[object] !== 1) return false;
      this.#binding[variable] = object;
    }
    for (const { at, term } of checks) if (args[start + at] !== this.#value(term)) return false;
    return true;
  }

  #run(plan: Plan, depth: number): void {
    const step = plan.steps[depth];
    if (step === undefined) {
      if (this.#holdsElsewhere(plan.rule.alternative)) plan.rule.found(this.#binding);
      return;
    }
    const { facts } = this;
    switch (step.kind) {
      case "known":
        if (facts.isListed(this.find(step.literal, this.#binding))) this.#run(plan, depth + 1);
        return;
      case "any":
        for (const object of step.objects) {
          this.#binding[step.variable] = object;
          this.#run(plan, depth + 1);
        }
        return;
      case "match": {
        const candidates = step.lookup === undefined
          ? facts.matching(step.predicate)
          : facts.matching(step.predicate, step.lookup.at, this.#value(step.lookup.term));
        // What is found on the way may list more facts: those come with feeds of their own.
        for (let at = 0, count = candidates.length; at < count; at++) {
          if (this.#unify(step, candidates[at]!)) this.#run(plan, depth + 1);
        }
      }
    }
  }

  /** The number of the literal's fact under a binding, or -1. */
  find(literal: Literal, binding: Int32Array): number {
    const count = literal.args.length;
    for (let at = 0; at < count; at++) {
      const term = literal.args[at]!;
      if (term === missing) return -1;
      this.#scratch[at] = term >= 0 ? binding[term]! : -1 - term;
    }
    return this.facts.find(literal.predicate, this.#scratch, count);
  }

  /** The number of the literal's fact under a binding, numbering it where it is new; -1: none. */
  make(literal: Literal, binding: Int32Array): number {
    const count = literal.args.length;
    for (let at = 0; at < count; at++) {
      const term = literal.args[at]!;
      if (term === missing) return -1;
      this.#scratch[at] = term >= 0 ? binding[term]! : -1 - term;
    }
    return this.facts.add(literal.predicate, this.#scratch, count);
  }

  /** Equalities, and negative literals that no action can change. */
  #holdsElsewhere(alternative: Alternative): boolean {
    for (const literal of alternative.literals) {
      if (literal.predicate === equality) {
        const [a, b] = literal.args;
        if ((this.#value(a!) === this.#value(b!)) === literal.negated) return false;
      } else if (literal.negated && !this.fluent[literal.predicate]) {
        if (this.facts.isListed(this.find(literal, this.#binding))) return false;
      }
    }
    return true;
  }
}
