/**
 * Whether two answers are the same answer, by what they are: each kind has its rule, and kinds that do
 * not go together are different. Conventions, where mathematics leaves a choice: units, degree and
 * currency signs carry no value; a percentage may stand for its number or its hundredth; the order of a
 * list does not count, that of a tuple does; open is not closed; a point is not a vector.
 */
import { equalExpressions, type Verdict } from "./algebra.ts";
import { type Labelled, unlabel } from "./labels.ts";
import { hasMatrix, matrixRows } from "./matrices.ts";
import { isExpression, type Node, type Of, some } from "./node.ts";
import { realValue } from "./numeric.ts";
import { integer } from "./parse.ts";
import { fromDecimal } from "./rational.ts";
import { compareRelations } from "./relations.ts";
import { isSetOfReals, type RealSet, toRealSet } from "./sets.ts";
import { equalText, numberInWords } from "./text.ts";

const same: Verdict = { equal: true, reason: "equal" };
const different = (reason = "not equal"): Verdict => ({ equal: false, reason });

/** Beyond this many items an answer is only compared item by item in order. */
const mostItems = 60;

/** Milliseconds after which a comparison of many items is given up. */
const itemsLimit = 3000;

function stopwatch(): () => boolean {
  const end = performance.now() + itemsLimit;
  return () => performance.now() > end;
}

/** Compares item by item; equal where all are. */
async function inOrder(a: readonly Node[], b: readonly Node[]): Promise<Verdict> {
  if (a.length !== b.length) return different(`${b.length} items for ${a.length}`);
  const late = stopwatch();
  for (const [i, item] of a.entries()) {
    const verdict = await compare(item, b[i]!);
    if (!verdict.equal) return verdict;
    if (late()) return different("too long to compare");
  }
  return same;
}

/** Compares as sets: every item of each has its like in the other. */
async function inAnyOrder(a: readonly Node[], b: readonly Node[]): Promise<Verdict> {
  if (a.length > mostItems || b.length > mostItems) return await inOrder(a, b);
  const matched = new Set<number>();
  const late = stopwatch();
  for (const item of a) {
    let found = false;
    // One item of the prediction may not stand for two different ones: equality is transitive.
    for (const [j, other] of b.entries()) {
      if (late()) return different("too long to compare");
      if ((await compare(item, other)).equal) {
        matched.add(j);
        found = true;
      }
    }
    if (!found) return different("an item is missing");
  }
  return matched.size === b.length ? same : different("an item too many");
}

/** ± as the two answers that it stands for. */
export function expand(node: Node): Node {
  if (node.t === "list") {
    const items = node.items.flatMap((item) => {
      const inner = expand(item);
      return inner.t === "list" && item.t !== "list" ? inner.items : [inner];
    });
    return { ...node, items };
  }
  if (node.t === "set" && node.condition === undefined) {
    const { items } = expand({ t: "list", items: node.items, by: "comma" }) as Of<"list">;
    return { ...node, items };
  }
  const open = (each: Node) => some(each, ({ t }) => t === "plusminus");
  if (!open(node)) return node;
  const items = [withSign(node, 1), withSign(node, -1)];
  // Where ± stands in something that it is not looked for in, it stays.
  return items.some(open) ? node : { t: "list", by: "or", items };
}

function withSign(node: Node, sign: 1 | -1): Node {
  const go = (each: Node) => withSign(each, sign);
  switch (node.t) {
    case "plusminus":
      return node.sign === sign ? go(node.a) : { t: "negate", a: go(node.a) };
    case "add":
      return { ...node, terms: node.terms.map(go) };
    case "multiply":
      return { ...node, factors: node.factors.map(go) };
    case "divide":
      return { ...node, a: go(node.a), b: go(node.b) };
    case "negate":
    case "degrees":
    case "percent":
      return { ...node, a: go(node.a) };
    case "power":
      return { ...node, base: go(node.base), exponent: go(node.exponent) };
    case "root":
      return { ...node, a: go(node.a) };
    case "call":
      return { ...node, args: node.args.map(go) };
    case "tuple":
      return { ...node, items: node.items.map(go) };
    case "relation":
      return { ...node, sides: node.sides.map(go) };
    default:
      return node;
  }
}

/** The items of a list or a plain set. */
function itemsOf(node: Node): readonly Node[] | undefined {
  if (node.t === "list") return node.items;
  return node.t === "set" && node.condition === undefined && node.items.length > 0
    ? node.items
    : undefined;
}

