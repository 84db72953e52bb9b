/**
 * The version of a stage's code: a hash of its module, of every file of this project that the module
 * imports, directly or not, and of the names and versions of the packages they import. Cheap: it
 * reads the files and follows their import statements; it runs nothing.
 */
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { hashOf, sha256 } from "./hash.ts";

const IMPORT = /(?:\bfrom|\bimport)\s*\(?\s*["']([^"'\n]+)["']/g;

/** Hashes code; keeps what it has read, so make one for each run. */
export class CodeHasher {
  readonly #files = new Map<string, { hash: string; imports: string[] }>();
  #packages: Promise<Record<string, string>> | undefined;

  /** The hash of the code behind `module` (an `import.meta.url`); empty for no module or no file. */
  async hash(module: string | undefined): Promise<string> {
    if (module === undefined || !module.startsWith("file:")) return "";
    const packages = await (this.#packages ??= readPackages(fileURLToPath(module)));
    const start = fileURLToPath(module);
    const seen = new Set([start]);
    const parts: Record<string, string> = {};
    for (const path of seen) {
      const { hash, imports } = await this.#read(path);
      parts[relativeTo(start, path)] = hash;
      for (const specifier of imports) {
        if (specifier.startsWith(".")) seen.add(join(dirname(path), specifier));
        else if (packages[specifier] !== undefined) parts[specifier] = packages[specifier];
      }
    }
    return hashOf(parts);
  }

  async #read(path: string): Promise<{ hash: string; imports: string[] }> {
    let file = this.#files.get(path);
    if (file === undefined) {
      const text = await Deno.readTextFile(path).catch(() => "");
      const imports = [...text.matchAll(IMPORT)].map((match) => match[1]!);
      file = { hash: sha256(text), imports };
      this.#files.set(path, file);
    }
    return file;
  }
}

function relativeTo(start: string, path: string): string {
  const from = pathToFileURL(start).href.split("/");
  const to = pathToFileURL(path).href.split("/");
  let same = 0;
  while (from[same] === to[same] && same < to.length - 1) same++;
  return [...from.slice(same + 1).map(() => ".."), ...to.slice(same)].join("/");
}

/** The `imports` of the nearest deno.json above a file. */
async function readPackages(path: string): Promise<Record<string, string>> {
  for (let folder = dirname(path);; folder = dirname(folder)) {
    try {
      const config = JSON.parse(await Deno.readTextFile(join(folder, "deno.json"))) as {
        imports?: Record<string, string>;
      };
      return config.imports ?? {};
    } catch {
      if (dirname(folder) === folder) return {};
    }
  }
}
