/** `pipeline`: run a workflow or a stage of it, and look after the runs. */
import { nearest, unknownName, UserError } from "../errors.ts";
import {
  cancelRunCommand,
  diffRunsCommand,
  listRunsCommand,
  logsCommand,
  type Program,
  rebuildCommand,
  resumeRunCommand,
  runPipelineCommand,
  showRunCommand,
} from "../pipeline/mod.ts";
import { chooseEngine, prepareEngine } from "../stages/mod.ts";
import { command, decimal, repeated, wholeNumber } from "./options.ts";
import { printResult, runner } from "./running.ts";

/** The command for the workflows and stages of `program`. */
export function pipelineCommand(program: Program) {
  const pipeline = runner("pipeline", "run a workflow, or go on with one that was stopped")
    .argument("[workflow]", `one of ${Object.keys(program.workflows).join(", ")}`, "demo")
    .option("--set <path=value>", "set a parameter; may be repeated", repeated)
    .option("--params <file>", "parameters from a TOML, YAML or JSON file; --set goes over it")
    .option("--seed <number>", "seed of everything random", wholeNumber, 0)
    .option("--only <stage>", "run just this stage, on what is in the store from those before it")
    .option("--dry-run", "say what would run, what is stored and why not, and do nothing")
    .option("--graph <form>", "print the graph as text, mermaid or json, and do nothing")
    .action(async (workflow, { memory, ...options }) => {
      checkWords(pipeline.args, program, pipeline.commands.map((each) => each.name()));
      if (options.dryRun || options.graph !== undefined) chooseEngine(options.backend);
      else await prepareEngine(options.backend);
      const given = { ...options, memoryGiB: memory };
      const result = await runPipelineCommand(workflow, given, program);
      if (!options.json) await printResult(result);
    });
  // Given before a subcommand, an option would be the workflow's and be ignored.
  pipeline.hook("preSubcommand", (parent) => {
    const early = parent.options.find((option) =>
      parent.getOptionValueSource(option.attributeName()) === "cli"
    );
    if (early === undefined) return;
    throw new UserError(`pipeline: put ${early.long} after the subcommand`, { exitCode: 2 });
  });
  pipeline.addCommand(
    runner("resume", "go on with a run that was killed, failed or cancelled")
      .argument("<run>")
      .action(async (run, { memory, ...options }) => {
        await prepareEngine(options.backend);
        const result = await resumeRunCommand(run, { ...options, memoryGiB: memory }, program);
        if (!options.json) await printResult(result);
      }),
  );
  pipeline.addCommand(
    command("cancel", "end a run cleanly, wherever it runs")
      .argument("<run>")
      .option("--wait <seconds>", "wait so long until it has ended", decimal, 30)
      .action((run, { wait, journal }) => cancelRunCommand(run, { journal, waitSeconds: wait })),
  );
  pipeline.addCommand(
    command("runs", "list the latest runs")
      .option("--json", "as JSON")
      .option("--limit <number>", "how many", wholeNumber)
      .action((options) => listRunsCommand(options)),
  );
  pipeline.addCommand(
    command("rebuild", "derive what is shown about runs anew from their events")
      .action((options) => rebuildCommand(options)),
  );
  pipeline.addCommand(
    command("show", "show a run and its stages")
      .argument("<run>")
      .option("--json", "as JSON")
      .action((run, options) => showRunCommand(run, options)),
  );
  pipeline.addCommand(
    command("logs", "print what the stages of a run said")
      .argument("<run>")
      .argument("[stage]", "default: all of them")
      .option("--follow", "go on as it says more, until it has ended")
      .option("--json", "events as JSON lines")
      .action((run, stage, options) => logsCommand(run, stage, options)),
  );
  pipeline.addCommand(
    command("diff", "tell what the second of two runs changed: parameters, values, stages")
      .argument("<run>")
      .argument("<other>")
      .option("--json", "as JSON")
      .action((run, other, options) => diffRunsCommand(run, other, options)),
  );
  return pipeline;
}

/** Refuses a misspelt subcommand, which looks like the name of a workflow, and words too many. */
function checkWords(words: readonly string[], program: Program, subcommands: string[]): void {
  const [name, ...more] = words;
  if (name === undefined) return;
  const workflows = Object.keys(program.workflows);
  if (!workflows.includes(name)) {
    const near = nearest(name, [...workflows, ...subcommands]);
    if (more.length > 0 || (near !== undefined && subcommands.includes(near))) {
      throw unknownName("workflow or subcommand", name, [...workflows, ...subcommands]);
    }
  } else if (more.length > 0) {
    throw new UserError(`pipeline ${name}: unexpected argument '${more[0]}'`, { exitCode: 2 });
  }
}
