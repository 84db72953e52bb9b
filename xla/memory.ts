/**
 * Memory of the devices: what there is, what a compiled program plans to use, and the error for a program
 * that wants more than there is. The check comes before the program runs, so that the answer is a message
 * and not the kernel's out-of-memory killer.
 */
import { UserError } from "../errors.ts";
import type { Client } from "./pjrt/client.ts";
import type { MemoryPlan } from "./pjrt/executable.ts";

/** What one device has, in bytes. */
export interface DeviceMemory {
  /** Position in the client's list. */
  device: number;
  kind: string;
  /** In use by buffers; where the platform does not count them, what the tensors of tfjs take. */
  inUse: number;
  /** The most that was in use, where the platform keeps it. */
  peak?: number;
  /** What may be used in all; undefined where it is not known. */
  limit?: number;
}

/** Environment variable that sets the limit, e.g. `6GiB`; it can lower the device's own. */
export const MEMORY_LIMIT = "XLA_MEMORY_LIMIT";

const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
};

/** @throws UserError (wrong use) for text that is no amount of memory such as `6GiB` or `512 MiB` */
export function parseBytes(text: string, what = MEMORY_LIMIT): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*$/.exec(text);
  const unit = UNITS[match?.[2] ?? "?"];
  if (match === null || unit === undefined) {
    throw new UserError(`${what}: '${text}' is no amount of memory; write e.g. 6GiB or 512MiB`, {
      exitCode: 2,
    });
  }
  return Math.floor(Number(match[1]) * unit);
}

/** `1.50 GiB`. */
export function bytesText(bytes: number): string {
  for (const unit of ["GiB", "MiB", "KiB"]) {
    const size = bytes / UNITS[unit]!;
    if (size >= 1) return `${size >= 100 ? size.toFixed(0) : size.toPrecision(3)} ${unit}`;
  }
  return `${bytes} bytes`;
}

/** What a program needs on each device while it runs. */
function planTotal(plan: MemoryPlan): number {
  return plan.arguments + plan.outputs - plan.aliased + plan.temporary + plan.code;
}

/** The plan in words, as dumps and errors show it. */
export function planText(plan: MemoryPlan): string {
  const reused = plan.aliased === 0 ? "" : `, ${bytesText(plan.aliased)} of them in donated memory`;
  return `${bytesText(planTotal(plan))} (arguments ${bytesText(plan.arguments)}, results ${
    bytesText(plan.outputs)
  }${reused}, temporary ${bytesText(plan.temporary)}, code ${bytesText(plan.code)})`;
}

/** Bytes that a program may use on each device of a client: the variable, the device's own, or the machine's. */
export function memoryLimit(client: Client): number | undefined {
  const set = Deno.env.get(MEMORY_LIMIT);
  const own = client.memoryStats()?.limit ??
    (client.platform === "cpu" ? machineMemory() : undefined);
  if (set === undefined || set === "") return own;
  return Math.min(parseBytes(set), own ?? Infinity);
}

/** Memory of this machine or of the container that this process is in. */
function machineMemory(): number | undefined {
  const amounts: number[] = [];
  for (const file of ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]) {
    try {
      const bytes = Number(Deno.readTextFileSync(file));
      if (bytes > 0) amounts.push(bytes);
    } catch {
      // No such control group, or no permission to look: the machine's own figure is left.
    }
  }
  try {
    amounts.push(Deno.systemMemoryInfo().total);
  } catch {
    // Without --allow-sys there is no figure.
  }
  return amounts.length === 0 ? undefined : Math.min(...amounts);
}

/** Which program wants how much, how much there is, and what lowers it. */
export class OutOfMemoryError extends UserError {
  override name = "OutOfMemoryError";
  readonly program: string;
  readonly wanted: number | undefined;
  readonly limit: number | undefined;

  constructor(
    program: string,
    found: { plan?: MemoryPlan; limit?: number; inUse?: number; detail?: string; hint?: string },
    cause?: unknown,
  ) {
    const { plan, limit, inUse, detail, hint } = found;
    const wants = plan === undefined ? "more memory" : planText(plan);
    const there = [
      limit === undefined ? undefined : `there are ${bytesText(limit)}`,
      inUse === undefined ? undefined : `${bytesText(inUse)} of it in use`,
    ].filter((part) => part !== undefined).join(", ");
    super(
      `out of memory: '${program}' wants ${wants} on a device` +
        (there === "" ? "" : `; ${there}`) +
        (detail === undefined ? "" : ` (the device says: ${detail})`) +
        `. What lowers it: ${hint ?? GENERAL_HINT}`,
      { exitCode: 1, ...(cause === undefined ? {} : { cause }) },
    );
    this.program = program;
    this.wanted = plan === undefined ? undefined : planTotal(plan);
    this.limit = limit;
  }
}

const GENERAL_HINT = "smaller batches or shorter sequences, donated arguments, `checkpoint`, " +
  "bfloat16 compute, or a mesh that spreads the arguments over more devices";

/** @throws OutOfMemoryError where the plan is larger than the limit */
export function checkFits(
  program: string,
  plan: MemoryPlan,
  limit: number | undefined,
  hint?: string,
): void {
  if (limit === undefined || planTotal(plan) <= limit) return;
  throw new OutOfMemoryError(program, { plan, limit, ...(hint === undefined ? {} : { hint }) });
}
