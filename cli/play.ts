/**
 * `play`: an ALFWorld game by recorded commands, as JSON lines, or by a person in the terminal; or games
 * by the expert, as demonstrations.
 */
import { readFile } from "node:fs/promises";
import process from "node:process";
import { createInterface } from "node:readline";
import { Option } from "@commander-js/extra-typings";
import { UserError } from "../errors.ts";
import {
  demonstrate,
  Environment,
  formatConversations,
  loadGame,
  type Outcome,
  type ProtocolName,
  protocolNames,
  protocols,
} from "../tasks/alfworld/mod.ts";
import { plainCommand, wholeNumber } from "./options.ts";

export function playCommand() {
  return plainCommand("play", "play an ALFWorld game")
    .argument("<games...>", "a game.tw-pddl file; with --expert several")
    .option("--commands <file>", "a command a line: print a JSON line for each and one before them")
    .option("--max-steps <number>", "end the game after as many commands", wholeNumber)
    .addOption(
      new Option("--expert <protocol>", "print the expert's games as chat JSON to train on")
        .choices(protocolNames),
    )
    .action(async (paths, options) => {
      const { maxSteps, expert } = options;
      if (maxSteps === 0) {
        throw new UserError("--max-steps 0: it must be 1 or more", { exitCode: 2 });
      }
      if (expert !== undefined) return await printDemonstrations(paths, expert, maxSteps ?? 40);
      if (paths.length > 1) {
        throw new UserError(
          `play takes one game, got ${paths.length}; --expert takes several`,
          { exitCode: 2 },
        );
      }
      const game = await loadGame(paths[0]!);
      const environment = new Environment(game, maxSteps === undefined ? {} : { maxSteps });
      if (options.commands === undefined) await playInTerminal(environment);
      else await playCommands(environment, options.commands);
    });
}

/** The games that the expert wins, in the published form; the others are named on the error output. */
async function printDemonstrations(
  paths: readonly string[],
  protocol: ProtocolName,
  maxTurns: number,
): Promise<void> {
  const { examples } = protocols[protocol];
  const won = [];
  for (const path of paths) {
    const game = await loadGame(path);
    const shown = demonstrate(game, { protocol: protocols[protocol], examples, maxTurns });
    if (shown?.won) won.push({ id: path, messages: shown.messages, reward: 1 });
    else console.error(`${path}: the expert does not win it in ${maxTurns} turns; left out`);
  }
  if (won.length === 0) throw new UserError("the expert won none of the games");
  process.stdout.write(formatConversations(won));
}

/** Lines as recorded: blanks and empty lines are commands too. A last line break ends a command. */
async function playCommands(environment: Environment, path: string): Promise<void> {
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    const reason = error.code === "ENOENT" ? "there is no such file" : error.message;
    throw new UserError(`cannot read the commands in ${path}: ${reason}`, { cause: error });
  });
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  console.log(line(null, environment.reset()));
  for (const command of lines) console.log(line(command, environment.step(command)));
}

function line(command: string | null, outcome: Outcome): string {
  const { observation, reward, done, won, admissibleCommands } = outcome;
  return JSON.stringify({
    command,
    observation,
    reward,
    done,
    won,
    admissible_commands: admissibleCommands,
  });
}

async function playInTerminal(environment: Environment): Promise<void> {
  let outcome = environment.reset();
  console.log(outcome.observation);
  console.log("\n(? lists what can be done here; an empty line ends the game)");
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  terminal.setPrompt("\n> ");
  terminal.prompt();
  for await (const command of terminal) {
    if (command.trim() === "") break;
    if (command.trim() === "?") {
      console.log(outcome.admissibleCommands.join("\n"));
    } else {
      outcome = environment.step(command);
      console.log(outcome.observation);
      if (outcome.done) {
        console.log(outcome.won ? "\nYou won." : "\nNo steps are left.");
        break;
      }
    }
    terminal.prompt();
  }
  terminal.close();
}
