/**
 * The program that the test of two runners starts twice: for each line on its standard input, a seed,
 * it tries to run one workflow with it and answers with what came of that.
 */
import { UserError } from "../../errors.ts";
import { inlineExecutor } from "../executors/inline.ts";
import { openJournal } from "../journal_open.ts";
import { linesOf } from "../protocol.ts";
import { runWorkflow } from "../runner.ts";
import { FolderStore } from "../store_folder.ts";
import { generated } from "./generated.ts";
import { stages } from "./stages.ts";

const [folder, shape] = Deno.args as [string, string];
const store = new FolderStore(`${folder}/store`);
const journal = openJournal(`${folder}/journal.sqlite`);
const executor = inlineExecutor(stages, store);
console.log("ready");
for await (const line of linesOf(Deno.stdin.readable)) {
  const seed = Number(line);
  const params = { shape: Number(shape), stepMilliseconds: 1 };
  const out = `${folder}/out-${seed}`;
  try {
    const options = { store, journal, executor, out, seed, capacity: { slots: 2 } };
    const { ran } = await runWorkflow(generated as never, params, options);
    console.log(`ran ${ran}`);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    console.log(error.message);
  }
}
await journal.close();
