/**
 * `stage`: one stage by itself, on files and folders of its user; or, with `--spec`, one job of a run,
 * which an executor starts as a process or container of its own.
 */
import { UserError } from "../errors.ts";
import {
  describeInterface,
  listParams,
  type Program,
  runByHandCommand,
  type Stage,
  stageCommand as runJob,
} from "../pipeline/mod.ts";
import { chooseEngine, prepareEngine } from "../stages/mod.ts";
import { repeated, wholeNumber } from "./options.ts";
import { printResult, runner } from "./running.ts";

function describeStage(stage: Stage): string {
  const params = listParams(stage.params).map((line) => `  ${line}`);
  return ["", describeInterface(stage), "", "Parameters, with their defaults:", ...params].join(
    "\n",
  );
}

/** The command for the stages of `program`. */
export function stageCommand(program: Program) {
  const names = Object.keys(program.stages);
  const stage = runner("stage", "run one stage by itself, or go on with one that was stopped")
    .argument("<name>", `one of ${names.join(", ")}`)
    .option("--input <name=path>", "a file or folder that it reads; once for each", repeated)
    .option("--set <path=value>", "set a parameter; may be repeated", repeated)
    .option(
      "--params <file>",
      "parameters, and paths under 'inputs', from a TOML, YAML or JSON file; --set goes over it",
    )
    .option("--seed <number>", "seed of everything random", wholeNumber, 0)
    .option("--dry-run", "say what would run and with which parameters, and do nothing")
    .option(
      "--spec <file>",
      "do the job in this file, or on standard input (-), as an executor's child or container",
    )
    .addHelpText("after", ({ command }) => {
      const asked = Object.hasOwn(program.stages, command.args[0] ?? "")
        ? program.stages[command.args[0]!]
        : undefined;
      if (asked !== undefined && typeof asked !== "function") return describeStage(asked);
      const known = Object.values(program.stages).filter((each) => typeof each !== "function");
      const lines = known.map((each) => `  ${describeInterface(each)}`);
      const what =
        "Stages, with their inputs ([optional]) and outputs; train --help has parameters:";
      return ["", what, ...lines].join("\n");
    });
  return stage.action(async (name, { spec, memory, ...options }) => {
    if (spec !== undefined) {
      refuseBesideSpec();
      chooseEngine(options.backend);
      return await runJob(name, spec, program.stages);
    }
    if (options.dryRun) chooseEngine(options.backend);
    else await prepareEngine(options.backend);
    const result = await runByHandCommand(name, { ...options, memoryGiB: memory }, program);
    if (!options.json) await printResult(result);
  });

  /** The job's file says all; another option beside it would be ignored. */
  function refuseBesideSpec(): void {
    const allowed = ["spec", "backend", "debug"];
    const beside = stage.options.find((option) =>
      !allowed.includes(option.attributeName()) &&
      stage.getOptionValueSource(option.attributeName()) === "cli"
    );
    if (beside === undefined) return;
    throw new UserError(`stage: ${beside.long} has no place beside --spec, whose file says all`, {
      exitCode: 2,
    });
  }
}
