/**
 * Interval estimates for accuracies. A run's figures are proportions of few hundred to few thousand
 * problems, where the normal approximation is poor near 0 and 1; Wilson's score interval is not.
 */

/** A proportion with its confidence interval; all three lie in [0, 1] and low ≤ accuracy ≤ high. */
export interface Interval {
  accuracy: number;
  low: number;
  high: number;
}

/** The 97.5 % quantile of the standard normal distribution: two-sided 95 %. */
const Z_95 = 1.959963984540054;

/**
 * Wilson's 95 % score interval (Wilson 1927, eq. for the limits of p) of `correct` successes in `n`
 * independent trials. With n = 0 nothing is known: accuracy NaN would not survive JSON, so accuracy
 * is 0 and the interval is all of [0, 1].
 *
 * @throws RangeError unless 0 ≤ correct ≤ n and both are whole numbers.
 */
export function wilson(correct: number, n: number, z: number = Z_95): Interval {
  if (!Number.isInteger(correct) || !Number.isInteger(n) || correct < 0 || correct > n) {
    throw new RangeError(
      `an interval needs whole counts with 0 <= correct <= n, got correct ${correct}, n ${n}`,
    );
  }
  if (n === 0) return { accuracy: 0, low: 0, high: 1 };
  const p = correct / n;
  const z2 = z * z;
  const centre = (p + z2 / (2 * n)) / (1 + z2 / n);
  const half = (z / (1 + z2 / n)) * Math.sqrt((p * (1 - p)) / n + z2 / (4 * n * n));
  return {
    accuracy: p,
    // At p = 0 and p = 1 a limit equals p exactly; rounding must not put it on the wrong side.
    low: correct === 0 ? 0 : Math.min(p, Math.max(0, centre - half)),
    high: correct === n ? 1 : Math.max(p, Math.min(1, centre + half)),
  };
}