/** Groups such as `p = 5, q = 2` in a list parted by semicolons are points. */
function asPoint(node: Node): Node {
  if (node.t !== "list") return node;
  return {
    t: "tuple",
    open: "(",
    close: ")",
    items: node.items.map((item) => unlabel(item).value),
  };
}

async function compareLists(gold: readonly Node[], found: readonly Node[]): Promise<Verdict> {
  const nested = gold.some(({ t }) => t === "list") || found.some(({ t }) => t === "list");
  const [a, b] = [gold, found].map((items) =>
    items.map((item) => unlabel(nested ? asPoint(item) : item))
  ) as [Labelled[], Labelled[]];
  const names = (items: Labelled[]) => new Set(items.map(({ label }) => label));
  const named = (items: Labelled[]) =>
    names(items).size === items.length && !names(items).has(undefined) && items.length > 1;
  const values = (items: Labelled[]) => items.map(({ value }) => value);
  if (named(a) && named(b)) {
    const byName = new Map(b.map((item) => [item.label, item]));
    if (a.every(({ label }) => byName.has(label)) && a.length === b.length) {
      return await inOrder(values(a), a.map(({ label }) => byName.get(label)!.value));
    }
  }
  // Numbered names (x_1, x_2) say no more than the list does; others say which value is whose.
  const numbered = (items: Labelled[]) =>
    items.every(({ label }) => label === undefined || /_\d+$/.test(label));
  if ((named(a) && !numbered(a)) || (named(b) && !numbered(b))) {
    return await inOrder(values(a), values(b));
  }
  return await inAnyOrder(values(a), values(b));
}

/** A point or vector against another: brackets that may mean an interval must agree. */
async function compareTuples(gold: Of<"tuple">, found: Of<"tuple">): Promise<Verdict> {
  if ((gold.open === "<") !== (found.open === "<")) return different("a point is not a vector");
  if (gold.open !== found.open || gold.close !== found.close) {
    const mixed = [gold, found].some(({ open, close }) => (open === "(") !== (close === ")"));
    const [low, high] = gold.items.map(realValue);
    const interval = gold.items.length === 2 && low !== undefined && high !== undefined &&
      low < high;
    if (mixed || interval) return different("open is not closed");
  }
  return await inOrder(gold.items, found.items);
}

async function compareSets(gold: RealSet, found: RealSet): Promise<Verdict> {
  if (gold.length !== found.length) return different("not the same set");
  for (const [i, a] of gold.entries()) {
    const b = found[i]!;
    if (a.hasLow !== b.hasLow || a.hasHigh !== b.hasHigh) return different("open is not closed");
    for (const [x, y] of [[a.low, b.low], [a.high, b.high]] as const) {
      if (
        Math.abs(x.value) === Infinity
          ? x.value === y.value
          : (await equalExpressions(x.node, y.node)).equal
      ) continue;
      return different("not the same set");
    }
  }
  return same;
}

async function compareSetLike(gold: Node, found: Node): Promise<Verdict> {
  if (found.t === "list" && !isSetOfReals(found)) return different("a list is not an interval");
  const [a, b] = [toRealSet(gold), toRealSet(found)];
  if (a !== undefined && b !== undefined) return await compareSets(a, b);
  if (gold.t === "relation" && found.t === "relation") return compareRelations(gold, found);
  if (gold.t === "tuple" && found.t === "tuple") return await compareTuples(gold, found);
  if (gold.t === "setop" && found.t === "setop" && gold.op === found.op) {
    const parts = (node: Node, op: string): Node[] =>
      node.t === "setop" && node.op === op ? [...parts(node.a, op), ...parts(node.b, op)] : [node];
    const [x, y] = [parts(gold, gold.op), parts(found, gold.op)];
    return gold.op === "difference" ? await inOrder(x, y) : await inAnyOrder(x, y);
  }
  if (
    gold.t === "set" && found.t === "set" && gold.condition !== undefined &&
    found.condition !== undefined
  ) {
    const verdict = await inOrder(gold.items, found.items);
    return verdict.equal ? await compare(gold.condition, found.condition) : verdict;
  }
  return different("not the same set");
}

