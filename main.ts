/**
 * The command line. Each command reads its options here and does its work in a room of its own.
 * Exit codes: 0 done, 1 the work failed, 2 wrong use. Errors are one message; `--debug` adds the stack.
 */
import { Command, InvalidArgumentError } from "@commander-js/extra-typings";
import { CommanderError } from "commander";
import { join } from "node:path";
import { UserError } from "./errors.ts";
import {
  listRunsCommand,
  type Program,
  runPipelineCommand,
  showRunCommand,
  stageCommand,
} from "./pipeline/mod.ts";
import { chooseEngine, prepareEngine, stages } from "./stages/mod.ts";
import { workflows } from "./workflows/mod.ts";

const program: Program = { workflows, stages, main: import.meta.url };

function wholeNumber(text: string): number {
  if (/^\d+$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It must be a whole number.");
}

const repeated = (value: string, values: string[] = []) => [...values, value];

/** A command that keeps its runs in a store and a journal. */
function command(name: string, description: string) {
  return new Command(name).description(description)
    .option("--journal <file>", "journal of runs", ".oreo/journal.sqlite")
    .option("--debug", "print stack traces");
}

const backend = [
  "--backend <name>",
  "tensors on xla, wasm, cpu or a PJRT plugin's file (default: OREO_BACKEND, else xla where it runs)",
] as const;

const pipeline = command("pipeline", "run a workflow, or go on with one that was stopped")
  .argument("[workflow]", `one of ${Object.keys(workflows).join(", ")}`, "demo")
  .option("--set <path=value>", "set a parameter; may be repeated", repeated)
  .option("--out <folder>", "folder for the results (default: runs/RUN)")
  .option("--store <folder>", "artifact store", ".oreo/store")
  .option(...backend)
  .option("--executor <name>", "how stages run: process or inline", "process")
  .option("--seed <number>", "seed of everything random", wholeNumber, 0)
  .option("--slots <number>", "stages that run at a time", wholeNumber)
  .option("--gpus <number>", "GPUs that stages may use", wholeNumber)
  .option("--any-code", "reuse results made by earlier versions of the code")
  .option("--dry-run", "say what would run, what is stored and why not, and do nothing")
  .option("--graph <form>", "print the graph as text, mermaid or json, and do nothing")
  .option("--json", "events as JSON lines")
  .action(async (workflow, options) => {
    if (options.dryRun || options.graph !== undefined) chooseEngine(options.backend);
    else await prepareEngine(options.backend);
    const result = await runPipelineCommand(workflow, options, program);
    if (result !== undefined && !options.json) await printResult(result.out);
  });

pipeline.addCommand(
  command("runs", "list the latest runs")
    .option("--json", "as JSON")
    .option("--limit <number>", "how many", wholeNumber)
    .action((options) => listRunsCommand(options)),
);
pipeline.addCommand(
  command("show", "show a run and its stages")
    .argument("<run>")
    .option("--json", "as JSON")
    .action((run, options) => showRunCommand(run, options)),
);

const stage = new Command("stage")
  .description("do one job of a run, as an executor's child process or container")
  .argument("<name>", `one of ${Object.keys(stages).join(", ")}`)
  .requiredOption("--spec <file>", "the job, as JSON")
  .option(...backend)
  .option("--debug", "print stack traces")
  .action((name, options) => {
    chooseEngine(options.backend);
    return stageCommand(name, options.spec, stages);
  });

const status = command("status", "serve the status page and API")
  .option("--host <address>", "address to listen on", "127.0.0.1")
  .option("--port <number>", "port to listen on; 0 takes any", wholeNumber, 8080)
  .action(async ({ host, port, journal }) => {
    // Loaded here so that no other command pays for it.
    const { serveStatus } = await import("./status/mod.ts");
    const token = Deno.env.get("OREO_STATUS_TOKEN");
    const server = serveStatus({
      host,
      port,
      journal,
      ...(token === undefined ? {} : { readToken: token }),
    });
    console.log(`status of ${journal} at ${server.url} (Ctrl-C ends)`);
    Deno.addSignalListener("SIGINT", () => void server.shutdown());
    await server.finished;
  });

/** The report's table, where the workflow made one, and where the rest lies. */
async function printResult(out: string): Promise<void> {
  try {
    console.log(await Deno.readTextFile(join(out, "report.txt")));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  console.log(`results: ${out}`);
}

async function main(args: string[]): Promise<void> {
  const root = new Command("oreo").exitOverride().showSuggestionAfterError()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, "")) });
  for (const each of [pipeline, stage, status]) {
    each.copyInheritedSettings(root);
    for (const inner of each.commands) inner.copyInheritedSettings(root);
    root.addCommand(each);
  }
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
