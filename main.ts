/**
 * The command line: the commands in `cli/`, which read their options there and do their work in a room
 * of its own. Exit codes: 0 done, 1 the work failed, 2 wrong use. Errors are one message; `--debug`
 * adds the stack.
 */
import { Command } from "@commander-js/extra-typings";
import { CommanderError } from "commander";
import { doctorCommand } from "./cli/doctor.ts";
import { gradeCommand } from "./cli/grade.ts";
import { generateCommand } from "./cli/generate.ts";
import { logprobsCommand } from "./cli/logprobs.ts";
import { pipelineCommand } from "./cli/pipeline.ts";
import { serveCommand } from "./cli/serve.ts";
import { playCommand } from "./cli/play.ts";
import { stageCommand } from "./cli/stage.ts";
import { statusCommand } from "./cli/status.ts";
import { storeCommand } from "./cli/store.ts";
import { UserError } from "./errors.ts";
import type { Program } from "./pipeline/mod.ts";
import { stages } from "./stages/mod.ts";
import { workflows } from "./workflows/mod.ts";

const program: Program = { workflows, stages, main: import.meta.url };

async function main(args: string[]): Promise<void> {
  // Positional: an option that a command shares with its subcommand is that of whichever it follows.
  const root = new Command("oreo").exitOverride().showSuggestionAfterError()
    .enablePositionalOptions()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, "")) });
  const commands = [
    pipelineCommand(program),
    storeCommand(),
    stageCommand(program),
    statusCommand(),
    doctorCommand(),
    gradeCommand(),
    logprobsCommand(),
    generateCommand(),
    serveCommand(),
    playCommand(),
  ];
  for (const each of commands) {
    each.copyInheritedSettings(root);
    for (const inner of each.commands) inner.copyInheritedSettings(root);
    root.addCommand(each);
  }
  // What looks like a workflow with arguments may be a misspelt subcommand, which the command tells.
  commands[0]!.allowExcessArguments();
  try {
    await root.parseAsync(args, { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) {
      Deno.exitCode = error.exitCode === 0 ? 0 : 2;
    } else if (error instanceof UserError) {
      console.error(args.includes("--debug") ? error : error.message);
      Deno.exitCode = error.exitCode;
    } else {
      const message = error instanceof Error ? error.message : String(error);
      console.error(args.includes("--debug") ? error : `${message}\n(--debug shows the stack)`);
      Deno.exitCode = 1;
    }
  }
}

if (import.meta.main) await main(Deno.args);
