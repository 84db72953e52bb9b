/** The report's table for a terminal or a log: plain characters, columns aligned, no colour. */
import { decodingTitle, methodTitle, ordered, type ReportData } from "./data.ts";
import { wilson } from "./statistics.ts";

const percent = (share: number) => (100 * share).toFixed(1);

/**
 * Method, iteration, decoding, accuracy in percent, its 95 % Wilson interval and n, one result a
 * line under a header. Ends without a line break.
 */
export function textTable(data: Pick<ReportData, "methods">): string {
  const header = ["method", "iteration", "decoding", "accuracy", "95 % interval", "n"];
  const rows = ordered(data.methods).map((m) => {
    const { accuracy, low, high } = wilson(m.correct, m.n);
    return [
      printable(methodTitle(m.name)),
      String(m.iteration),
      decodingTitle(m),
      m.n === 0 ? "-" : `${percent(accuracy)} %`,
      `${percent(low).padStart(5)} - ${percent(high).padStart(5)}`,
      String(m.n),
    ];
  });
  const left = new Set([0, 2]);
  const widths = header.map((name, j) =>
    Math.max(name.length, ...rows.map((row) => row[j]!.length))
  );
  const line = (cells: string[]) =>
    cells.map((cell, j) => left.has(j) ? cell.padEnd(widths[j]!) : cell.padStart(widths[j]!))
      .join("  ").trimEnd();
  return [
    line(header),
    widths.map((w) => "-".repeat(w)).join("  "),
    ...rows.map(line),
    ...groupLines(data.methods),
  ].join("\n");
}

/** Accuracies by kind of query, a kind a line, under a blank line; nothing where there are no kinds. */
function groupLines(methods: ReportData["methods"]): string[] {
  const results = ordered(methods).filter(({ groups }) => groups !== undefined);
  const kinds = [...new Set(results.flatMap(({ groups }) => Object.keys(groups!)))].sort();
  if (kinds.length === 0) return [];
  const titles = results.map((m) => `${printable(methodTitle(m.name))} ${decodingTitle(m)}`);
  const width = Math.max(...kinds.map((kind) => kind.length));
  const row = (name: string, cells: string[]) =>
    [printable(name).padEnd(width), ...cells.map((cell, j) => cell.padStart(titles[j]!.length))]
      .join("  ");
  return [
    "",
    row("by type, %", titles),
    ...kinds.map((kind) =>
      row(
        kind,
        results.map(({ groups }) => {
          const counts = groups![kind];
          return counts === undefined ? "-" : percent(counts.correct / counts.n);
        }),
      )
    ),
  ];
}

/** Names come from files: control characters must not reach a terminal. */
function printable(text: string): string {
  // deno-lint-ignore no-control-regex -- control characters are what is removed
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, "?");
}
