/**
 * The executor that runs each stage in a child process, `main.ts stage NAME --spec -`, which is
 * gone when the stage is (a stage may allow that its process does further jobs of its own kind). The
 * child gets its job as a line on its standard input and reports JSON lines on its standard output; what
 * it writes to standard error is its log. It ends when this process does, however that ends: it watches
 * its standard input, and on Linux the kernel kills it.
 */
import { fileURLToPath } from "node:url";
import type { Executor, ExecutorSignals } from "../executor.ts";
import {
  linesOf,
  messageSchema,
  type StageJob,
  type StageOutcome,
  type StageReport,
} from "../protocol.ts";

/** All: Deno reads /proc, by which a dead owner is told from another process of its number, with no less. */
const PERMISSIONS = ["-A"];

/** A stage that was asked to stop is given so long before it is killed. */
const GRACE_MS = 10_000;
/** A process that may do further jobs waits so long for the next. */
const IDLE_MS = 1_000;
const LAST_LINES = 5;
const STOPPED: StageOutcome = { type: "failed", message: "stopped", retryable: true };

export interface ProcessOptions {
  /** `import.meta.url` of the program whose `stage` command does the work. */
  readonly main: string;
  /** Additional options of `deno run`. */
  readonly denoArgs?: readonly string[];
  readonly graceMilliseconds?: number;
}

export function processExecutor(options: ProcessOptions): Executor {
  const idle = new Map<string, StageProcess[]>();
  return {
    name: "process",
    async run(job, _resources, report, signals) {
      if (signals.cancel.aborted) return STOPPED;
      const waiting = idle.get(job.stage) ?? [];
      idle.set(job.stage, waiting);
      let child = waiting.pop();
      if (child === undefined || !child.isFit) child = new StageProcess(job.stage, options);
      const outcome = await child.work(job, report, signals);
      if (job.stay && outcome.type === "done" && child.isFit) {
        const used = child;
        waiting.push(used);
        used.waitOrEnd(() => waiting.splice(waiting.indexOf(used), 1));
      } else await child.gone();
      return outcome;
    },
  };
}

/** One child process and the job it is at. */
class StageProcess {
  /** Whether it can do a further job; one that was asked to stop might take that for the next. */
  isFit = true;
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #grace: number;
  readonly #ended: Promise<Deno.CommandStatus>;
  readonly #lastLines: string[] = [];
  #report: (report: StageReport) => void = () => {};
  #outcome: (outcome: StageOutcome) => void = () => {};
  #idleTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(stage: string, options: ProcessOptions) {
    const main = options.main.startsWith("file:") ? fileURLToPath(options.main) : options.main;
    this.#grace = options.graceMilliseconds ?? GRACE_MS;
    this.#child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        ...PERMISSIONS,
        ...options.denoArgs ?? [],
        main,
        "stage",
        stage,
        "--spec",
        "-",
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#ended = this.#listen();
  }

  /** Has the process do a job. */
  async work(
    job: StageJob,
    report: (report: StageReport) => void,
    signals: ExecutorSignals,
  ): Promise<StageOutcome> {
    clearTimeout(this.#idleTimer);
    let grace: ReturnType<typeof setTimeout> | undefined;
    const kill = () => this.#kill();
    const cancel = () => {
      this.isFit = false;
      this.#send("cancel");
      grace = setTimeout(kill, this.#grace);
    };
    let told: StageOutcome | undefined;
    this.#report = report;
    const outcome = new Promise<void>((resolve) => {
      this.#outcome = (outcome) => {
        told = outcome;
        if (job.stay) resolve();
      };
    });
    this.#send(JSON.stringify({ ...job, parent: Deno.pid }));
    signals.cancel.addEventListener("abort", cancel, { once: true });
    signals.kill.addEventListener("abort", kill, { once: true });
    if (signals.cancel.aborted) cancel();
    try {
      const status = await Promise.race([outcome, this.#ended]);
      return told ?? withoutOutcome(status as Deno.CommandStatus, this.#lastLines, signals);
    } finally {
      clearTimeout(grace);
      signals.cancel.removeEventListener("abort", cancel);
      signals.kill.removeEventListener("abort", kill);
      this.#report = () => {};
      this.#outcome = () => {};
    }
  }

  /** Lets the process wait for another job for a moment, and end then. */
  waitOrEnd(onEnd: () => void): void {
    this.#idleTimer = setTimeout(() => {
      onEnd();
      this.#input.close().catch(() => {});
    }, IDLE_MS);
    // A program that is done need not wait for it: it ends with its parent.
    Deno.unrefTimer(this.#idleTimer);
    this.#child.unref();
  }

  async gone(): Promise<void> {
    await this.#input.close().catch(() => {}); // one that waits for further jobs then ends
    await this.#ended;
  }

  #send(line: string): void {
    this.#input.write(new TextEncoder().encode(`${line}\n`)).catch(() => {});
  }

  #kill(): void {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
  }

  async #listen(): Promise<Deno.CommandStatus> {
    const readReports = async () => {
      for await (const line of linesOf(this.#child.stdout)) {
        const message = parseMessage(line);
        if (message === undefined) this.#report({ type: "log", text: line, level: "info" });
        else if (message.type === "done" || message.type === "failed") this.#outcome(message);
        else this.#report(message);
      }
    };
    const readLog = async () => {
      for await (const line of linesOf(this.#child.stderr)) {
        this.#lastLines.push(line);
        if (this.#lastLines.length > LAST_LINES) this.#lastLines.shift();
        this.#report({ type: "log", text: line, level: "info" });
      }
    };
    const [status] = await Promise.all([this.#child.status, readReports(), readLog()]);
    this.isFit = false;
    return status;
  }
}

function parseMessage(line: string): StageReport | StageOutcome | undefined {
  if (!line.startsWith('{"type":')) return undefined;
  try {
    return messageSchema.parse(JSON.parse(line));
  } catch {
    return undefined;
  }
}

function withoutOutcome(
  status: Deno.CommandStatus,
  lastLines: readonly string[],
  signals: ExecutorSignals,
): StageOutcome {
  if (signals.cancel.aborted || signals.kill.aborted) return STOPPED;
  if (status.signal !== null) {
    const hint = status.signal === "SIGKILL" ? " (was the machine out of memory?)" : "";
    return {
      type: "failed",
      message: `its process was ended by ${status.signal}${hint}`,
      retryable: true,
    };
  }
  const said = lastLines.length === 0 ? "" : `:\n${lastLines.join("\n")}`;
  return {
    type: "failed",
    message: `its process ended with code ${status.code} before it was done${said}`,
    retryable: false,
  };
}
