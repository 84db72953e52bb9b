/** `play`: an ALFWorld game by recorded commands, as JSON lines, or by a person in the terminal. */
import { readFile } from "node:fs/promises";
import process from "node:process";
import { createInterface } from "node:readline";
import { UserError } from "../errors.ts";
import { Environment, loadGame, type Outcome } from "../tasks/alfworld/mod.ts";
import { plainCommand, wholeNumber } from "./options.ts";

export function playCommand() {
  return plainCommand("play", "play an ALFWorld game")
    .argument("<game>", "a game.tw-pddl file")
    .option("--commands <file>", "a command a line: print a JSON line for each and one before them")
    .option("--max-steps <number>", "end the game after as many commands", wholeNumber)
    .action(async (path, options) => {
      const { maxSteps } = options;
      if (maxSteps === 0) {
        throw new UserError("--max-steps 0: it must be 1 or more", { exitCode: 2 });
      }
      const game = await loadGame(path);
      const environment = new Environment(game, maxSteps === undefined ? {} : { maxSteps });
      if (options.commands === undefined) await playInTerminal(environment);
      else await playCommands(environment, options.commands);
    });
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
