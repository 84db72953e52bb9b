/**
 * The program that the crash test starts and kills: it runs a generated graph, each stage in a process
 * of its own, with a disk that fails and a clock that jumps where the test asks for it.
 */
import { UserError } from "../../errors.ts";
import { processExecutor } from "../executors/process.ts";
import { openJournal } from "../journal_open.ts";
import { runWorkflow } from "../runner.ts";
import { stageCommand } from "../stage_command.ts";
import { FolderStore } from "../store_folder.ts";
import { failingDisk, jumpingClock } from "./faults.ts";
import { generated, generator } from "./generated.ts";
import { stages } from "./stages.ts";

/** What the test asks for. */
export interface CrashRun {
  readonly shape: number;
  /** Seed of the run; another seed is another run. */
  readonly seed: number;
  /** Seed of the faults. */
  readonly faults: number;
  /** The share of the store's file operations that fail. */
  readonly failing: number;
  readonly jumps: boolean;
  /** Holds the store, the journal and the results. */
  readonly folder: string;
}

const FAULTS = "CRASH_RUN";

async function main(): Promise<void> {
  const asked = JSON.parse(Deno.env.get(FAULTS)!) as CrashRun;
  const random = generator(asked.faults * 65_537 + Deno.pid);
  if (asked.jumps) jumpingClock(random);
  const open = (location: string) => new FolderStore(location, failingDisk(random, asked.failing));
  const [command, name, , spec] = Deno.args;
  if (command === "stage") return await stageCommand(name!, spec!, stages, open);
  const journal = openJournal(`${asked.folder}/journal.sqlite`);
  try {
    await runWorkflow(
      generated as never,
      { shape: asked.shape, stepMilliseconds: 0 },
      {
        store: open(`${asked.folder}/store`),
        journal,
        executor: processExecutor({ main: import.meta.url }),
        out: `${asked.folder}/out-${asked.seed}`,
        seed: asked.seed,
        capacity: { slots: 2 },
        backoff: () => 20,
      },
    );
  } finally {
    await journal.close();
  }
}

if (import.meta.main) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    console.error(error.message);
    Deno.exit(error.exitCode);
  }
}
