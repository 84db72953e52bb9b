/**
 * Where the CUDA plugin is, if it is anywhere: the file that `XLA_CUDA_PLUGIN` names, or the one that
 * JAX's CUDA packages bring, in the packages of the python3 on the path. Nothing is fetched: the plugin
 * and NVIDIA's libraries are gigabytes, and their versions are the machine's business.
 */
import * as path from "node:path";
import { UserError } from "../errors.ts";
import { pluginAt, type PluginFile } from "./plugin.ts";

export const HOW_TO_GET_CUDA =
  `pip install "jax[cuda13]", or set XLA_CUDA_PLUGIN to a CUDA PJRT plugin's file`;

/** True where the machine shows an NVIDIA driver. */
export function hasNvidiaDriver(): boolean {
  return ["/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"].some(exists);
}

/** @throws UserError that says in one line what is missing and how to get it */
export async function cudaPlugin(): Promise<PluginFile> {
  const set = Deno.env.get("XLA_CUDA_PLUGIN");
  if (set !== undefined && set !== "") return pluginAt(set);
  if (!hasNvidiaDriver()) {
    throw new UserError("no NVIDIA driver on this machine: a GPU and its driver come first");
  }
  for (const folder of await pythonFolders()) {
    for (const version of ["xla_cuda13", "xla_cuda12"]) {
      const file = path.join(folder, "jax_plugins", version, "xla_cuda_plugin.so");
      if (exists(file)) return pluginAt(file);
    }
  }
  throw new UserError(`an NVIDIA driver, but no CUDA plugin: ${HOW_TO_GET_CUDA}`);
}

/** The folders that python3 takes packages from. */
async function pythonFolders(): Promise<string[]> {
  const script =
    "import json, site, sys; print(json.dumps([*sys.path, site.getusersitepackages()]))";
  try {
    const command = new Deno.Command("python3", { args: ["-c", script], stderr: "null" });
    const { success, stdout } = await command.output();
    if (!success) return [];
    return (JSON.parse(new TextDecoder().decode(stdout)) as string[]).filter((p) => p !== "");
  } catch {
    // No python3, or no permission to run it: there is no package to find either way.
    return [];
  }
}

function exists(file: string): boolean {
  try {
    Deno.statSync(file);
    return true;
  } catch {
    return false;
  }
}
