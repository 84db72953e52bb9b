/**
 * Training curves as an artifact. Points are also kept in the scratch folder as they come, so that a
 * stage that was killed and resumed ends with the curves of one that never stopped. Figures that depend
 * on the machine (rates, memory) go to the journal only: an artifact holds what can be reproduced.
 */
import { join } from "node:path";
import type { Curve } from "../report/mod.ts";
import { files, writeJson } from "./artifacts.ts";

const ofTheMachine = /_per_second$|^(?:value_first\/)?(?:mfu|(?:device_)?memory(?:_peak)?_gib)$/;

type Point = [metric: string, step: number, value: number];

export class CurveRecorder {
  readonly #points = new Map<string, Map<number, number>>();
  readonly #file: string;

  /**
   * @param stage the name under which the report groups the curves
   * @param metric the journal's side: called with every point
   */
  constructor(
    readonly stage: string,
    scratch: string,
    readonly metric: (step: number, values: Record<string, number>) => void,
  ) {
    this.#file = join(scratch, "points.jsonl");
    for (const line of readLines(this.#file)) this.#set(line);
  }

  add(step: number, values: Record<string, number>): void {
    this.metric(step, values);
    const lines = Object.entries(values)
      .filter(([name]) => !ofTheMachine.test(name))
      .map(([name, value]): Point => [name, step, value]);
    for (const line of lines) this.#set(line);
    Deno.writeTextFileSync(this.#file, lines.map((l) => JSON.stringify(l) + "\n").join(""), {
      append: true,
    });
  }

  #set([metric, step, value]: Point): void {
    const points = this.#points.get(metric) ?? new Map<number, number>();
    this.#points.set(metric, points.set(step, value));
  }

  /** Writes the artifact. */
  async write(folder: string): Promise<void> {
    const curves: Curve[] = [...this.#points].map(([metric, points]) => ({
      stage: this.stage,
      metric,
      points: [...points].sort(([a], [b]) => a - b),
    }));
    await writeJson(folder, files.curves, curves);
  }
}

/** The complete lines of a file that a kill may have cut off in the middle of one. */
function readLines(file: string): Point[] {
  let text: string;
  try {
    text = Deno.readTextFileSync(file);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
  const complete = text.slice(0, text.lastIndexOf("\n") + 1);
  // What follows the last line break is half a point; the resumed run writes it again.
  if (complete !== text) Deno.writeTextFileSync(file, complete);
  return complete.split("\n").slice(0, -1).map((line) => JSON.parse(line));
}
