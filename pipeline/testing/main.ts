/**
 * The program that tests of the engine start: its `stage` command runs a stage in a process of its
 * own; `pipeline NAME OPTIONS`, with the options as JSON, runs a workflow; `runs`, `show`, `logs`,
 * `diff`, `cancel`, `resume` and `store` take the same form.
 */
import { UserError } from "../../errors.ts";
import { resumeRunCommand, runPipelineCommand } from "../cli.ts";
import { diffRunsCommand } from "../cli_diff.ts";
import { cancelRunCommand, listRunsCommand, logsCommand, showRunCommand } from "../cli_runs.ts";
import {
  collectGarbageCommand,
  exportArtifactCommand,
  listStoreCommand,
  showArtifactCommand,
  verifyStoreCommand,
} from "../cli_store.ts";
import { stageCommand } from "../stage_command.ts";
import { generated, misbehaving } from "./generated.ts";
import { stages } from "./stages.ts";

async function store(action: string, options: string, more: string | undefined) {
  const parsed = JSON.parse(options);
  if (action === "ls") await listStoreCommand(parsed);
  if (action === "verify") await verifyStoreCommand(parsed);
  if (action === "gc") await collectGarbageCommand(parsed);
  if (action === "show") await showArtifactCommand(more!, parsed);
  if (action === "export") await exportArtifactCommand(more!, parsed.to, parsed);
}

const [command, name, first, second] = Deno.args;
try {
  if (command === "stage") await stageCommand(name!, second!, stages);
  const program = { workflows: { generated, misbehaving }, stages, main: import.meta.url };
  if (command === "pipeline") await runPipelineCommand(name!, JSON.parse(first!), program);
  else if (command === "resume") await resumeRunCommand(name!, JSON.parse(first!), program);
  else if (command === "runs") await listRunsCommand(JSON.parse(name!));
  else if (command === "show") await showRunCommand(name!, JSON.parse(first!));
  else if (command === "cancel") await cancelRunCommand(name!, JSON.parse(first!));
  else if (command === "store") await store(name!, first!, second);
  else if (command === "diff") await diffRunsCommand(name!, first!, JSON.parse(second!));
  else if (command === "logs") {
    const [stage, options] = second === undefined ? [undefined, first] : [first, second];
    await logsCommand(name!, stage, JSON.parse(options!));
  }
} catch (error) {
  if (!(error instanceof UserError)) throw error;
  console.error(`error: ${error.message}`);
  Deno.exit(error.exitCode);
}
