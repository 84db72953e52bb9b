/**
 * The program that tests of the engine start: its `stage` command runs a stage in a process of its
 * own; `pipeline NAME OPTIONS`, with the options as JSON, runs a workflow.
 */
import { UserError } from "../../errors.ts";
import { runPipelineCommand } from "../cli.ts";
import { stageCommand } from "../stage_command.ts";
import { generated } from "./generated.ts";
import { stages } from "./stages.ts";

const [command, name, first, second] = Deno.args;
try {
  if (command === "stage") await stageCommand(name!, second!, stages);
  const program = { workflows: { generated }, stages, main: import.meta.url };
  await runPipelineCommand(name!, JSON.parse(first!), program);
} catch (error) {
  if (!(error instanceof UserError)) throw error;
  console.error(`error: ${error.message}`);
  Deno.exit(error.exitCode);
}
