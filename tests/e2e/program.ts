/**
 * Runs the program as its users do: `main.ts` in a process of its own, in a folder of its own. Nothing
 * of the program is imported here, so that the tests see only what users see.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("../../main.ts", import.meta.url));

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ProgramOptions {
  /** The folder it runs in. */
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** The words of the command line that runs the program with `args`. */
export function commandLine(args: readonly string[]): string[] {
  return [Deno.execPath(), "run", "-A", main, ...args];
}

function command(args: readonly string[], { cwd, env }: ProgramOptions): Deno.Command {
  const [file, ...rest] = commandLine(args);
  return new Deno.Command(file!, {
    args: rest,
    cwd,
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
}

/** Starts the program; the caller reads its streams and waits for its end. */
export function start(args: readonly string[], options: ProgramOptions): Deno.ChildProcess {
  return command(args, options).spawn();
}

/** Runs the program to its end. */
export async function run(args: readonly string[], options: ProgramOptions): Promise<Ended> {
  return told(await command(args, options).output());
}

/** What a process wrote, as text. */
export function told({ code, stdout, stderr }: Deno.CommandOutput): Ended {
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** The lines of a stream as they come. */
export async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
  if (rest !== "") yield rest;
}

/** A folder that is gone after `body`. */
export async function inFolder<T>(body: (folder: string) => Promise<T>): Promise<T> {
  const folder = await Deno.makeTempDir({ prefix: "oreo-e2e-" });
  try {
    return await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Every file below a folder by its relative path, sorted. */
export async function filesBelow(folder: string, relative = ""): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(join(folder, relative))) {
    const path = join(relative, name);
    if (isDirectory) found.push(...await filesBelow(folder, path));
    else found.push(path);
  }
  return found.sort();
}

/** The demo's settings at which it runs through all its stages in well under a minute. */
export const tiny: readonly string[] = [
  ["task.difficulty", 1],
  ["task.train", 1280],
  ["task.validation", 8],
  ["task.test", 24],
  ["sft.shape.hidden", 32],
  ["sft.shape.layers", 1],
  ["sft.shape.heads", 2],
  ["sft.shape.keyValueHeads", 1],
  ["sft.shape.feedForward", 64],
  ["sft.epochs", 10],
  ["sft.batchSize", 64],
  ["sft.learningRate", 0.01],
  ["sft.buckets", 1],
  ["sft.checkpointEvery", 20],
  ["sample.queries", 32],
  ["sample.perQuery", 4],
  ["sample.slots", 32],
  ["sample.maxNewTokens", 48],
  ["score.batchSize", 32],
  ["train.epochs", 2],
  ["train.batchSize", 16],
  ["train.buckets", 1],
  ["train.checkpointEvery", 2],
  ["train.valueFirst.epochs", 1],
  ["train.valueFirst.batchSize", 16],
  ["rejectionSampling.epochs", 1],
  ["rejectionSampling.batchSize", 16],
  ["rejectionSampling.buckets", 1],
  ["search.queries", 8],
  ["search.beams", "1,3"],
  ["search.slots", 32],
  ["search.shown", 2],
  ["search.maxNewTokens", 48],
  ["evaluate.slots", 32],
  ["evaluate.maxNewTokens", 48],
].flatMap(([path, value]) => ["--set", `${path}=${value}`]);
