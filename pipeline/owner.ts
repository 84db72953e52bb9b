/**
 * Who holds a lease: a process, told apart from every other one on any machine, and from a later
 * process that happens to get the same number. Whether it still lives can be asked on its own machine;
 * elsewhere only its heartbeat tells (`journal.ts`).
 */
import { hostname } from "node:os";
import process from "node:process";
import { z } from "zod";
import { sha256 } from "./hash.ts";

export const ownerSchema = z.object({
  /** The machine and its process namespace, as long as it stays up. */
  machine: z.string(),
  /** The machine's name, for people. */
  host: z.string(),
  pid: z.number().int(),
  /** When the process started, in the kernel's own count; tells apart processes with one number. */
  birth: z.string(),
  /** Distinguishes holders within one process. */
  nonce: z.string(),
});
export type Owner = z.infer<typeof ownerSchema>;

/** A holder for this process. */
export function thisOwner(): Owner {
  return {
    machine: machineId(),
    host: hostname(),
    pid: process.pid,
    birth: birthOf(process.pid) ?? "",
    nonce: crypto.randomUUID(),
  };
}

/** True or false for a process of this machine; undefined where that cannot be known from here. */
export function isAlive(owner: Owner): boolean | undefined {
  if (owner.machine !== machineId()) return undefined;
  if (owner.birth !== "") return birthOf(owner.pid) === owner.birth;
  try {
    process.kill(owner.pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === "EPERM";
  }
}

let machine: string | undefined;
function machineId(): string {
  machine ??= [
    hostname(),
    readOr(() => Deno.readTextFileSync("/proc/sys/kernel/random/boot_id").trim()),
    readOr(() => Deno.readLinkSync("/proc/self/ns/pid")),
  ].join("/");
  return machine;
}

/** Field 22 of /proc/PID/stat; undefined where there is no such process, or it is a zombie. */
function birthOf(pid: number): string | undefined {
  const stat = readOr(() => Deno.readTextFileSync(`/proc/${pid}/stat`));
  // The second field is the command in brackets and may hold spaces and brackets itself.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" ? undefined : fields[19];
}

function readOr(read: () => string): string {
  try {
    return read();
  } catch {
    return "";
  }
}

/** A name for something of this process that is to be swept away once the process is gone. */
export function temporaryName(): string {
  const { machine, pid, birth } = thisOwner();
  return [sha256(machine).slice(0, 8), pid, birth, crypto.randomUUID().slice(0, 8)].join("-");
}

/** True where a `temporaryName` is of a process of this machine that has ended. */
export function isLeftOver(name: string): boolean {
  const [machine, pid, birth] = name.split("-");
  if (machine !== sha256(machineId()).slice(0, 8) || !birth) return false;
  return birthOf(Number(pid)) !== birth;
}
