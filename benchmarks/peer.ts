/**
 * A peer is a program beside ours that runs the same work: it reads one JSON request a line and
 * answers with the median seconds, so that a benchmark can take turns between the two within one run
 * and a slow moment of a shared machine hits both. Peers written in Python live in a virtual
 * environment of their own, made once in the cache folder with pip.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { UserError } from "../errors.ts";

export interface Peer {
  /** What the peer calls itself, with its version. */
  readonly name: string;
  /** Median seconds of one unit of the requested work. */
  seconds(request: Record<string, unknown>): Promise<number>;
  /** All that it answers. */
  ask(request: Record<string, unknown>): Promise<Record<string, unknown>>;
  close(): Promise<void>;
}

/** Folder of the Python virtual environment with the pinned `packages`, made if need be. */
export async function pythonEnvironment(
  name: string,
  packages: string[],
): Promise<string> {
  const cache = Deno.env.get("OREO_CACHE") ??
    join(Deno.env.get("XDG_CACHE_HOME") ?? join(Deno.env.get("HOME") ?? ".", ".cache"), "oreo");
  const folder = join(cache, `${name}-venv`);
  const stamp = join(folder, "packages.txt");
  const wanted = packages.join("\n");
  try {
    if (await Deno.readTextFile(stamp) === wanted) return folder;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  console.error(`bench: installing ${packages.join(", ")} with pip into ${folder}`);
  await python("python3", ["-m", "venv", "--clear", folder]);
  await python(join(folder, "bin", "python"), ["-m", "pip", "install", "-q", ...packages]);
  await Deno.writeTextFile(stamp, wanted);
  return folder;
}

async function python(program: string, args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(program, { args, stderr: "piped" }).output();
  if (success) return;
  const said = new TextDecoder().decode(stderr).trim().split("\n").slice(-3).join("; ");
  throw new UserError(`bench: '${program} ${args.join(" ")}' failed: ${said}`);
}

/** Starts `script` (a path below `peers/`) and waits for its greeting. */
export async function startPeer(program: string, script: string): Promise<Peer> {
  const child = spawn(program, [join(import.meta.dirname!, "peers", script)], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    const { value, done } = await lines.next();
    if (done) throw new UserError(`bench: peer ${script} ended early; its error stands above`);
    return JSON.parse(value) as Record<string, unknown>;
  };
  const ask = async (request: Record<string, unknown>) => {
    child.stdin.write(JSON.stringify(request) + "\n");
    return await answer();
  };
  const greeting = await answer();
  return {
    name: typeof greeting.peer === "string" ? greeting.peer : script,
    ask,
    async seconds(request) {
      const { seconds } = await ask(request);
      if (typeof seconds !== "number") throw new Error(`peer ${script} answered without seconds`);
      return seconds;
    },
    async close() {
      const ended = once(child, "close");
      child.stdin.end();
      await ended;
    },
  };
}

export function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
