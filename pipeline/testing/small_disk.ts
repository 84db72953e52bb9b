/** A folder on a small disk of its own, which a test can fill up and empty again. */
import { join } from "node:path";

export interface SmallDisk {
  readonly folder: string;
  /** Takes all the room that is left. Nothing happens where the machine lets nobody mount disks. */
  fill(): Promise<void>;
  free(): Promise<void>;
}

/** Runs `body` with a disk of so many bytes, or an ordinary folder where none can be mounted. */
export async function withSmallDisk(
  bytes: number,
  body: (disk: SmallDisk) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "disk-" });
  const run = (command: string, ...args: string[]) =>
    new Deno.Command(command, { args, stdout: "null", stderr: "null" }).output()
      .then((output) => output.success, () => false);
  const mounted = Deno.build.os === "linux" &&
    await run("mount", "-t", "tmpfs", "-o", `size=${bytes}`, "tmpfs", folder);
  if (!mounted) console.log("not tested: a disk that is full (only root may mount one)");
  const balloon = join(folder, "balloon");
  try {
    await body({
      folder,
      async fill() {
        if (!mounted) return;
        using file = await Deno.open(balloon, { write: true, create: true });
        const chunk = new Uint8Array(4_096);
        try {
          for (;;) await file.write(chunk);
        } catch {
          // Full.
        }
      },
      free: () => mounted ? Deno.remove(balloon) : Promise.resolve(),
    });
  } finally {
    if (mounted) await run("umount", "-l", folder);
    await Deno.remove(folder, { recursive: true });
  }
}
