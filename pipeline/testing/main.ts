/** The program whose stage processes the tests of the process executor start. */
import { stageCommand } from "../stage_command.ts";
import { stages } from "./stages.ts";

const [command, name, option, spec] = Deno.args;
if (command !== "stage" || option !== "--spec") Deno.exit(2);
await stageCommand(name!, spec!, stages);
