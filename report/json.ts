/** The report as data: what a program (a CI gate, a notebook) reads from `report.json`. */
import { type Decoding, ordered, type ReportData, resultName } from "./data.ts";
import { type Interval, wilson } from "./statistics.ts";

/** One line of report.json; `low` and `high` bound the accuracy at 95 % (Wilson). */
export interface MethodJson {
  name: string;
  iteration: number;
  accuracy: number;
  low: number;
  high: number;
  n: number;
  correct: number;
  /** The method without its decoding: `oreo` of `oreo+beam3`. */
  method: string;
  decoding: Decoding;
  beam?: number;
  candidates?: number;
  /** By kind of query, where there are kinds. */
  groups?: Record<string, Interval & { correct: number; n: number }>;
}

export interface ReportJson {
  workflow: string;
  methods: MethodJson[];
  run: ReportData["run"];
  settings: ReportData["settings"];
  timings: ReportData["timings"];
}

/** Plain JSON data; write it with `JSON.stringify(…, null, 2)`. */
export function reportJson(data: ReportData): ReportJson {
  return {
    workflow: data.workflow,
    methods: ordered(data.methods).map((m) => ({
      name: resultName(m),
      iteration: m.iteration,
      ...wilson(m.correct, m.n),
      n: m.n,
      correct: m.correct,
      method: m.name,
      decoding: m.decoding,
      ...(m.beam === undefined ? {} : { beam: m.beam }),
      ...(m.candidates === undefined ? {} : { candidates: m.candidates }),
      ...(m.groups === undefined ? {} : {
        groups: Object.fromEntries(
          Object.entries(m.groups).map(([group, counts]) => [
            group,
            { ...wilson(counts.correct, counts.n), ...counts },
          ]),
        ),
      }),
    })),
    run: data.run,
    settings: data.settings,
    timings: data.timings,
  };
}
