/** Looks at and kills processes of this machine, by what Linux tells in /proc. */

export function childrenOf(pid: number): number[] {
  const found: number[] = [];
  try {
    for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
      const text = Deno.readTextFileSync(`/proc/${pid}/task/${name}/children`);
      found.push(...text.split(" ").filter((word) => word !== "").map(Number));
    }
  } catch {
    // It has ended.
  }
  return found;
}

export function isRunning(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/s.test(Deno.readTextFileSync(`/proc/${pid}/stat`));
  } catch {
    return false;
  }
}

/** False where it has ended already. */
export function killIfThere(pid: number): boolean {
  if (!isRunning(pid)) return false;
  try {
    Deno.kill(pid, "SIGKILL");
    return true;
  } catch {
    return false;
  }
}

/** The running processes whose command line or environment names `text`, except this one. */
export function processesNaming(text: string): number[] {
  const found: number[] = [];
  for (const { name } of Deno.readDirSync("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === Deno.pid || !isRunning(pid)) continue;
    try {
      const said = Deno.readTextFileSync(`/proc/${name}/cmdline`) +
        Deno.readTextFileSync(`/proc/${name}/environ`);
      if (said.includes(text)) found.push(pid);
    } catch {
      // It has ended, or is somebody else's.
    }
  }
  return found;
}
