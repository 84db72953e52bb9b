/** The project's own files, as the tools and tests see them: what is tracked, built or ignored. */
import { readdirSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository's root folder, without a trailing slash. */
export const root = fileURLToPath(new URL("..", import.meta.url)).replace(/[/\\]$/, "");

/** Folders that hold no sources of ours. */
const ignored = new Set(["node_modules", ".git", ".oreo", "runs", ".venv"]);

/** Paths of all files below `root`, relative to it, sorted, that satisfy `keep`. */
export function listFiles(keep: (path: string) => boolean, folder = root): string[] {
  const files: string[] = [];
  const walk = (directory: string) => {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name);
      if (entry.isDirectory() && !ignored.has(entry.name)) walk(path);
      if (entry.isFile()) files.push(relative(folder, path));
    }
  };
  walk(folder);
  return files.filter(keep).sort();
}

/** Runs a command in `root` with this terminal; returns its exit code. */
export async function runCommand(command: string, args: readonly string[]): Promise<number> {
  const child = new Deno.Command(command, { args: [...args], cwd: root, stdin: "null" }).spawn();
  return (await child.status).code;
}
