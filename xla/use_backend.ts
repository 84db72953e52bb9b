/**
 * Chooses the tfjs backend: `xla` where its plugin loads, else `wasm` with one line that says why.
 */
import * as path from "node:path";
import { tf } from "./tf.ts";
import { unknownName, UserError } from "../errors.ts";
import { registerKernels, XlaBackend } from "./backend.ts";
import { setCore } from "./core.ts";
import "./gradients.ts";
import { XlaCore } from "./jit.ts";
import { type DeviceMemory, memoryLimit } from "./memory.ts";
import { Client } from "./pjrt/client.ts";
import { cudaPlugin, hasNvidiaDriver } from "./cuda.ts";
import { useOfficial } from "./official.ts";
import { Plugin } from "./pjrt/api.ts";
import { cacheFolder, cpuPlugin, pluginAt, type PluginFile } from "./plugin.ts";
import { Programs } from "./programs.ts";

export interface BackendInfo {
  /** The tfjs backend's name: xla, tensorflow, webgpu, wasm or cpu. */
  name: string;
  /** What it runs on, as the plugin says (cpu, cuda), or `host` for tfjs's own backends. */
  platform: string;
  devices: number;
  /** Why a slower backend than the default was taken. */
  reason?: string;
}

/** The xla backend of this process, once one has been started. */
let started: { spec: string; backend: XlaBackend } | undefined;

/**
 * Makes a backend active and says which one it is.
 * @param spec one of {@link BACKENDS} or a path to a PJRT plugin. `xla` is CUDA where its plugin is
 *   found, else the CPU plugin. Where undefined: as `xla`, or wasm with one printed line of reason where
 *   xla cannot be had.
 * @param options.cpuDevices how many devices the CPU plugin shows, for sharding without GPUs; by default
 *   `XLA_CPU_DEVICES`, else 1
 * @throws UserError for an unknown name and, where `spec` is given, for a backend that does not start
 */
export async function useBackend(
  spec?: string,
  options: { cpuDevices?: number } = {},
): Promise<BackendInfo> {
  // One device by default: the plugin starts a thread for each, and more threads than cores cost speed.
  const devices = options.cpuDevices ?? cpuDevices();
  if (spec === undefined) {
    try {
      return await useXla("xla", devices);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      console.error(withoutXla(error));
      return { ...await useTfjs("wasm"), reason: error.message };
    }
  }
  checkBackend(spec);
  if (spec === "cpu" || spec === "wasm") return await useTfjs(spec);
  if (spec === "tensorflow" || spec === "webgpu") {
    await useOfficial(spec);
    return { name: spec, platform: spec, devices: 1 };
  }
  return await useXla(spec, devices);
}

/**
 * Fetches and opens the default plugin without starting it, so that the processes started afterwards
 * find it ready, or need not look where it cannot be had: then it says why in one line.
 *
 * @returns the spec to give to `useBackend`
 */
export async function prepareBackend(): Promise<"xla" | "wasm"> {
  try {
    openPlugin((await resolveXla("xla")).file);
    return "xla";
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    console.error(withoutXla(error));
    return "wasm";
  }
}

function withoutXla(why: UserError): string {
  return `using tfjs's wasm backend, which is slower: ${why.message}`;
}

/** Devices that the CPU plugin shows: `XLA_CPU_DEVICES`, else one. */
function cpuDevices(): number {
  const set = Deno.env.get("XLA_CPU_DEVICES");
  if (set === undefined || set === "") return 1;
  if (!/^[1-9]\d{0,2}$/.test(set)) {
    throw new UserError(`XLA_CPU_DEVICES: '${set}' is no number of devices; take 1 to 999`, {
      exitCode: 2,
    });
  }
  return Number(set);
}

/** Names that `useBackend` takes, beside paths of PJRT plugins. */
export const BACKENDS = [
  "xla",
  "xla:cpu",
  "xla:cuda",
  "tensorflow",
  "webgpu",
  "wasm",
  "cpu",
] as const;

/**
 * Says early whether `useBackend` can know what `spec` means: a plugin given by its path is opened,
 * and no backend is started.
 *
 * @throws UserError (wrong use) for an unknown name, and for a file that is no PJRT plugin
 */
