/**
 * What a run found, for people and programs: `report.html` (one self-contained page), `report.json`
 * and a table for the terminal, all from one {@link ReportData}. Pure rendering: no files are read or
 * written here and nothing is measured; a workflow's last stage assembles the data.
 */
export {
  CalibrationBin,
  Curve,
  Decoding,
  MethodResult,
  methodTitle,
  ReportData,
  resultName,
  Sample,
} from "./data.ts";
export { type Interval, wilson } from "./statistics.ts";
export { renderReport } from "./html.tsx";
export { Curves, type CurvesProps } from "./curves.tsx";
export { duration, panelChart } from "./charts.ts";
export type { Panel } from "./metrics.ts";
export { default as reportStyle } from "./style.css" with { type: "text" };
export { type MethodJson, type ReportJson, reportJson } from "./json.ts";
export { textTable } from "./text.ts";
