/**
 * The computer-algebra core, in a thread of its own that its owner ends when it takes too long: whether
 * two expressions are equal, by compute-engine in fifty digits and by its simplifier.
 */
import { parentPort } from "node:worker_threads";
import { ComputeEngine } from "@cortex-js/compute-engine";
import type { AlgebraReply, AlgebraRequest, MathJson } from "./algebra.ts";

const engine = new ComputeEngine();
engine.precision = 50;

/** Values of the symbols, as exact fractions: positive, and with nothing in common. */
const points = [["7/5", "3/11", "13/8", "5/7", "19/12"], ["2/9", "17/6", "4/7", "23/10", "8/13"]];

/** How much of two sizes is the same: digits; undefined where either has no value. */
function agreement(a: MathJson, b: MathJson): number | undefined {
  const [x, y] = [engine.box(a as never).N(), engine.box(b as never).N()];
  const gap = engine.box(["Abs", ["Subtract", x.json, y.json]] as never).N();
  const size = engine.box(["Add", 1, ["Abs", y.json]] as never).N();
  const ratio = engine.box(["Divide", gap.json, size.json] as never).N().re;
  if (typeof ratio !== "number" || Number.isNaN(ratio)) return undefined;
  return ratio === 0 ? Infinity : -Math.log10(ratio);
}

function substituted(node: MathJson, values: ReadonlyMap<string, MathJson>): MathJson {
  if (typeof node === "string") return values.get(node) ?? node;
  return Array.isArray(node)
    ? node.map((each, i) => i === 0 ? each : substituted(each, values))
    : node;
}

function compare({ a, b, symbols }: AlgebraRequest): AlgebraReply["verdict"] {
  const digits = points.map((values) => {
    const at = new Map(symbols.map((name, i): [string, MathJson] => {
      const [n, d] = values[i % values.length]!.split("/").map(Number);
      return [name, ["Add", ["Rational", n!, d!], Math.floor(i / values.length)]];
    }));
    return agreement(substituted(a, at), substituted(b, at));
  });
  if (digits.some((count) => count !== undefined && count < 20)) return "unequal";
  if (digits.every((count) => count !== undefined && count >= 40)) return "equal";
  return engine.box(["Subtract", a, b] as never).simplify().isSame(0) ? "equal" : "unknown";
}

parentPort!.on("message", (request: AlgebraRequest) => {
  let verdict: AlgebraReply["verdict"] = "unknown";
  try {
    verdict = compare(request);
  } catch {
    // What the engine cannot take is not known to be equal.
  }
  parentPort!.postMessage({ id: request.id, verdict } satisfies AlgebraReply);
});
parentPort!.postMessage({ id: 0, verdict: "unknown" } satisfies AlgebraReply);
