/**
 * How training metrics are shown: which are drawn together in one panel, under which title, in which
 * order, and which are details of optimization that most readers pass over. Metrics that are not
 * listed get a panel of their own, so a new stage needs no entry here.
 */
import type { Curve } from "./data.ts";

interface PanelRule {
  title: string;
  /** Metric → its name in the legend, needed where several are drawn together. */
  series: Record<string, string>;
  detail?: true;
}

/** In reading order: the objective first, then what tells whether to trust it, then details. */
const RULES: readonly PanelRule[] = [
  { title: "Loss", series: { loss: "loss" } },
  { title: "SFT loss", series: { sft_loss: "loss" } },
  { title: "Value loss", series: { value_loss: "loss" } },
  { title: "Policy loss", series: { policy_loss: "loss" } },
  { title: "KL to the reference", series: { kl: "divergence" } },
  { title: "AUC of V", series: { value_auc: "AUC" } },
  {
    title: "Mean V of right and wrong solutions",
    series: { value_correct: "right", value_wrong: "wrong" },
  },
  {
    title: "Errors of V",
    series: {
      value_calibration_error: "calibration",
      value_bias: "bias",
      value_brier: "Brier score",
    },
  },
  {
    title: "Advantage of an action",
    series: { advantage_implicit: "implicit", advantage_explicit: "explicit" },
  },
  {
    title: "Correlation of implicit and explicit advantage",
    series: { advantage_correlation: "correlation" },
  },
  {
    title: "Log-ratio of right and wrong solutions",
    series: { right_log_ratio: "right", wrong_log_ratio: "wrong" },
  },
  { title: "Accuracy", series: { accuracy: "accuracy" } },
  {
    title: "Gradient norm",
    series: { grad_norm: "model", policy_grad_norm: "policy", value_grad_norm: "value" },
    detail: true,
  },
  {
    title: "Learning rate",
    series: {
      learning_rate: "model",
      policy_learning_rate: "policy",
      value_learning_rate: "value",
    },
    detail: true,
  },
  { title: "Tokens per second", series: { tokens_per_second: "tokens" }, detail: true },
  { title: "Sequences per second", series: { sequences_per_second: "sequences" }, detail: true },
  { title: "TFLOP per second", series: { tflops_per_second: "TFLOP/s" }, detail: true },
  { title: "Share of the device's peak", series: { mfu: "share" }, detail: true },
  // Its terms are exponential in the log-ratios: single tokens of old data outweigh all others.
  { title: "KL estimated on the data's tokens (k3)", series: { kl_k3: "k3" }, detail: true },
  { title: "Weight of the KL regulariser", series: { kl_weight: "weight" }, detail: true },
  {
    title: "Memory in GiB",
    series: {
      memory_gib: "process",
      device_memory_gib: "device",
      device_memory_peak_gib: "device, most",
    },
    detail: true,
  },
  { title: "Share of padding", series: { padding: "padding" }, detail: true },
];

/** The curves of one stage that are drawn in one chart. */
export interface Panel {
  stage: string;
  title: string;
  series: { label: string; points: Curve["points"] }[];
  detail: boolean;
}

/** Prefixes of metrics that training gives, and what stands behind a panel's title or in its legend. */
const PHASES = { "": "", "value_first/": ", V alone first" };
const DATA = { "": "", "held_out/": ", held out" };

/**
 * The panels of the given curves of one stage: listed ones in their order, then the others. What was
 * measured on held-out data stands beside the same of the training data.
 */
export function panelsOf(stage: string, curves: readonly Curve[]): Panel[] {
  const left = new Map(
    curves.filter((c) => c.stage === stage && c.points.length > 0).map((c) => [c.metric, c]),
  );
  const panels: Panel[] = [];
  for (const [phase, ofPhase] of Object.entries(PHASES)) {
    for (const { title, series, detail = false } of RULES) {
      const present = Object.entries(series).flatMap(([metric, label]) =>
        Object.entries(DATA).flatMap(([data, ofData]) => {
          const curve = left.get(`${phase}${data}${metric}`);
          if (curve === undefined) return [];
          left.delete(curve.metric);
          return [{ label: `${label}${ofData}`, points: curve.points }];
        })
      );
      if (present.length === 0) continue;
      panels.push({ stage, title: `${title}${ofPhase}`, series: present, detail });
    }
  }
  for (const [metric, { points }] of left) {
    panels.push({
      stage,
      title: metricTitle(metric),
      series: [{ label: metric, points }],
      detail: false,
    });
  }
  return panels;
}

/** `tokens_seen` → `Tokens seen`. */
function metricTitle(metric: string): string {
  const words = metric.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
