/**
 * Chat templates by `@huggingface/jinja`, with Python's equality: the package compares with
 * JavaScript's loose `==`, for which "" equals false and "1" equals 1, and templates test for that.
 */
import { Template } from "@huggingface/jinja";

/** What a template may count up to: more would only be a way to hang. */
const MOST_STEPS = 100_000;

/** Python's `range`, bounded; for one rendering, as ranges in ranges multiply. */
function boundedRange(): (...bounds: number[]) => number[] {
  let steps = 0;
  return (...bounds) => {
    const [start, stop] = bounds.length === 1 ? [0, bounds[0]!] : [bounds[0]!, bounds[1]!];
    const step = bounds[2] ?? 1;
    const count = Math.max(0, Math.ceil((stop - start) / step));
    steps += count;
    if (!(steps <= MOST_STEPS)) {
      throw new Error(
        `range(${
          bounds.join(", ")
        }) has no end, or all ranges together more than ${MOST_STEPS} steps`,
      );
    }
    return Array.from({ length: count }, (_, i) => start + i * step);
  };
}

/** Names in templates' scope; no template can contain them by accident. */
const EQUALS = "__python_equals__";
const RANGE = "__bounded_range__";

/** A parsed template, ready to render any number of conversations. */
export class ChatTemplate {
  readonly #template: Template;

  /** @throws Error where the source is not Jinja. */
  constructor(source: string) {
    this.#template = new Template(source);
    this.#template.parsed = withPythonEquality(this.#template.parsed) as Template["parsed"];
  }

  /** @throws Error where the template raises one. */
  render(variables: Readonly<Record<string, unknown>>): string {
    return this.#template.render({ ...variables, [EQUALS]: pythonEquals, [RANGE]: boundedRange() });
  }
}

/** Scalars as Python compares them: booleans are the numbers 0 and 1, nothing else converts. */
function pythonEquals(left: unknown, right: unknown): boolean {
  const plain = (value: unknown) => typeof value === "boolean" ? Number(value) : value;
  return plain(left) === plain(right);
}

interface Node {
  type?: string;
  [field: string]: unknown;
}

/** Replaces `a == b` and `a != b` in a syntax tree by calls of {@link pythonEquals}, `range` by ours. */
function withPythonEquality(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(withPythonEquality);
  if (typeof node !== "object" || node === null) return node;
  if (node instanceof Map) {
    const pairs = [...node].map(([k, v]) =>
      [withPythonEquality(k), withPythonEquality(v)] as const
    );
    return new Map(pairs);
  }
  // Nodes keep their class: the interpreter looks at `type`, some of its checks at `instanceof`.
  const copy = Object.assign(Object.create(Object.getPrototypeOf(node)), node) as Node;
  for (const [field, value] of Object.entries(copy)) copy[field] = withPythonEquality(value);
  const callee = copy.callee as Node | undefined;
  if (copy.type === "CallExpression" && callee?.type === "Identifier" && callee.value === "range") {
    copy.callee = { type: "Identifier", value: RANGE };
  }
  if (copy.type !== "BinaryExpression") return copy;
  const operator = (copy.operator as { value: string }).value;
  if (operator !== "==" && operator !== "!=") return copy;
  const call = {
    type: "CallExpression",
    callee: { type: "Identifier", value: EQUALS },
    args: [copy.left, copy.right],
  };
  if (operator === "==") return call;
  return {
    type: "UnaryExpression",
    operator: { value: "not", type: "UnaryOperator" },
    argument: call,
  };
}
