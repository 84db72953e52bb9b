/**
 * Where PJRT plugins come from. The CPU plugin is a wheel on Python's package index: it is fetched once
 * with pip, pinned by its hash, and unpacked into the cache folder, safely for processes that do so at
 * the same time.
 */
import { createHash } from "node:crypto";
import * as path from "node:path";
import { unzipSync } from "fflate";
import { UserError } from "../errors.ts";

/** The wheel of the CPU plugin that this program is tested with. */
const CPU_PLUGIN = {
  requirement: "xla-cpu-pjrt==0.0.1",
  sha256: "55837b6b7b47daa717f2d9a5a03563ea0ceaa338d06a81a1e2d3f060d960decc",
  folder: "xla_plugins/xla_cpu_pjrt/",
  library: "xla_cpu_pjrt.so",
  header: "include/pjrt_c_api.h",
} as const;

/** Where things that can be had again are kept: `OREO_CACHE`, else `~/.cache/oreo`. */
export function cacheFolder(): string {
  const set = Deno.env.get("OREO_CACHE");
  if (set !== undefined && set !== "") return path.resolve(set);
  const base = Deno.env.get("XDG_CACHE_HOME") || path.join(Deno.env.get("HOME") ?? ".", ".cache");
  return path.join(base, "oreo");
}

/** A plugin file and a name that changes with its content. */
export interface PluginFile {
  path: string;
  identity: string;
}

/** The plugin at a path that the user gave. */
export function pluginAt(file: string): PluginFile {
  let stat: Deno.FileInfo;
  try {
    stat = Deno.statSync(file);
  } catch (cause) {
    throw new UserError(`opening the PJRT plugin '${file}': there is no such file`, {
      exitCode: 2,
      cause,
    });
  }
  return {
    path: path.resolve(file),
    identity: `${path.resolve(file)} ${stat.size} ${stat.mtime?.getTime() ?? 0}`,
  };
}

/** Where the CPU plugin is, or will be once it is fetched. */
export function cpuPluginPlace(): PluginFile & { fetched: boolean } {
  const file = cpuPluginFile();
  return { ...file, fetched: isFile(file.path) };
}

function cpuPluginFile(): PluginFile {
  const home = path.join(cacheFolder(), "plugins", `cpu-${CPU_PLUGIN.sha256.slice(0, 16)}`);
  return { path: path.join(home, CPU_PLUGIN.library), identity: `sha256:${CPU_PLUGIN.sha256}` };
}

/** @throws UserError where no CPU plugin is made for this machine, or pip is missing to fetch it */
export async function checkCanFetch(): Promise<void> {
  checkMachine();
  await requirePip();
}

function checkMachine(): void {
  const { os, arch } = Deno.build;
  if (os !== "linux" || arch !== "x86_64") {
    throw new UserError(
      `the XLA CPU plugin exists for Linux on x86-64 only, this is ${os} ${arch}`,
    );
  }
}

/**
 * The CPU plugin, fetched if it is not in the cache yet.
 * @param say gets the progress, a line at a time
 * @throws UserError that says in one line why it cannot be had here
 */
export async function cpuPlugin(
  say: (line: string) => void = (line) => console.error(line),
): Promise<PluginFile> {
  checkMachine();
  const file = cpuPluginFile();
  const home = path.dirname(file.path);
  try {
    if (!isFile(file.path)) await fetchCpuPlugin(home, say);
    return file;
  } catch (error) {
    // Errors of the file system have a code: a folder that cannot be written, a full disk.
    if (!(error instanceof Error && "code" in error)) throw error;
    throw new UserError(
      `keeping the XLA CPU plugin in ${home}: ${error.message}; set OREO_CACHE to another folder`,
      { cause: error },
    );
  }
}

async function fetchCpuPlugin(home: string, say: (line: string) => void): Promise<void> {
  await requirePip();
  Deno.mkdirSync(path.dirname(home), { recursive: true });
  const work = Deno.makeTempDirSync({ dir: path.dirname(home), prefix: ".fetch-" });
  try {
    say(`fetching the XLA CPU plugin (${CPU_PLUGIN.requirement}) with pip, once ...`);
    const wheel = await downloadWheel(work);
    const bytes = Deno.readFileSync(wheel);
    const sum = createHash("sha256").update(bytes).digest("hex");
    if (sum !== CPU_PLUGIN.sha256) {
      throw new UserError(
        `pip delivered a file with SHA-256 ${sum} for ${CPU_PLUGIN.requirement}, expected ${CPU_PLUGIN.sha256}`,
      );
    }
    say(`unpacking ${(bytes.length / 2 ** 20).toFixed(0)} MiB to ${home} ...`);
    const unpacked = path.join(work, "unpacked");
    unpackWheel(bytes, unpacked);
    publish(unpacked, home);
    say("the XLA CPU plugin is ready");
  } finally {
    Deno.removeSync(work, { recursive: true });
  }
}

/** Looks for pip before anything is announced or made. */
async function requirePip(): Promise<void> {
  const { success } = await python(["-c", "import pip"]);
  if (!success) {
    throw new UserError("the XLA CPU plugin is fetched with pip, and this python3 has no pip");
  }
}

async function python(args: string[]): Promise<Deno.CommandOutput> {
  const command = new Deno.Command("python3", { args, stdout: "null", stderr: "piped" });
  try {
    return await command.output();
  } catch (cause) {
    throw new UserError("the XLA CPU plugin is fetched with pip, and there is no python3", {
      cause,
    });
  }
}

/** Asks pip, which checks the hash too, for the wheel; returns its file. */
async function downloadWheel(work: string): Promise<string> {
  const requirements = path.join(work, "requirements.txt");
  Deno.writeTextFileSync(
    requirements,
    `${CPU_PLUGIN.requirement} --hash=sha256:${CPU_PLUGIN.sha256}\n`,
  );
  const output = await python([
    ...["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"],
    ...["--only-binary", ":all:", "--disable-pip-version-check", "--dest", work],
    ...["--requirement", requirements],
  ]);
  if (!output.success) {
    const lines = new TextDecoder().decode(output.stderr).trim().split("\n");
    const reason = lines.findLast((line) => /error/i.test(line)) ?? lines.at(-1) ?? "";
    throw new UserError(`pip could not fetch the XLA CPU plugin: ${reason.trim()}`);
  }
  const wheel = [...Deno.readDirSync(work)].find((entry) => entry.name.endsWith(".whl"));
  if (wheel === undefined) throw new UserError("pip delivered no wheel of the XLA CPU plugin");
  return path.join(work, wheel.name);
}

/** Writes the plugin's library and header out of the wheel, which is a zip file. */
function unpackWheel(wheel: Uint8Array, folder: string): void {
  const wanted = [CPU_PLUGIN.library, CPU_PLUGIN.header];
  const files = unzipSync(wheel, {
    filter: ({ name }) => wanted.some((file) => name === CPU_PLUGIN.folder + file),
  });
  for (const file of wanted) {
    const content = files[CPU_PLUGIN.folder + file];
    if (content === undefined) {
      throw new UserError(`the wheel of the XLA CPU plugin has no ${file}`);
    }
    const target = path.join(folder, file);
    Deno.mkdirSync(path.dirname(target), { recursive: true });
    Deno.writeFileSync(target, content);
  }
}

/** Makes a complete folder appear under its name; another process may have been first. */
function publish(from: string, to: string): void {
  try {
    Deno.renameSync(from, to);
  } catch (error) {
    if (!isFile(path.join(to, CPU_PLUGIN.library))) throw error;
  }
}

function isFile(file: string): boolean {
  try {
    return Deno.statSync(file).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
