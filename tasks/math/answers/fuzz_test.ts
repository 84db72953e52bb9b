import assert from "node:assert/strict";
import { closeAlgebra, gradeMath } from "./mod.ts";

/** A small generator of numbers that is the same in every run. */
function generator(seed: number) {
  return (below: number) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor(seed / 2 ** 32 * below);
  };
}

const pieces = [
  "\\frac",
  "\\sqrt",
  "\\sqrt[3]",
  "{",
  "}",
  "(",
  ")",
  "[",
  "]",
  "\\{",
  "\\}",
  "^",
  "_",
  "^{",
  "_{",
  "x",
  "y",
  "i",
  "e",
  "\\pi",
  "\\infty",
  "1",
  "23",
  "4.5",
  ".7",
  "1,000",
  "{,}",
  "\\,",
  "\\!",
  ",",
  ";",
  ":",
  "|",
  "\\cup",
  "\\cap",
  "\\in",
  "=",
  "<",
  "\\le",
  "\\ne",
  "+",
  "-",
  "\\pm",
  "\\cdot",
  "*",
  "/",
  "\\text{ cm}",
  "\\text{and}",
  "\\text{(A)}",
  "%",
  "\\%",
  "^\\circ",
  "\\sin",
  "\\log_2",
  "\\ln",
  "!",
  "\\binom",
  "\\begin{pmatrix}",
  "&",
  "\\\\",
  "\\end{pmatrix}",
  "\\left(",
  "\\right)",
  "\\left.",
  "\\over",
  "$",
  "$$",
  "\\boxed{",
  "\\boxed",
  "####",
  " ",
  "\n",
  "the answer is",
  "~",
  "\\",
  "°",
  "½",
  "π",
  "−",
  "😀",
  "\u0000",
  "\\unknown",
  "\\sum_{k=1}^{9}",
  "9^{9^9}",
  "10^{99}",
  "\\mathbb{R}",
  "'",
  "\\overline{3}",
  "0.\\overline{3}",
  "\\def\\x{\\x\\x}\\x",
  "5e300",
  "\\mathrm{",
  "or",
];

/** Formulas that nest as deep as `depth` allows, well-formed. */
function formula(random: (below: number) => number, depth: number): string {
  if (depth === 0) return ["x", "2", "-7", "\\pi", "3.25", "y_1", "i", "\\sqrt2", "e"][random(9)]!;
  const inner = () => formula(random, depth - 1 - random(2) > 0 ? depth - 1 : 0);
  switch (random(12)) {
    case 0:
      return `\\frac{${inner()}}{${inner()}}`;
    case 1:
      return `\\sqrt{${inner()}}`;
    case 2:
      return `{${inner()}}^{${inner()}}`;
    case 3:
      return `\\left(${inner()}, ${inner()}\\right]`;
    case 4:
      return `${inner()} + ${inner()}`;
    case 5:
      return `(${inner()})(${inner()})`;
    case 6:
      return `\\sin(${inner()})`;
    case 7:
      return `\\{${inner()}, ${inner()}\\}`;
    case 8:
      return `\\begin{pmatrix} ${inner()} & ${inner()} \\\\ 1 & 2 \\end{pmatrix}`;
    case 9:
      return `|${inner()}| = ${inner()}`;
    case 10:
      return `${inner()} \\pm ${inner()}`;
    default:
      return `\\log_{${inner()}} (${inner()})`;
  }
}

Deno.test("ten thousand random answers are graded without an error and in time", async () => {
  const random = generator(20261123);
  let slowest = 0;
  for (let i = 0; i < 10_000; i++) {
    const text = () =>
      i % 2 === 0
        ? Array.from({ length: 1 + random(14) }, () => pieces[random(pieces.length)]).join("")
        : formula(random, 1 + random(4));
    const [gold, prediction] = [text(), text()];
    const started = performance.now();
    const grade = await gradeMath(gold, prediction, i % 3 === 0 ? "gsm8k" : "math");
    slowest = Math.max(slowest, performance.now() - started);
    assert.equal(typeof grade.correct, "boolean");
    if (grade.extracted === null) assert.equal(grade.correct, false, prediction);
  }
  await closeAlgebra();
  console.log(`slowest: ${slowest.toFixed(0)} ms`);
  // The algebra engine's own limit, and what starting it takes on a busy machine.
  assert.ok(slowest < 15_000, `${slowest} ms`);
});

