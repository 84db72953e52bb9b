/**
 * What a report is made from. A workflow's last stage assembles a `ReportData` from the artifacts of
 * a run (evaluation counts, training curves, scored samples, timings); the renderers of this room
 * turn it into HTML, JSON or text and add nothing but intervals. The schema is the boundary: data
 * read from a file is parsed with it, and every renderer takes the parsed form.
 */
import { z } from "zod";

/**
 * How answers were decoded: arg-max, one draw at temperature > 0, value-guided beam search, or, in tasks
 * of turns, the best of K turns by V.
 */
export const Decoding = z.enum(["greedy", "sampled", "beam", "best_of"]);
export type Decoding = z.infer<typeof Decoding>;

const Count = z.int().min(0);

/** A measured quantity: null or NaN where it diverged or was not read, shown as missing. */
const Reading = z.union([z.number(), z.nan(), z.null()]);

/**
 * One evaluation: `correct` of `n` answers were right. `n` counts independent trials (problems times
 * independent draws); the interval printed beside the accuracy is Wilson's for these two counts.
 */
export const MethodResult = z.object({
  /** `sft`, `rejection_sampling`, `oreo`, ...: the training method, without its decoding. */
  name: z.string().min(1),
  /** 0 is the starting policy; k is the policy after k iterations. */
  iteration: Count,
  decoding: Decoding,
  /** Beam width B; given exactly when decoding is "beam". */
  beam: z.int().min(1).optional(),
  /** K; given exactly when decoding is "best_of". */
  candidates: z.int().min(1).optional(),
  correct: Count,
  n: Count,
  /** The same counts by kind of query, where there are kinds. */
  groups: z.record(z.string(), z.object({ correct: Count, n: Count })).optional(),
}).refine((m) => m.correct <= m.n, { error: "correct must not exceed n", path: ["correct"] })
  .refine((m) => (m.beam !== undefined) === (m.decoding === "beam"), {
    error: "beam is given exactly when decoding is 'beam'",
    path: ["beam"],
  })
  .refine((m) => (m.candidates !== undefined) === (m.decoding === "best_of"), {
    error: "candidates are given exactly when decoding is 'best_of'",
    path: ["candidates"],
  });
export type MethodResult = z.infer<typeof MethodResult>;

/** A quantity along training: points are [step, value], steps ascending. */
export const Curve = z.object({
  /** Identifier of the stage in the graph: `sft`, `oreo.1`, ... Curves of one stage stand together. */
  stage: z.string().min(1),
  /** `loss`, `value_loss`, `policy_loss`, `kl`, `value_auc` (see `metrics.ts`), or any other name. */
  metric: z.string().min(1),
  points: z.array(z.tuple([z.number(), Reading])),
});
export type Curve = z.infer<typeof Curve>;

/** One generated solution with the value model's reading of it, token by token. */
export const Sample = z.object({
  method: z.string().min(1),
  iteration: Count.optional(),
  /** Identifier of the problem. */
  query: z.string(),
  prompt: z.string(),
  /** The response's tokens as text; joined they are the response. */
  tokens: z.array(z.string()),
  /** values[i] = V of the state that ends with tokens[i], so the value after that token. */
  values: z.array(Reading),
  /** V of the prompt alone, before the first token. */
  promptValue: Reading.optional(),
  /** advantages[i] = beta * (log pi(a_i|s_i) - log pi_ref(a_i|s_i)), the implicit advantage. */
  advantages: z.array(Reading).optional(),
  correct: z.boolean(),
  /** What the grader read from the response (null where it found no answer), and the right answer. */
  answer: z.string().nullable(),
  gold: z.string(),
}).refine((s) => s.values.length === s.tokens.length, {
  error: "values must have one entry per token",
  path: ["values"],
}).refine((s) => s.advantages === undefined || s.advantages.length === s.tokens.length, {
  error: "advantages must have one entry per token",
  path: ["advantages"],
});
export type Sample = z.infer<typeof Sample>;

/** Of `n` states whose V averaged `predicted`, the share `observed` ended in success. */
export const CalibrationBin = z.object({
  predicted: z.number(),
  observed: z.number().min(0).max(1),
  n: Count,
});
export type CalibrationBin = z.infer<typeof CalibrationBin>;

export const ReportData = z.object({
  workflow: z.string().min(1),
  /** The run's own facts; all optional so that a report of loose results can be made too. */
  run: z.object({
    id: z.string(),
    startedAt: z.number().describe("milliseconds since the epoch"),
    seconds: z.number().min(0),
    seed: z.number(),
    codeVersion: z.string(),
    command: z.string(),
  }).partial().default({}),
  /** The workflow's parameters as they were used; nested objects are printed as dotted paths. */
  settings: z.record(z.string(), z.json()).default({}),
  methods: z.array(MethodResult),
  curves: z.array(Curve).default([]),
  /** Reliability of V on held-out solutions, one entry per value model. */
  calibration: z.array(z.object({ stage: z.string().min(1), bins: z.array(CalibrationBin) }))
    .default([]),
  samples: z.array(Sample).default([]),
  timings: z.array(z.object({ stage: z.string().min(1), seconds: z.number().min(0) })).default([]),
  /** Sentences the reader should know: departures, limits of the data, warnings of the run. */
  notes: z.array(z.string()).default([]),
});
export type ReportData = z.infer<typeof ReportData>;

/**
 * The name a result carries in tables and report.json: the method alone when greedy, `oreo+sampled`
 * when drawn, `oreo+beam3` under beam search, `oreo+best5` with the best of five turns.
 */
export function resultName(
  result: Pick<MethodResult, "name" | "decoding" | "beam" | "candidates">,
): string {
  switch (result.decoding) {
    case "greedy":
      return result.name;
    case "sampled":
      return `${result.name}+sampled`;
    case "beam":
      return `${result.name}+beam${result.beam}`;
    case "best_of":
      return `${result.name}+best${result.candidates}`;
    default:
      return result.decoding satisfies never;
  }
}

/** What people call the methods; other names are shown with spaces for underscores. */
const TITLES: Record<string, string> = {
  sft: "SFT",
  rejection_sampling: "Rejection sampling",
  oreo: "OREO",
  dpo: "DPO",
  kto: "KTO",
  dqo: "DQO",
};

/** `rejection_sampling` → `Rejection sampling`. */
export function methodTitle(name: string): string {
  const known = TITLES[name];
  if (known !== undefined) return known;
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** `greedy`, `sampled`, `beam, B = 3`, `best of 5`. */
export function decodingTitle(
  { decoding, beam, candidates }: Pick<MethodResult, "decoding" | "beam" | "candidates">,
): string {
  switch (decoding) {
    case "beam":
      return `beam, B = ${beam}`;
    case "best_of":
      return `best of ${candidates}`;
    default:
      return decoding;
  }
}

const DECODING_ORDER: Record<Decoding, number> = {
  greedy: 0,
  sampled: 1,
  beam: 2,
  best_of: 3,
};

/** Results in reading order: iteration, then method as first given, then greedy, sampled, beams. */
export function ordered(methods: readonly MethodResult[]): MethodResult[] {
  const rank = new Map<string, number>();
  for (const { name } of methods) if (!rank.has(name)) rank.set(name, rank.size);
  return [...methods].sort((a, b) =>
    a.iteration - b.iteration ||
    rank.get(a.name)! - rank.get(b.name)! ||
    DECODING_ORDER[a.decoding] - DECODING_ORDER[b.decoding] ||
    (a.beam ?? a.candidates ?? 0) - (b.beam ?? b.candidates ?? 0)
  );
}
