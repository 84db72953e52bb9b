/** Equations and inequalities as wholes: the same where one is a multiple of the other. */
import type { Verdict } from "./algebra.ts";
import type { Of, RelationOperator } from "./node.ts";
import { symbolsIn } from "./node.ts";
import { normalForm } from "./normal_form.ts";
import { difference, proportion } from "./quotient.ts";
import { attempt, type Polynomial } from "./polynomial.ts";

const mirrored: Readonly<Record<RelationOperator, RelationOperator>> = {
  "=": "=",
  "!=": "!=",
  "<": ">",
  ">": "<",
  "<=": ">=",
  ">=": "<=",
  in: "in",
};

interface Sides {
  readonly op: RelationOperator;
  /** What stands on the left once the right side is zero. */
  readonly gap: Polynomial;
}

function gaps({ sides, ops }: Of<"relation">): Sides[] {
  return ops.map((op, i) => ({
    op,
    gap: difference(normalForm(sides[i]!), normalForm(sides[i + 1]!)),
  }));
}

/** An equation that says what its one symbol is: a multiple of it is not solved any more. */
function isSolved({ sides, ops }: Of<"relation">): boolean {
  return ops.length === 1 && ops[0] === "=" && sides.some(({ t }) => t === "symbol") &&
    symbolsIn({ t: "add", terms: sides }).length === 1;
}

/** Whether two relations hold for the same values, as far as multiples tell. */
export function compareRelations(gold: Of<"relation">, found: Of<"relation">): Verdict {
  const different = { equal: false, reason: "not the same relation" };
  if (gold.ops.length !== found.ops.length) return different;
  const same = attempt(() => {
    const [a, b] = [gaps(gold), gaps(found)];
    // A chain may be read from either end.
    return [b, b.toReversed()].some((order) =>
      a.every(({ op, gap }, i) => {
        const other = order[i]!;
        if (gap.size === 0 || other.gap.size === 0) {
          return gap.size === other.gap.size && op === other.op;
        }
        const scale = proportion(gap, other.gap);
        if (scale === undefined) return false;
        if (isSolved(gold) && (scale.d !== 1n || (scale.n !== 1n && scale.n !== -1n))) return false;
        return other.op === (scale.n > 0n ? op : mirrored[op]);
      })
    );
  });
  return same === true ? { equal: true, reason: "equal" } : different;
}
