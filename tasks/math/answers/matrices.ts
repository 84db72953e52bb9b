/** Matrices and what is computed from them: sums, multiples and products, entry by entry. */
import type { Node, Of } from "./node.ts";
import { some } from "./node.ts";
import { integer } from "./parse.ts";

type Rows = Of<"matrix">["rows"];

const mostEntries = 400;
export const hasMatrix = (node: Node) => some(node, ({ t }) => t === "matrix");

function entrywise(a: Rows, b: Rows): Rows | undefined {
  if (a.length !== b.length || a[0]!.length !== b[0]!.length) return undefined;
  return a.map((row, i) => row.map((x, j): Node => ({ t: "add", terms: [x, b[i]![j]!] })));
}

const scaled = (rows: Rows, by: Node): Rows =>
  rows.map((row) => row.map((x): Node => ({ t: "multiply", factors: [by, x] })));

function multiplied(a: Rows, b: Rows): Rows | undefined {
  if (a[0]!.length !== b.length) return undefined;
  return a.map((row) =>
    b[0]!.map((_, j): Node => ({
      t: "add",
      terms: row.map((x, k): Node => ({ t: "multiply", factors: [x, b[k]![j]!] })),
    }))
  );
}

/** The rows of the matrix that `node` comes to; undefined where it is no matrix. */
export function matrixRows(node: Node): Rows | undefined {
  if (!hasMatrix(node)) return undefined;
  switch (node.t) {
    case "matrix":
      return node.determinant || node.rows.length * node.rows[0]!.length > mostEntries
        ? undefined
        : node.rows;
    case "negate": {
      const rows = matrixRows(node.a);
      return rows && scaled(rows, integer(-1));
    }
    case "divide": {
      const rows = matrixRows(node.a);
      return rows && !hasMatrix(node.b)
        ? scaled(rows, { t: "divide", a: integer(1), b: node.b })
        : undefined;
    }
    case "add":
      return node.terms.map(matrixRows).reduce((a, b) => a && b && entrywise(a, b));
    case "multiply": {
      const scalars = node.factors.filter((factor) => !hasMatrix(factor));
      const product = node.factors.filter(hasMatrix).map(matrixRows).reduce((a, b) =>
        a && b && multiplied(a, b)
      );
      return product &&
        (scalars.length === 0 ? product : scaled(product, { t: "multiply", factors: scalars }));
    }
    default:
      return undefined;
  }
}
