/**
 * Conditions as alternatives of literals (disjunctive normal form). "There is" becomes one more
 * variable of an alternative, "for all" is written out over the problem's objects.
 */
import { UserError } from "../../errors.ts";
import type { Domain } from "./domain.ts";
import type { Atom, Formula, Typed } from "./formula.ts";
import type { Problem } from "./problem.ts";

/** A predicate that stands for equality. */
export const equality = -1;

/** Arguments: a variable's number, or -1 - n for object n. */
export interface Literal {
  readonly predicate: number;
  readonly args: readonly number[];
  readonly negated: boolean;
}

/** Literals that hold together, with the variables that they (and their scope) are about. */
export interface Alternative {
  readonly variables: readonly number[];
  readonly literals: readonly Literal[];
}

/** More than any real domain comes near; a guard against formulas that explode. */
const mostLiterals = 200_000;

/** Which objects are of which type. */
export class Types {
  readonly #members = new Map<string, Uint8Array>();

  constructor(readonly domain: Domain, readonly problem: Problem) {}

  /** 1 where the object is of the type, by object. Unknown types have no members. */
  members(type: string): Uint8Array {
    const known = this.#members.get(type);
    if (known !== undefined) return known;
    const is = new Map([...this.domain.types].map(([name, all]) => [name, all.has(type)]));
    const members = Uint8Array.from(this.problem.types, (each) => Number(is.get(each) ?? false));
    this.#members.set(type, members);
    return members;
  }

  /** Numbers of the type's objects, ascending. */
  list(type: string): number[] {
    const members = this.members(type);
    return this.problem.objects.flatMap((_, number) => members[number] === 1 ? [number] : []);
  }
}

/** Variables by name: a number as in `Literal.args`. */
type Scope = ReadonlyMap<string, number>;

/** Turns formulas over one scope into alternatives; numbers the variables that it meets. */
export class Normalizer {
  readonly variables: Typed[];
  readonly #scope: Scope;
  readonly #numbers: ReadonlyMap<string, number>;
  #literals = 0;

  /** @param variables those in scope, numbered from 0 */
  constructor(
    readonly types: Types,
    numbers: ReadonlyMap<string, number>,
    variables: readonly Typed[],
  ) {
    this.variables = [...variables];
    this.#scope = new Map(variables.map(({ name }, number) => [name, number]));
    this.#numbers = numbers;
  }

  /** @throws {UserError} where the formula names no object of the problem, or is too large */
  alternatives(formula: Formula): Alternative[] {
    return this.#expand(formula, false, this.#scope);
  }

  /** The atom of an effect as a literal. */
  literal(atom: Atom, negated: boolean, scope: Scope = this.#scope): Literal {
    const predicate = atom.predicate === "="
      ? equality
      : this.types.domain.predicates.get(atom.predicate)!.id;
    return { predicate, args: atom.args.map((arg) => this.#term(arg, scope)), negated };
  }

  #term(name: string, scope: Scope): number {
    const variable = scope.get(name);
    if (variable !== undefined) return variable;
    const object = this.#numbers.get(name);
    // A domain may speak of kinds that a problem does not have: no fact can be about them.
    return object === undefined ? missing : -1 - object;
  }

  #expand(formula: Formula, negated: boolean, scope: Scope): Alternative[] {
    switch (formula.kind) {
      case "atom":
        this.#count(1);
        return [{ variables: [], literals: [this.literal(formula, negated, scope)] }];
      case "not":
        return this.#expand(formula.part, !negated, scope);
      case "and":
      case "or": {
        const parts = formula.parts.map((part) => this.#expand(part, negated, scope));
        return (formula.kind === "and") !== negated ? this.#product(parts) : parts.flat();
      }
      case "exists":
      case "forall": {
        if ((formula.kind === "exists") === negated) {
          return this.#product(
            this.#instances(formula.variables, scope)
              .map((each) => this.#expand(formula.part, negated, each)),
          );
        }
        const inner = new Map(scope);
        const variables = formula.variables.map((each) => {
          inner.set(each.name, this.variables.length);
          return this.variables.push(each) - 1;
        });
        return this.#expand(formula.part, negated, inner)
          .map((each) => ({ ...each, variables: [...variables, ...each.variables] }));
      }
    }
  }

  #instances(variables: readonly Typed[], scope: Scope): Scope[] {
    let scopes = [scope];
    for (const { name, type } of variables) {
      const objects = this.types.list(type);
      this.#count(scopes.length * objects.length);
      scopes = scopes.flatMap((each) =>
        objects.map((object) => new Map([...each, [name, -1 - object]]))
      );
    }
    return scopes;
  }

  #product(parts: readonly Alternative[][]): Alternative[] {
    let product: Alternative[] = [{ variables: [], literals: [] }];
    for (const part of parts) {
      product = product.flatMap((left) =>
        part.map((right) => {
          this.#count(left.literals.length + right.literals.length);
          return {
            variables: [...left.variables, ...right.variables],
            literals: [...left.literals, ...right.literals],
          };
        })
      );
    }
    return product;
  }

  #count(literals: number): void {
    this.#literals += literals;
    if (this.#literals > mostLiterals) {
      throw new UserError(
        `a condition over ${this.types.problem.objects.length} objects comes to more than ` +
          `${mostLiterals} literals: it is too large to play`,
      );
    }
  }
}

/** An object that the problem lacks. */
export const missing = -1_000_000;
