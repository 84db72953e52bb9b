/**
 * A report of invented figures for the tests of this room and of the pages that show reports. It has
 * one of everything, and hostile text in every field that comes from outside.
 */
import { ReportData, type Sample } from "./data.ts";

export const HOSTILE = `<script>alert("x")</script><img src=x onerror=alert(1)> & 'quotes'`;

/** A small linear congruential generator: the figures must be the same in every run. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648;
}

function curve(stage: string, metric: string, from: number, to: number, steps: number) {
  const random = numbers(stage.length * 97 + metric.length);
  const points = Array.from({ length: steps }, (_, i): [number, number] => [
    i + 1,
    to + (from - to) * Math.exp(-4 * i / steps) + 0.12 * Math.abs(from - to) * (random() - 0.5),
  ]);
  return { stage, metric, points };
}

function sample(query: string, correct: boolean, iteration: number): Sample {
  const response = correct
    ? "12 + 7 = 19\n19 * 3 = 57\n57 - 8 = 49\n#### 49"
    : "12 + 7 = 19\n19 * 3 = 47\n47 - 8 = 39\n#### 39";
  const random = numbers(query.length + (correct ? 1 : 2));
  const tokens = [...response];
  const slip = correct ? Infinity : response.indexOf("47");
  const values = tokens.map((_, i) =>
    i < slip
      ? 0.55 + 0.35 * (correct ? i / tokens.length : 0) + 0.06 * (random() - 0.5)
      : Math.max(0.03, 0.5 - 0.12 * (i - slip)) + 0.03 * random()
  );
  return {
    method: "oreo",
    iteration,
    query,
    prompt: "Tom has 12 apples and gets 7 more. He triples them and eats 8. How many are left?\n",
    tokens,
    values,
    promptValue: 0.55,
    advantages: tokens.map((_, i) => 0.02 * (random() - 0.5) - (i === slip ? 0.08 : 0)),
    correct,
    answer: correct ? "49" : "39",
    gold: "49",
  };
}

export function testReport(): ReportData {
  const result = (name: string, iteration: number, correct: number, sampled: number) => [
    { name, iteration, decoding: "greedy" as const, correct, n: 1000 },
    { name, iteration, decoding: "sampled" as const, correct: sampled, n: 1000 },
  ];
  const beams = (name: string, iteration: number, counts: number[]) =>
    counts.map((correct, i) => ({
      name,
      iteration,
      decoding: "beam" as const,
      beam: [1, 3, 5, 7][i]!,
      correct,
      n: 1000,
    }));
  const training = [1, 2].flatMap((k) => [
    curve(`train oreo ${k}`, "value_loss", 0.26, 0.12, 300),
    curve(`train oreo ${k}`, "policy_loss", 0.24, 0.15, 300),
    curve(`train oreo ${k}`, "kl", 0, 0.04, 300),
    curve(`train oreo ${k}`, "kl_k3", 0, 0.037, 300),
    curve(`train oreo ${k}`, "value_auc", 0.5, 0.87, 12),
    curve(`train oreo ${k}`, "value_correct", 0.5, 0.74, 40),
    curve(`train oreo ${k}`, "value_wrong", 0.5, 0.28, 40),
    curve(`train oreo ${k}`, "policy_grad_norm", 2, 0.6, 300),
    curve(`train oreo ${k}`, "value_grad_norm", 3, 0.4, 300),
  ]);
  return ReportData.parse({
    workflow: "demo",
    run: {
      id: "20260102-030405-demo-1a2b",
      startedAt: Date.UTC(2026, 0, 2, 3, 4, 5),
      seconds: 412.6,
      seed: 1,
      codeVersion: "0.1.0",
      command: "deno task pipeline demo --set iterations=2",
    },
    settings: {
      iterations: 2,
      "data.difficulty": { steps: [3, 8], slips: 0.08 },
      oreo: { beta: 0.03, alpha: 0.01, learningRate: 5e-6, level: "token" },
      note: HOSTILE,
    },
    methods: [
      ...result("sft", 0, 583, 512),
      ...result("rejection_sampling", 1, 631, 590),
      ...result("oreo", 1, 668, 634),
      ...beams("oreo", 1, [670, 712, 738, 749]),
      ...result("rejection_sampling", 2, 650, 611),
      ...result("oreo", 2, 701, 680),
      ...beams("oreo", 2, [699, 741, 763, 770]),
      { name: HOSTILE, iteration: 2, decoding: "greedy", correct: 0, n: 40 },
    ],
    curves: [
      curve("sft", "sft_loss", 2.9, 0.31, 900),
      curve("sft", "learning_rate", 0, 0.002, 900),
      ...training,
      { stage: HOSTILE, metric: HOSTILE, points: [[1, 2], [2, null], [3, NaN], [4, 5]] },
    ],
    calibration: [1, 2].map((k) => ({
      stage: `train oreo ${k}`,
      bins: Array.from({ length: 10 }, (_, i) => ({
        predicted: (i + 0.5) / 10,
        observed: Math.min(1, Math.max(0, (i + 0.5) / 10 + 0.05 * Math.sin(i * k))),
        n: 40 + 10 * i,
      })),
    })),
    samples: [
      sample("test-0001", true, 2),
      sample("test-0002", false, 2),
      sample("test-0003", true, 2),
      {
        ...sample(HOSTILE, false, 1),
        prompt: HOSTILE,
        answer: null,
        gold: HOSTILE,
        tokens: [HOSTILE, "\n", "</script>", "日本語", "🦕"],
        values: [0.2, null, NaN, 1.4, -0.3],
        advantages: [0, null, NaN, 3, -3],
      },
    ],
    timings: [
      { stage: "make problems", seconds: 0.4 },
      { stage: "sft", seconds: 96 },
      { stage: "sample 1", seconds: 41 },
      { stage: "score 1", seconds: 12.2 },
      { stage: "train oreo 1", seconds: 88 },
      { stage: "evaluate 1", seconds: 33 },
    ],
    notes: ["Invented figures: this page shows the layout of a report, not a measurement."],
  });
}
