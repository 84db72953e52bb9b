/** What the commands that run stages have in common: their options, and how they end. */
import { join } from "node:path";
import type { RunResult } from "../pipeline/mod.ts";
import { backend, command, decimal, store, wholeNumber } from "./options.ts";

/** A command that runs stages. */
export function runner(name: string, description: string) {
  return command(name, description)
    .option("--out <folder>", "folder for the results (default: runs/RUN)")
    .option(...store)
    .option(...backend)
    .option("--executor <name>", "how stages run: process or inline", "process")
    .option("--slots <number>", "stages that run at a time", wholeNumber)
    .option("--gpus <number>", "GPUs that stages may use", wholeNumber)
    .option("--memory <GiB>", "memory that stages may use", decimal)
    .option("--budget-gpu-seconds <number>", "end the run when it has used so many", decimal)
    .option("--budget-money <amount>", "end the run when it has cost so much", decimal)
    .option("--gpu-hour-price <amount>", "what a GPU costs an hour", decimal)
    .option("--any-code", "reuse results made by earlier versions of the code")
    .option("--json", "events as JSON lines");
}

/** The report's table, where the workflow made one, and where the rest lies. */
export async function printResult(result: RunResult | undefined): Promise<void> {
  if (result === undefined || Object.keys(result.artifacts).length === 0) return;
  try {
    console.log(await Deno.readTextFile(join(result.out, "report.txt")));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  console.log(`results: ${result.out}`);
}
