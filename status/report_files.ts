/**
 * The files that a finished run leaves in its folder. Only these names are ever served, so that no
 * request can name a file.
 */
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";

export type ReportFile = "report.html" | "report.json";

/** Where the report of a run is served. */
export const reportPath = (run: string): string => `/runs/${encodeURIComponent(run)}/report`;

/** True where the run's folder holds a report that can be read from here. */
export async function hasReport(run: { out: string; state: string }): Promise<boolean> {
  if (run.state !== "done") return false;
  try {
    return (await stat(join(run.out, "report.html"))).isFile();
  } catch {
    return false;
  }
}

/** The file's text, or undefined where the run has no such file. */
export async function readReport(
  run: { out: string },
  name: ReportFile,
): Promise<string | undefined> {
  try {
    return await readFile(join(run.out, name), "utf8");
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return undefined;
    throw error;
  }
}
