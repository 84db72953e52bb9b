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
 * it failed. `-` stands for standard input, on which a runner of this machine sends jobs of the stage, a
 * JSON line each, until it ends.
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
  let stop = new AbortController();
  const jobs = new JobQueue();
  if (spec === "-") {
    listen((line) => {
      if (line === "cancel") stop.abort(new Error("stopped"));
      else jobs.add(line);
    });
  } else jobs.add(await readSpec(name, spec));
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
  for (let first = true;; first = false) {
    const job = parseJob(name, spec, await jobs.next());
    if (first && job.parent !== undefined) endWith(job.parent);
    // An attempt that was given up may still be dying: wait until it is gone from the scratch folder.
    const lock = await lockFile(`${job.scratch}.attempt`);
    const outcome = await runStage(job, stages, open(job.store), send, stop.signal);
    await lock.release();
    send(outcome);
    if (outcome.type !== "done") Deno.exit(1);
    if (!job.stay || spec !== "-") Deno.exit(0);
    stop = new AbortController();
  }
}

/** Jobs that have come and wait to be done. */
class JobQueue {
  readonly #waiting: string[] = [];
  #wake = () => {};

  add(job: string): void {
    this.#waiting.push(job);
    this.#wake();
  }

  async next(): Promise<string> {
    while (this.#waiting.length === 0) await new Promise<void>((resolve) => this.#wake = resolve);
    return this.#waiting.shift()!;
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

async function readSpec(name: string, spec: string): Promise<string> {
  try {
    return await Deno.readTextFile(spec);
  } catch (cause) {
    throw new UserError(`reading the job of stage '${name}': no file ${spec}`, {
      exitCode: 2,
      cause,
    });
  }
}

function parseJob(name: string, spec: string, text: string): StageJob {
  const from = spec === "-" ? "standard input" : spec;
  let job: StageJob;
  try {
    job = jobSchema.parse(JSON.parse(text));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new UserError(`reading the job of stage '${name}' from ${from}: ${reason}`, {
      exitCode: 2,
      cause,
    });
  }
  if (job.stage !== name) {
    throw new UserError(`${from} has a job of stage '${job.stage}', not of '${name}'`, {
      exitCode: 2,
    });
  }
  return job;
}

/** Passes on the lines of standard input; its end is the end of whoever sends them, and of this. */
async function listen(onLine: (line: string) => void): Promise<never> {
  for await (const line of linesOf(Deno.stdin.readable)) onLine(line);
  Deno.exit(1);
}

/** Ends this process when its parent ends. */
function endWith(parent: number): void {
  if (Deno.build.os === "linux") killedWithParent();
  if (process.ppid !== parent) Deno.exit(1);
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
