import assert from "node:assert/strict";
import { wilson } from "./statistics.ts";

// The first four are method 3 of table I in Newcombe (1998), "Two-sided confidence intervals for the
// single proportion", printed to four digits; the others are Wilson's formula in 40-digit decimals.
const KNOWN: [correct: number, n: number, low: number, high: number, digits: number][] = [
  [81, 263, 0.2553, 0.3662, 4],
  [15, 148, 0.0624, 0.1605, 4],
  [0, 20, 0, 0.1611, 4],
  [1, 29, 0.0061, 0.1718, 4],
  [10, 10, 0.7224672001, 1, 10],
  [5, 10, 0.2365930905, 0.7634069095, 10],
  [731, 1319, 0.5272645399, 0.5808360938, 10],
];

Deno.test("Wilson's interval equals published values", () => {
  for (const [correct, n, low, high, digits] of KNOWN) {
    const interval = wilson(correct, n);
    const tolerance = 0.5 * 10 ** -digits + 1e-15;
    assert.ok(Math.abs(interval.low - low) <= tolerance, `${correct}/${n}: low ${interval.low}`);
    assert.ok(
      Math.abs(interval.high - high) <= tolerance,
      `${correct}/${n}: high ${interval.high}`,
    );
    assert.equal(interval.accuracy, correct / n);
  }
});

Deno.test("an interval always holds its estimate and mirrors when successes become failures", () => {
  for (let n = 1; n <= 60; n++) {
    for (let k = 0; k <= n; k++) {
      const a = wilson(k, n);
      const b = wilson(n - k, n);
      assert.ok(0 <= a.low && a.low <= a.accuracy && a.accuracy <= a.high && a.high <= 1);
      assert.ok(Math.abs(a.low - (1 - b.high)) < 1e-12);
    }
  }
});

Deno.test("no trials give the whole range instead of NaN", () => {
  assert.deepEqual(wilson(0, 0), { accuracy: 0, low: 0, high: 1 });
});

Deno.test("counts that are no counts are refused with the values found", () => {
  assert.throws(() => wilson(3, 2), /correct 3, n 2/);
  assert.throws(() => wilson(-1, 2), RangeError);
  assert.throws(() => wilson(0.5, 2), RangeError);
});