/** A percentage stands for its number or for its hundredth where the other is a plain number. */
async function comparePercent(gold: Node, found: Node): Promise<Verdict> {
  if (gold.t === "percent" && found.t === "percent") return await compare(gold.a, found.a);
  const exact = await equalExpressions(gold, found);
  if (exact.equal) return exact;
  const [percent, plain] = gold.t === "percent" ? [gold, found] : [found as Of<"percent">, gold];
  // `0.63%` is not 0.63, but who answers `30%` where 30 is asked for a percentage means 30.
  if (found.t === "percent") {
    const value = realValue(plain);
    if (value === undefined || Math.abs(value) < 1) return exact;
  }
  return await equalExpressions(percent.a, plain);
}

function compareBased(gold: Node, found: Node): Verdict {
  const parts = (node: Node): string | undefined => {
    if (node.t === "negate") {
      const inner = parts(node.a);
      return inner && `-${inner}`;
    }
    return node.t === "based"
      ? `${node.negative ? "-" : ""}${node.digits}`
      : node.t === "number"
      ? node.digits
      : undefined;
  };
  const base = (node: Node): string | undefined =>
    node.t === "negate" ? base(node.a) : node.t === "based" ? node.base : undefined;
  const [a, b] = [parts(gold), parts(found)];
  if (a === undefined || a !== b) return different();
  const [x, y] = [base(gold), base(found)];
  return x === undefined || y === undefined || x === y ? same : different("another base");
}

const isBased = (node: Node): boolean =>
  node.t === "based" || (node.t === "negate" && isBased(node.a));

async function compareRatios(gold: Node, found: Node): Promise<Verdict> {
  if (gold.t === "ratio" && found.t === "ratio") {
    if (gold.parts.length !== found.parts.length) return different();
    // 4:30 may be a time of day, which is not reduced.
    if (isClock(gold) || isClock(found)) return await inOrder(gold.parts, found.parts);
    for (const [i, part] of gold.parts.entries()) {
      const cross = await equalExpressions(
        { t: "multiply", factors: [part, found.parts[0]!] },
        { t: "multiply", factors: [found.parts[i]!, gold.parts[0]!] },
      );
      if (!cross.equal) return cross;
    }
    return same;
  }
  const quotient = (node: Node): Node | undefined => {
    if (node.t !== "ratio") return isExpression(node) ? node : undefined;
    return node.parts.length === 2 && !isClock(node)
      ? { t: "divide", a: node.parts[0]!, b: node.parts[1]! }
      : undefined;
  };
  const [a, b] = [quotient(gold), quotient(found)];
  return a === undefined || b === undefined ? different() : await equalExpressions(a, b);
}

const isClock = ({ parts }: Of<"ratio">) =>
  parts.length > 1 && parts.slice(1).every((part) =>
    part.t === "number" && /^[0-5]\d$/.test(part.digits)
  ) &&
  parts[0]!.t === "number" && Number(parts[0]!.digits) < 25 && parts[1]!.t === "number" &&
  /^(?:\d0|\d5|0\d)$/.test(parts[1]!.digits);

/** `1000,99` where a number is asked: a comma before the decimals, as much of the world writes it. */
function decimalComma(node: Node): Node | undefined {
  if (node.t !== "list" || node.items.length !== 2) return undefined;
  const [whole, decimals] = node.items;
  if (whole?.t !== "number" || decimals?.t !== "number" || whole.decimals !== undefined) {
    return undefined;
  }
  if (!/^\d{2}$|^\d{4,}$/.test(decimals.digits)) return undefined;
  const text = `${whole.digits}.${decimals.digits}`;
  return { t: "number", value: fromDecimal(text), digits: text, decimals: decimals.digits.length };
}

function wordsToNumber(node: Node): Node {
  const number = node.t === "text" ? numberInWords(node.text) : undefined;
  return number === undefined ? node : integer(number);
}

async function compareHalfdays(gold: Node, found: Node): Promise<Verdict> {
  const [a, b] = [gold, found].map((node) => node.t === "halfday" ? node : undefined);
  if (a !== undefined && b !== undefined && a.half !== b.half) {
    return different("morning is not afternoon");
  }
  // 4 p.m. is 4:00 p.m.
  const hour = (node: Node): Node => {
    if (node.t !== "ratio" || node.parts.length !== 2) return node;
    const [, minutes] = node.parts;
    return minutes?.t === "number" && minutes.value.n === 0n ? node.parts[0]! : node;
  };
  const [x, y] = [hour(a?.a ?? gold), hour(b?.a ?? found)];
  if (x.t === "ratio" && y.t === "ratio") return await inOrder(x.parts, y.parts);
  return x.t === "ratio" || y.t === "ratio" ? different() : await compare(x, y);
}

