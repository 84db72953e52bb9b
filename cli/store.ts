/** `store`: look into the artifact store and look after it. */
import {
  collectGarbageCommand,
  exportArtifactCommand,
  listStoreCommand,
  showArtifactCommand,
  verifyStoreCommand,
} from "../pipeline/mod.ts";
import { command, plainCommand, store, wholeNumber } from "./options.ts";

/** The command with its subcommands. */
export function storeCommand() {
  const parent = plainCommand("store", "look into the artifact store and look after it");
  parent.addCommand(
    plainCommand("ls", "list the artifacts, the latest first").option(...store)
      .option("--json", "as JSON")
      .action((options) => listStoreCommand(options)),
  );
  parent.addCommand(
    plainCommand("show", "print an artifact's manifest: its files and what they were made from")
      .argument("<id>", "an artifact, or how its id begins").option(...store)
      .action((id, options) => showArtifactCommand(id, options)),
  );
  parent.addCommand(
    plainCommand("verify", "check every byte; what is damaged is made again by the next run")
      .option(...store)
      .option("--json", "as JSON")
      .action((options) => verifyStoreCommand(options)),
  );
  parent.addCommand(
    command("gc", "remove what the latest runs and those in progress do not need")
      .option(...store)
      .option("--keep-runs <number>", "how many runs to keep the artifacts of", wholeNumber, 10)
      .option("--dry-run", "say what would be removed and remove nothing")
      .option("--json", "as JSON")
      .action((options) => collectGarbageCommand(options)),
  );
  parent.addCommand(
    plainCommand("export", "copy an artifact's files into a new folder")
      .argument("<id>", "an artifact, or how its id begins")
      .argument("<folder>").option(...store)
      .action((id, folder, options) => exportArtifactCommand(id, folder, options)),
  );
  return parent;
}
