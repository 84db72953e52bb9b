/**
 * The program that tests of the engine start: its `stage` command runs a stage in a process of its
 * own; `pipeline NAME OPTIONS`, with the options as JSON, runs a workflow; `runs`, `show`, `logs`,
 * `cancel` and `resume` take the same form.
 */
import { UserError } from "../../errors.ts";
import { resumeRunCommand, runPipelineCommand } from "../cli.ts";
import { cancelRunCommand, listRunsCommand, logsCommand, showRunCommand } from "../cli_runs.ts";
import { stageCommand } from "../stage_command.ts";
import { generated, misbehaving } from "./generated.ts";
import { stages } from "./stages.ts";

const [command, name, first, second] = Deno.args;
try {
  if (command === "stage") await stageCommand(name!, second!, stages);
  const program = { workflows: { generated, misbehaving }, stages, main: import.meta.url };
  if (command === "pipeline") await runPipelineCommand(name!, JSON.parse(first!), program);
  else if (command === "resume") await resumeRunCommand(name!, JSON.parse(first!), program);
  else if (command === "runs") await listRunsCommand(JSON.parse(name!));
  else if (command === "show") await showRunCommand(name!, JSON.parse(first!));
  else if (command === "cancel") await cancelRunCommand(name!, JSON.parse(first!));
  else if (command === "logs") await logsCommand(name!, first!, JSON.parse(second!));
} catch (error) {
  if (!(error instanceof UserError)) throw error;
  console.error(`error: ${error.message}`);
  Deno.exit(error.exitCode);
}
