/** Disks that fail and clocks that jump, for tests of what the engine makes of them. */
import { type Disk, localDisk } from "../files.ts";

/** A disk that now and then does nothing, half of the work, or all of it, and then fails. */
export function failingDisk(random: () => number, share: number): Disk {
  const full = () => {
    throw Object.assign(new Error("No space left on device (os error 28)"), { code: "ENOSPC" });
  };
  const broken = () => {
    throw new Error("Input/output error (os error 5)");
  };
  const fail = () => random() < 0.5 ? full() : broken();
  const strikes = () => random() < share;
  return {
    async writeNew(path, data) {
      if (!strikes()) return await localDisk.writeNew(path, data);
      const short = Math.floor(random() * (data.length + 1));
      await Deno.writeFile(path, data.subarray(0, short), { createNew: true });
      fail();
    },
    async copyNew(from, to) {
      if (!strikes()) return await localDisk.copyNew(from, to);
      await Deno.writeTextFile(to, "half of it", { createNew: true });
      return fail();
    },
    async digest(path) {
      return strikes() ? fail() : await localDisk.digest(path);
    },
    async sync(path) {
      if (strikes()) fail();
      await localDisk.sync(path);
    },
    async rename(from, to) {
      if (!strikes()) return await localDisk.rename(from, to);
      if (random() < 0.5) await localDisk.rename(from, to);
      fail();
    },
    async link(from, to) {
      if (strikes()) fail();
      await localDisk.link(from, to);
    },
  };
}

/** From now on, this process's clock jumps now and then, by up to a day in either direction. */
export function jumpingClock(random: () => number): void {
  const realNow = Date.now;
  let offset = 0;
  Date.now = () => {
    if (random() < 0.05) offset = Math.floor((random() - 0.5) * 2 * 86_400_000);
    return realNow() + offset;
  };
}
