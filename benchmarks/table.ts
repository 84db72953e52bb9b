/** How every benchmark prints: the peer and the project from the same run, and their ratio. */
export interface Row {
  name: string;
  unit: string;
  peer: number;
  ours: number;
  /** Speed against the peer: above 1 we are faster. */
  ratio: number;
}

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

export function printTable(title: string, peer: string, rows: Row[]): void {
  const cells = [
    ["", "unit", peer, "ours", "ratio"],
    ...rows.map((r) => [r.name, r.unit, digits(r.peer), digits(r.ours), r.ratio.toFixed(2)]),
  ];
  const widths = cells[0]!.map((_, i) => Math.max(...cells.map((row) => row[i]!.length)));
  console.log(`\n${title}`);
  for (const row of cells) {
    const [name, ...rest] = row.map((cell, i) =>
      i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)
    );
    console.log([name, ...rest].join("  "));
  }
}

export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}