const bombs: Readonly<Record<string, [gold: string, prediction: string]>> = {
  "a tower of powers": ["1", "9^{9^{9^9}}"],
  "a tower of powers against itself": ["9^{9^{9^9}}", "9^9^9^9"],
  "a tower of powers, one off": ["9^{9^{9^9}}", "9^{9^{9^9}}+1"],
  "a million nested brackets": ["1", "(".repeat(1e6) + "1" + ")".repeat(1e6)],
  "a thousand nested fractions": ["1", "\\frac{1}{".repeat(1000) + "2" + "}".repeat(1000)],
  "nested roots": ["1", "\\sqrt{".repeat(90) + "2" + "}".repeat(90)],
  "nested boxes": ["1", "\\boxed{".repeat(1e5) + "1" + "}".repeat(1e5)],
  "boxes that never close": ["1", "\\boxed{1 ".repeat(1e5)],
  "a macro bomb": ["1", "\\def\\a{\\b\\b}\\def\\b{\\c\\c}\\def\\c{\\d\\d}".repeat(50) + "\\a"],
  "a long sum": ["1", "\\sum_{k=1}^{1000000000} k"],
  "sums in sums": [
    "1",
    "\\sum_{a=1}^{300}\\sum_{b=1}^{300}\\sum_{c=1}^{300}\\sum_{d=1}^{300} abcd",
  ],
  "powers in sums": ["1", "\\sum_{a=1}^{300} (x+a)^{200}"],
  "a factorial of a factorial": ["1", "((100!)!)!"],
  "a large binomial coefficient": ["1", "\\binom{10^9}{5 \\cdot 10^8}"],
  "a power of a sum": ["(x+y+z+1)^{200}", "(x+y+z+1)^{201}"],
  "products of sums": ["1", "(a+b+c+d)(e+f+g+h)(j+k+l+m)(n+o+p+q)(r+s+t+u)(v+w+x+y)".repeat(8)],
  "a high root": ["1", "\\sqrt[999999]{2}"],
  "a long number": ["1", "9".repeat(1e6)],
  "a long number in a box": ["1", `\\boxed{${"9".repeat(2900)}^{${"9".repeat(50)}}}`],
  "many decimals": ["1", `0.${"3".repeat(2000)}`],
  "a long exponent": ["1", "2e999"],
  "a long list": [Array(1000).fill("x").join(","), Array(1000).fill("y").join(",")],
  "a list of expressions that are hard to tell apart": [
    Array.from({ length: 40 }, (_, k) => `\\sin(x+${k})`).join(","),
    Array.from({ length: 40 }, (_, k) => `\\cos(x+${k})`).join(","),
  ],
  "many signs": ["1", Array(400).fill("\\pm 1").join("")],
  "minus signs": ["1", "-".repeat(2900) + "1"],
  "primes that are hard to factor": ["1", "\\sqrt{1000000000000000003 \\cdot 1000000000000000009}"],
  "spaces": ["1", " ".repeat(1e6)],
  "dollars": ["1", "$".repeat(1e5)],
  "anchors": ["1", "the answer is ".repeat(2e4)],
  "digits and commas": ["1", "1,".repeat(2e4)],
  "a matrix": ["1", `\\begin{pmatrix}${"1&".repeat(1000)}1\\end{pmatrix}`],
  "a product of matrices": ["1", "\\begin{pmatrix}x&y\\\\z&w\\end{pmatrix}".repeat(30)],
};

for (const [name, [gold, prediction]] of Object.entries(bombs)) {
  Deno.test(`${name} neither hangs nor crashes the grader`, async () => {
    for (const [a, b] of [[gold, prediction], [prediction, gold]] as const) {
      const started = performance.now();
      await gradeMath(a, b, "math");
      const took = performance.now() - started;
      assert.ok(took < 15_000, `${took.toFixed(0)} ms`);
    }
    await closeAlgebra();
  });
}
