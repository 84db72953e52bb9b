/** Starts the tensor engine of a stage's process and says in its log what it runs on. */
import { type BackendInfo, useBackend } from "../xla/mod.ts";

export async function startEngine(log: (text: string) => void): Promise<BackendInfo> {
  const backend = await useBackend(Deno.env.get("OREO_BACKEND"));
  const why = backend.reason === undefined ? "" : `: ${backend.reason}`;
  log(`backend ${backend.name} on ${backend.devices} ${backend.platform} device(s)${why}`);
  return backend;
}
