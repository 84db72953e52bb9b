/**
 * The executor that runs each stage in a child process, `main.ts stage NAME --spec FILE`, which is
 * gone when the stage is. The child reports JSON lines on its standard output; what it writes to
 * standard error is its log. It ends when this process does, however that ends: it watches its
 * standard input, and on Linux the kernel kills it.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Executor, ExecutorSignals } from "../executor.ts";
import { writeAtomically } from "../files.ts";
import {
  linesOf,
  messageSchema,
  type StageJob,
  type StageOutcome,
  type StageReport,
} from "../protocol.ts";

/** A stage that was asked to stop is given so long before it is killed. */
const GRACE_MS = 10_000;
const LAST_LINES = 5;

export interface ProcessOptions {
  /** `import.meta.url` of the program whose `stage` command does the work. */
  readonly main: string;
  /** Additional options of `deno run`. */
  readonly denoArgs?: readonly string[];
  readonly graceMilliseconds?: number;
}

export function processExecutor(options: ProcessOptions): Executor {
  return {
    name: "process",
    run: (job, _resources, report, signals) => runChild(job, options, report, signals),
  };
}

async function runChild(
  job: StageJob,
  options: ProcessOptions,
  report: (report: StageReport) => void,
  signals: ExecutorSignals,
): Promise<StageOutcome> {
  const spec = join(job.work, "..", "job.json");
  await writeAtomically(spec, JSON.stringify({ ...job, parent: Deno.pid }));
  if (signals.cancel.aborted) return { type: "failed", message: "stopped", retryable: true };
  const main = options.main.startsWith("file:") ? fileURLToPath(options.main) : options.main;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", ...options.denoArgs ?? [], main, "stage", job.stage, "--spec", spec],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();

  const kill = () => {
    try {
      child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
  };
  let grace: ReturnType<typeof setTimeout> | undefined;
  const input = child.stdin.getWriter();
  const cancel = () => {
    input.write(new TextEncoder().encode("cancel\n")).catch(() => {});
    grace = setTimeout(kill, options.graceMilliseconds ?? GRACE_MS);
  };
  signals.cancel.addEventListener("abort", cancel, { once: true });
  signals.kill.addEventListener("abort", kill, { once: true });

  let outcome: StageOutcome | undefined;
  const lastLines: string[] = [];
  const readReports = async () => {
    for await (const line of linesOf(child.stdout)) {
      const message = parseMessage(line);
      if (message === undefined) report({ type: "log", text: line, level: "info" });
      else if (message.type === "done" || message.type === "failed") outcome = message;
      else report(message);
    }
  };
  const readLog = async () => {
    for await (const line of linesOf(child.stderr)) {
      lastLines.push(line);
      if (lastLines.length > LAST_LINES) lastLines.shift();
      report({ type: "log", text: line, level: "info" });
    }
  };
  try {
    const [status] = await Promise.all([child.status, readReports(), readLog()]);
    return outcome ?? withoutOutcome(status, lastLines, signals);
  } finally {
    clearTimeout(grace);
    signals.cancel.removeEventListener("abort", cancel);
    signals.kill.removeEventListener("abort", kill);
    await input.close().catch(() => {});
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
  if (signals.cancel.aborted || signals.kill.aborted) {
    return { type: "failed", message: "stopped", retryable: true };
  }
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
