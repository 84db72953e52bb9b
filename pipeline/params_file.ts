/**
 * Parameters from a file (TOML, YAML or JSON, by its ending) and from the environment. The command line
 * goes over the environment, which goes over the file, which goes over the defaults.
 */
import { extname } from "node:path";
import { UserError } from "../errors.ts";

/** `OREO_SET__train__steps=10` is `--set train.steps=10`. */
const PREFIX = "OREO_SET__";

const PARSERS: Record<string, () => Promise<(text: string) => unknown>> = {
  ".toml": async () => (await import("smol-toml")).parse,
  ".yaml": async () => (await import("yaml")).parse,
  ".yml": async () => (await import("yaml")).parse,
  ".json": () => Promise.resolve(JSON.parse),
};

/**
 * Reads a file of parameters. What it holds is checked with all other parameters, by the workflow's
 * schema.
 *
 * @throws UserError (wrong use) where it is missing, of an unknown ending, malformed, or no table
 */
export async function readParamsFile(path: string): Promise<Record<string, unknown>> {
  const doing = `reading parameters from ${path}`;
  const load = PARSERS[extname(path).toLowerCase()];
  if (load === undefined) {
    throw new UserError(`${doing}: name it .toml, .yaml or .json`, { exitCode: 2 });
  }
  const parse = await load();
  let value: unknown;
  try {
    value = parse(await Deno.readTextFile(path));
  } catch (cause) {
    const reason = cause instanceof Deno.errors.NotFound
      ? "there is no such file"
      : cause instanceof Error
      ? cause.message
      : String(cause);
    throw new UserError(`${doing}: ${reason}`, { exitCode: 2, cause });
  }
  if (value === null || value === undefined) return {};
  if (typeof value !== "object" || Array.isArray(value)) {
    throw new UserError(`${doing}: expected names with values at the top, got ${typeof value}`, {
      exitCode: 2,
    });
  }
  // Through JSON, so that what the formats have beyond it (dates) arrives as in the others.
  return JSON.parse(JSON.stringify(value));
}

/** The parameters that the environment sets, as `path=value` texts. */
export function paramsFromEnvironment(environment: Record<string, string>): string[] {
  return Object.entries(environment).filter(([name]) => name.startsWith(PREFIX))
    .map(([name, value]) => `${name.slice(PREFIX.length).split("__").join(".")}=${value}`)
    .sort();
}