export function checkBackend(spec: string): void {
  if ((BACKENDS as readonly string[]).includes(spec)) return;
  if (spec.includes("/") || spec.endsWith(".so")) {
    openPlugin(pluginAt(spec));
    return;
  }
  const { message } = unknownName("backend", spec, BACKENDS);
  throw new UserError(`${message}, or a path to a PJRT plugin`, { exitCode: 2 });
}

const opened = new Map<string, Plugin>();

/** The plugin in a file; a process starts each only once. */
export function openPlugin({ path }: PluginFile): Plugin {
  quietLogs();
  const plugin = opened.get(path) ?? Plugin.open(path);
  opened.set(path, plugin);
  return plugin;
}

async function useTfjs(name: "cpu" | "wasm"): Promise<BackendInfo> {
  if (name === "wasm") await import("./wasm.ts");
  if (!await tf.setBackend(name)) throw new UserError(`tfjs's ${name} backend does not start here`);
  return { name, platform: "host", devices: 1 };
}

/** The plugin that a name or path stands for, and its own name: `xla:cpu`, `xla:cuda` or the path. */
async function resolveXla(spec: string): Promise<{ spec: string; file: PluginFile }> {
  if (spec === "xla:cuda") return { spec, file: await cudaPlugin() };
  if (spec === "xla" && hasNvidiaDriver()) {
    try {
      return { spec: "xla:cuda", file: await cudaPlugin() };
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      console.error(`using the CPU: ${error.message}`);
    }
  }
  return spec === "xla" || spec === "xla:cpu"
    ? { spec: "xla:cpu", file: await cpuPlugin() }
    : { spec, file: pluginAt(spec) };
}

async function useXla(wanted: string, devices: number): Promise<BackendInfo> {
  // Where one runs already, `xla` means that one.
  const resolved = wanted === "xla" && started !== undefined ? undefined : await resolveXla(wanted);
  if (started === undefined) {
    const { spec, file } = resolved!;
    const backend = startXla(file, spec === "xla:cpu" ? { cpu_device_count: devices } : {});
    started = { spec, backend };
    registerKernels();
    tf.registerBackend("xla", () => backend, 0);
    setCore(new XlaCore(backend));
  } else if (resolved !== undefined && started.spec !== resolved.spec) {
    throw new UserError(
      `backend '${wanted}': this process already runs '${started.spec}'; start another process for it`,
      { exitCode: 2 },
    );
  }
  await tf.setBackend("xla");
  const { client } = started.backend;
  return { name: "xla", platform: client.platform, devices: client.devices.length };
}

function startXla(file: PluginFile, options: Record<string, number>): XlaBackend {
  const client = new Client(openPlugin(file), options);
  const programs = new Programs(client, file.identity, programsFolder());
  return new XlaBackend(client, programs);
}

/**
 * The memory of each device of the active backend, in bytes.
 * @returns one entry a device; the host's tensors for tfjs's own backends
 */
export function deviceMemory(): DeviceMemory[] {
  const tensors = tf.memory().numBytes;
  const client = xlaBackend()?.client;
  if (client === undefined) return [{ device: 0, kind: tf.getBackend(), inUse: tensors }];
  const limit = memoryLimit(client);
  return client.devices.map(({ kind }, device) => {
    const stats = client.memoryStats(device);
    return {
      device,
      kind,
      inUse: stats?.bytesInUse ?? tensors,
      ...(stats?.peakBytes !== undefined && { peak: stats.peakBytes }),
      ...(limit !== undefined && { limit }),
    };
  });
}

/** The active xla backend's internals, for benchmarks and tests; undefined on other backends. */
export function xlaBackend(): XlaBackend | undefined {
  return tf.getBackend() === "xla" ? started?.backend : undefined;
}

/** Where compiled programs are kept: `XLA_PROGRAMS` (`off` for nowhere), else in the cache folder. */
function programsFolder(): string | undefined {
  const set = Deno.env.get("XLA_PROGRAMS");
  if (set === "off") return undefined;
  return set === undefined || set === "" ? path.join(cacheFolder(), "programs") : path.resolve(set);
}

/** Keeps the plugin's information messages off the terminal, unless the user asked for a level. */
function quietLogs(): void {
  if (Deno.env.get("TF_CPP_MIN_LOG_LEVEL") === undefined) {
    Deno.env.set("TF_CPP_MIN_LOG_LEVEL", "1");
  }
}
