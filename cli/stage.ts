/** `stage`: one job of a run, which an executor starts as a process or container of its own. */
import { type Program, stageCommand as runStage } from "../pipeline/mod.ts";
import { chooseEngine } from "../stages/mod.ts";
import { backend, plainCommand } from "./options.ts";

/** The command for the stages of `program`. */
export function stageCommand({ stages }: Program) {
  return plainCommand("stage", "do one job of a run, as an executor's child process or container")
    .argument("<name>", `one of ${Object.keys(stages).join(", ")}`)
    .requiredOption("--spec <file>", "the job, as JSON")
    .option(...backend)
    .action((name, options) => {
      chooseEngine(options.backend);
      return runStage(name, options.spec, stages);
    });
}
