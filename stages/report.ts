/** Report: one page, one JSON file and one table from all evaluations and curves of a run. */
import { join } from "node:path";
import { z } from "zod";
import { defineStage, list } from "../pipeline/mod.ts";
import { renderReport, ReportData, reportJson, textTable } from "../report/mod.ts";
import {
  Curves,
  curves,
  Evaluation,
  evaluation,
  files,
  readJson,
  report as kind,
  writeJson,
} from "./artifacts.ts";

export const report = defineStage({
  name: "report",
  version: 1,
  module: import.meta.url,
  params: z.object({
    workflow: z.string(),
    seed: z.int().optional(),
    settings: z.record(z.string(), z.json()).default({}),
    notes: z.array(z.string()).default([]),
  }),
  inputs: { evaluations: list(evaluation), curves: list(curves) },
  outputs: { report: kind },
  async run({ params, inputs, outputs, log }) {
    const evaluations = await Promise.all(
      inputs.evaluations.map(({ path }) => readJson(Evaluation, path, files.evaluation)),
    );
    const trained = await Promise.all(
      inputs.curves.map(({ path }) => readJson(Curves, path, files.curves)),
    );
    const data = ReportData.parse({
      workflow: params.workflow,
      // What a run has beside its seed (id, times, machine) is in the journal: an artifact holds what can
      // be reproduced.
      run: params.seed === undefined ? {} : { seed: params.seed },
      settings: params.settings,
      notes: params.notes,
      methods: evaluations.flatMap(({ results }) => results),
      samples: evaluations.flatMap(({ samples }) => samples),
      curves: trained.flat(),
    });
    const folder = outputs.report.path;
    await Deno.writeTextFile(join(folder, "report.html"), renderReport(data));
    await writeJson(folder, "report.json", reportJson(data));
    const table = textTable(data);
    await Deno.writeTextFile(join(folder, "report.txt"), table);
    for (const line of table.trimEnd().split("\n")) log(line);
  },
});
