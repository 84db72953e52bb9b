/**
 * The tensor engine of a stage's process. Which one is no parameter of a stage, for it does not change
 * what a stage means: the environment names it, so that it reaches child processes and containers.
 */
import { resolve } from "node:path";
import { type BackendInfo, checkBackend, prepareBackend, useBackend } from "../xla/mod.ts";

const VARIABLE = "OREO_BACKEND";

/**
 * Chooses the engine of this process and its children: `spec`, else what the environment says.
 *
 * @param spec as `useBackend` takes it
 * @throws {UserError} (wrong use) for an unknown name, and for a file that is no PJRT plugin
 */
export function chooseEngine(spec: string | undefined): void {
  const chosen = spec ?? Deno.env.get(VARIABLE);
  if (chosen === undefined || chosen === "") return;
  checkBackend(chosen);
  Deno.env.set(VARIABLE, chosen.includes("/") || chosen.endsWith(".so") ? resolve(chosen) : chosen);
}

/**
 * As `chooseEngine`, and fetches what the engine needs before any stage runs; where that cannot be had,
 * it says so once and all stages of the run go without.
 */
export async function prepareEngine(spec: string | undefined): Promise<void> {
  chooseEngine(spec);
  if (!Deno.env.get(VARIABLE)) Deno.env.set(VARIABLE, await prepareBackend());
}

/** Starts the engine and says in the stage's log what it runs on. */
export async function startEngine(log: (text: string) => void): Promise<BackendInfo> {
  const backend = await useBackend(Deno.env.get(VARIABLE) || undefined);
  log(`backend ${backend.name} on ${backend.devices} ${backend.platform} device(s)`);
  return backend;
}
