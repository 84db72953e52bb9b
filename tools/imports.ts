/**
 * The rule that holds the house together: which room may import which, and only through its mod.ts.
 * Deno's own parser reads the imports, types and dynamic ones included.
 */
import { rm, writeFile } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

/** Every room, with the rooms that it may import from. */
export const rooms: Readonly<Record<string, readonly string[]>> = {
  xla: [],
  lm: ["xla"],
  rl: ["lm", "xla"],
  tasks: [],
  pipeline: [],
  report: [],
  stages: ["rl", "lm", "xla", "tasks", "pipeline", "report"],
  workflows: ["stages", "rl", "lm", "xla", "tasks", "pipeline", "report"],
  status: ["pipeline", "report"],
};

/** Rooms that may import from every other: they stand outside the product or put it together. */
const free = new Set(["main.ts", "cli", "tests", "benchmarks", "tools"]);

/** Files at the root that anyone may import. */
const common = new Set(["errors.ts"]);

/** `file` imports `target`, both relative to the repository's root. */
export interface Import {
  readonly file: string;
  readonly target: string;
}

/** Why an import is not allowed, or undefined where it is. */
export function violation({ file, target }: Import): string | undefined {
  const [from, to] = [file, target].map((path) => path.split("/")[0]!) as [string, string];
  if (from === to || common.has(target)) return undefined;
  // The shared fixtures of tests are open to every room's tests.
  if (to === "tests" && /_test\.tsx?$|^[^/]+\/test_support\.ts$/.test(file)) return undefined;
  const allowed = rooms[from];
  if (allowed !== undefined && !allowed.includes(to)) {
    return `${file} imports ${target}: ${from}/ may import ${
      allowed.length === 0 ? "no other room" : `only ${allowed.join(", ")}`
    }`;
  }
  if (allowed === undefined && !free.has(from)) {
    return `${file} imports ${target}: '${from}' is not a known room (tools/imports.ts lists them)`;
  }
  if (rooms[to] !== undefined && target !== `${to}/mod.ts` && allowed !== undefined) {
    return `${file} imports ${target}: import ${to}/mod.ts, not what is inside`;
  }
  return undefined;
}

interface Graph {
  modules: {
    specifier: string;
    error?: string;
    dependencies?: Partial<
      Record<"code" | "type", { specifier?: string; error?: string }> & { specifier: string }
    >[];
  }[];
}

/**
 * All imports between files of ours, and what cannot be resolved.
 * @param files paths relative to `root`
 * @throws {Error} where `deno info` itself fails
 */
export async function readImports(
  root: string,
  files: readonly string[],
): Promise<{ imports: Import[]; unresolved: string[] }> {
  const entry = join(await Deno.makeTempDir({ prefix: "imports-" }), "all.ts");
  const lines = files.map((file) =>
    `import ${JSON.stringify(pathToFileURL(join(root, file)).href)};`
  );
  await writeFile(entry, lines.join("\n"));
  try {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["info", "--json", "--no-lock", "--config", join(root, "deno.json"), entry],
      cwd: root,
    }).output();
    if (code !== 0) throw new Error(`deno info: ${new TextDecoder().decode(stderr)}`);
    return collect(root, JSON.parse(new TextDecoder().decode(stdout)) as Graph);
  } finally {
    await rm(join(entry, ".."), { recursive: true });
  }
}

function collect(root: string, graph: Graph): { imports: Import[]; unresolved: string[] } {
  const local = (specifier: string): string | undefined => {
    if (!specifier.startsWith("file:")) return undefined;
    const path = relative(root, fileURLToPath(specifier)).split(sep).join("/");
    return path.startsWith("../") || path.startsWith("node_modules/") ? undefined : path;
  };
  const imports: Import[] = [];
  const unresolved: string[] = [];
  for (const module of graph.modules) {
    const file = local(module.specifier);
    if (module.error !== undefined) unresolved.push(`${file ?? module.specifier}: ${module.error}`);
    if (file === undefined) continue;
    for (const dependency of module.dependencies ?? []) {
      for (const resolved of [dependency.code, dependency.type]) {
        if (resolved?.error !== undefined) unresolved.push(`${file}: ${resolved.error}`);
        const target = resolved?.specifier === undefined ? undefined : local(resolved.specifier);
        if (target !== undefined) imports.push({ file, target });
      }
    }
  }
  return { imports, unresolved };
}

/** Everything that breaks the rule among `files`, as lines to print. */
export async function checkImports(root: string, files: readonly string[]): Promise<string[]> {
  const sources = files.filter((file) => /\.tsx?$/.test(file));
  const { imports, unresolved } = await readImports(root, sources);
  const violations = imports.map(violation).filter((line) => line !== undefined);
  const present = new Set(sources.map((file) => file.split("/")[0]!));
  const doorless = Object.keys(rooms)
    .filter((room) => present.has(room) && !sources.includes(`${room}/mod.ts`))
    .map((room) => `${room}/ has no mod.ts`);
  return [...new Set([...unresolved, ...violations, ...doorless])];
}