async function compareMatrices(gold: Node, found: Node): Promise<Verdict> {
  const [a, b] = [matrixRows(gold), matrixRows(found)];
  if (a === undefined || b === undefined) {
    return different("a matrix is compared with something else");
  }
  if (a.length !== b.length) return different("another shape");
  for (const [i, row] of a.entries()) {
    const verdict = await inOrder(row, b[i]!);
    if (!verdict.equal) return verdict;
  }
  return same;
}

/** Values without names: what kind each is decides the rule. */
async function compareValues(gold: Node, found: Node): Promise<Verdict> {
  [gold, found] = [wordsToNumber(gold), wordsToNumber(found)];
  if (gold.t === "text" && found.t === "text") {
    return equalText(gold.text, found.text) ? same : different();
  }
  const [goldItems, foundItems] = [itemsOf(gold), itemsOf(found)];
  if (goldItems?.length === 1 && foundItems === undefined) {
    return await compare(goldItems[0]!, found);
  }
  if (foundItems?.length === 1 && goldItems === undefined) {
    return await compare(gold, foundItems[0]!);
  }
  if (hasMatrix(gold) || hasMatrix(found)) {
    if (goldItems === undefined && foundItems === undefined) {
      return await compareMatrices(gold, found);
    }
  }
  if (isSetOfReals(gold) || isSetOfReals(found)) {
    const points = goldItems !== undefined && foundItems !== undefined && !isSetOfReals(gold) &&
      !isSetOfReals(found);
    const listOfSets = goldItems !== undefined && foundItems !== undefined && gold.t === "list" &&
      found.t === "list" &&
      toRealSet(gold) === undefined;
    if (!points && !listOfSets) return await compareSetLike(gold, found);
  }
  if (goldItems !== undefined && foundItems !== undefined) {
    const verdict = await compareLists(goldItems, foundItems);
    if (verdict.equal || gold.t !== "list" || found.t !== "list") return verdict;
    const [a, b] = [decimalComma(gold), decimalComma(found)];
    return a !== undefined && b !== undefined ? await equalExpressions(a, b) : verdict;
  }
  if (gold.t === "tuple" && found.t === "tuple") return await compareTuples(gold, found);
  if (gold.t === "tuple" && foundItems !== undefined && gold.open === "(") {
    return await inOrder(gold.items, foundItems.map((item) => unlabel(item).value));
  }
  if (goldItems !== undefined && found.t === "tuple" && found.open !== "<") {
    return await inOrder(goldItems.map((item) => unlabel(item).value), found.items);
  }
  for (const [list, other] of [[gold, found], [found, gold]] as const) {
    const number = decimalComma(list);
    if (number !== undefined && isExpression(other)) return await equalExpressions(number, other);
  }
  if (gold.t === "halfday" || found.t === "halfday") return await compareHalfdays(gold, found);
  if (isBased(gold) || isBased(found)) return compareBased(gold, found);
  if (gold.t === "ratio" || found.t === "ratio") return await compareRatios(gold, found);
  if (gold.t === "relation" && found.t === "relation") return compareRelations(gold, found);
  if (!isExpression(gold) || !isExpression(found)) return different("not the same kind of answer");
  if (gold.t === "percent" || found.t === "percent") return await comparePercent(gold, found);
  return await equalExpressions(gold, found);
}

/** Whether `found` is the answer `gold`. */
export async function compare(gold: Node, found: Node): Promise<Verdict> {
  const [a, b] = [unlabel(gold), unlabel(found)];
  const bothNamed = a.label !== undefined && b.label !== undefined;
  const equations = gold.t === "relation" && found.t === "relation";
  if (equations && (bothNamed ? a.label !== b.label : a.label !== undefined || a.value === gold)) {
    const verdict = compareRelations(gold, found);
    if (verdict.equal) return verdict;
    if (bothNamed && a.simple && b.simple && a.label !== b.label) return different("another name");
    if (a.value === gold || b.value === found) return verdict;
  }
  return await compareValues(expand(a.value), expand(b.value));
}
