/** Names and order of the training metrics that the stages here emit; others follow as they come. */
import type { Curve } from "./data.ts";

/** In reading order: the objective first, then what tells whether to trust it. */
const TITLES: Record<string, string> = {
  sft_loss: "SFT loss",
  loss: "Loss",
  value_loss: "Value loss",
  policy_loss: "Policy loss",
  kl: "KL to the reference",
  v_auc: "AUC of V",
  v_calibration: "Calibration error of V",
  accuracy: "Accuracy",
  grad_norm: "Gradient norm",
  lr: "Learning rate",
};
const ORDER = Object.keys(TITLES);

export function metricTitle(metric: string): string {
  const known = TITLES[metric];
  if (known !== undefined) return known;
  const words = metric.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Known metrics in their order, then the others in the order given. */
export function orderedMetrics<T extends Pick<Curve, "metric">>(curves: readonly T[]): T[] {
  const rank = (metric: string) => {
    const at = ORDER.indexOf(metric);
    return at < 0 ? ORDER.length : at;
  };
  return [...curves].sort((a, b) => rank(a.metric) - rank(b.metric));
}
