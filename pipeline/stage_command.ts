/**
 * The `stage` command: what a child process, a container or a remote job runs. It does one job and
 * reports on standard output in JSON lines; what the stage prints is reported so, too.
 */
import process from "node:process";
import { format } from "node:util";
import { UserError } from "../errors.ts";
import { lockFile } from "./lock.ts";
import { jobSchema, linesOf, type StageJob, type StageMessage } from "./protocol.ts";
import type { Store } from "./store.ts";
import { openStore } from "./store_open.ts";
import { findStage, runStage, type StageRegistry } from "./worker.ts";

const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;

/**
 * Does the job described in the file `spec` and ends the process: with code 0 when it is done, 1 when
 * it failed. Where the job says so, waits for further jobs of the stage on standard input, a file name
 * a line, until that ends.
 *
 * @param open opens the job's store
 * @throws UserError where the stage is unknown, or the file is missing or not a job of this stage
 */
export async function stageCommand(
  name: string,
  spec: string,
  stages: StageRegistry,
  open: (location: string) => Store = openStore,
): Promise<never> {
  await findStage(name, stages);
  let job = await readJob(name, spec);
  let stop = new AbortController();
  const further: string[] = [];
  let wake = () => {};
  if (job.parent !== undefined) {
    endWith(job.parent, (line) => {
      if (line === "cancel") stop.abort(new Error("stopped"));
      else further.push(line);
      wake();
    });
  }
  // A terminal sends Ctrl-C to this process too; the runner decides what it means.
  Deno.addSignalListener("SIGINT", () => {});
  Deno.addSignalListener("SIGTERM", () => stop.abort(new Error("stopped")));
  const stdout = Deno.stdout;
  const send = (message: StageMessage) => {
    const bytes = new TextEncoder().encode(JSON.stringify(message) + "\n");
    // Written at once, so that nothing said is lost if this process is killed the next moment.
    for (let done = 0; done < bytes.length;) done += stdout.writeSync(bytes.subarray(done));
  };
  captureConsole(send);
  for (;;) {
    // An attempt that was given up may still be dying: wait until it is gone from the scratch folder.
    const lock = await lockFile(`${job.scratch}.attempt`);
    const outcome = await runStage(job, stages, open(job.store), send, stop.signal);
    await lock.release();
    send(outcome);
    if (outcome.type !== "done") Deno.exit(1);
    if (!job.stay) Deno.exit(0);
    while (further.length === 0) await new Promise<void>((resolve) => wake = resolve);
    job = await readJob(name, further.shift()!);
    stop = new AbortController();
  }
}

/** What a stage prints goes to its log. */
function captureConsole(send: (message: StageMessage) => void): void {
  const levels = {
    debug: "debug",
    log: "info",
    info: "info",
    warn: "warn",
    error: "error",
  } as const;
  for (const [method, level] of Object.entries(levels)) {
    console[method as keyof typeof levels] = (...values: unknown[]) =>
      send({ type: "log", text: format(...values), level });
  }
}

async function readJob(name: string, spec: string): Promise<StageJob> {
  let text: string;
  try {
    text = await Deno.readTextFile(spec);
  } catch (cause) {
    throw new UserError(`reading the job of stage '${name}': no file ${spec}`, {
      exitCode: 2,
      cause,
    });
  }
  let job: StageJob;
  try {
    job = jobSchema.parse(JSON.parse(text));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new UserError(`reading the job of stage '${name}' from ${spec}: ${reason}`, {
      exitCode: 2,
      cause,
    });
  }
  if (job.stage !== name) {
    throw new UserError(`${spec} is a job of stage '${job.stage}', not of '${name}'`, {
      exitCode: 2,
    });
  }
  return job;
}

/** Ends this process when its parent ends; passes on the lines that the parent sends. */
function endWith(parent: number, onLine: (line: string) => void): void {
  if (Deno.build.os === "linux") killedWithParent();
  if (process.ppid !== parent) Deno.exit(1);
  (async () => {
    for await (const line of linesOf(Deno.stdin.readable)) onLine(line);
    Deno.exit(1);
  })();
}

/**
 * Asks the kernel to kill this process when its parent dies. Standard input alone would not do: a
 * stage deep in a computation does not get round to reading it.
 */
function killedWithParent(): void {
  try {
    const libc = Deno.dlopen("libc.so.6", {
      prctl: { parameters: ["i32", "u64", "u64", "u64", "u64"], result: "i32" },
    });
    libc.symbols.prctl(PR_SET_PDEATHSIG, BigInt(SIGKILL), 0n, 0n, 0n);
    libc.close();
  } catch {
    // No glibc here, or no right to call it; standard input remains.
  }
}
