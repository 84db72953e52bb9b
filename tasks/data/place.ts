/**
 * Where a data set lies: a folder, a URL, or a name on the Hugging Face hub. Whatever it is, it has files
 * with paths relative to it and their bytes. What comes over the network is kept in the cache folder.
 */
import { createHash, randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../../errors.ts";

export interface Place {
  /** How people call it. */
  readonly name: string;
  /** Paths of the files, sorted; undefined where a place cannot tell (a URL): then paths are tried. */
  list(): Promise<string[] | undefined>;
  /** A file's bytes; undefined where there is no such file. */
  read(path: string): Promise<Uint8Array | undefined>;
  /** How people call one of the files. */
  locate(path: string): string;
}

/** How deep below a folder data files are looked for. */
const deepest = 3;
const dataFile = /\.(?:jsonl|json|parquet)(?:\.gz)?$/;

class Folder implements Place {
  constructor(readonly name: string, readonly task: string) {}

  async list(): Promise<string[]> {
    const walk = async (below: string, depth: number): Promise<string[]> => {
      const entries = await readdir(join(this.name, below), { withFileTypes: true });
      const found = await Promise.all(entries.map(async (entry) => {
        const path = below === "" ? entry.name : `${below}/${entry.name}`;
        // A link counts as what it points to.
        const kind = entry.isSymbolicLink() ? await stat(join(this.name, path)) : entry;
        if (kind.isDirectory()) return depth < deepest ? await walk(path, depth + 1) : [];
        return dataFile.test(path) ? [path] : [];
      }));
      return found.flat();
    };
    try {
      return (await walk("", 0)).sort();
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException;
      const why =
        { ENOENT: "there is no such folder", ENOTDIR: "it is not a folder" }[code ?? ""] ?? message;
      throw new UserError(
        `${this.task}: cannot read data folder '${this.name}': ${why} (parameter 'path')`,
        {
          cause,
        },
      );
    }
  }

  async read(path: string): Promise<Uint8Array | undefined> {
    try {
      return await readFile(this.locate(path));
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw new UserError(
        `${this.task}: cannot read '${this.locate(path)}': ${(cause as Error).message}`,
        {
          cause,
        },
      );
    }
  }

  locate(path: string): string {
    return join(this.name, path);
  }
}

/** The folder for what is fetched once: OREO_CACHE, or the user's cache folder. */
function cacheFolder(): string {
  const home = Deno.env.get("XDG_CACHE_HOME") || join(Deno.env.get("HOME") ?? ".", ".cache");
  return join(Deno.env.get("OREO_CACHE") || join(home, "oreo"), "data");
}

/** A file by URL, from the cache where it was fetched before; undefined where the server has none. */
async function fetchCached(url: string, task: string): Promise<Uint8Array | undefined> {
  const cached = join(cacheFolder(), createHash("sha256").update(url).digest("hex"));
  try {
    return await readFile(cached);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  const bytes = await fetchBytes(url, task);
  if (bytes === undefined) return undefined;
  await mkdir(cacheFolder(), { recursive: true });
  const partial = `${cached}.${randomUUID()}`;
  await writeFile(partial, bytes);
  await rename(partial, cached);
  return bytes;
}

async function fetchBytes(url: string, task: string): Promise<Uint8Array | undefined> {
  const fail = (why: string, cause?: unknown) =>
    new UserError(`${task}: cannot fetch '${url}': ${why} (parameter 'path')`, { cause });
  const token = Deno.env.get("HF_TOKEN");
  const headers = token !== undefined && url.startsWith(hub())
    ? { authorization: `Bearer ${token}` }
    : undefined;
  let response: Response;
  try {
    response = await fetch(url, headers === undefined ? {} : { headers });
  } catch (cause) {
    throw fail((cause as Error).message, cause);
  }
  if (response.status === 404) {
    await response.body?.cancel();
    return undefined;
  }
  if (!response.ok) {
    await response.body?.cancel();
    throw fail(`the server answered ${response.status} ${response.statusText}`);
  }
  try {
    return new Uint8Array(await response.arrayBuffer());
  } catch (cause) {
    throw fail((cause as Error).message, cause);
  }
}

/** One file, or a folder of files whose names are tried. */
class Web implements Place {
  constructor(readonly name: string, readonly task: string) {}

  list(): Promise<string[] | undefined> {
    const file = dataFile.exec(new URL(this.name).pathname);
    return Promise.resolve(file === null ? undefined : [""]);
  }

  read(path: string): Promise<Uint8Array | undefined> {
    return fetchCached(this.locate(path), this.task);
  }

  locate(path: string): string {
    return path === "" ? this.name : `${this.name.replace(/\/$/, "")}/${path}`;
  }
}

/** The hub's address; HF_ENDPOINT names a mirror. */
const hub = () => (Deno.env.get("HF_ENDPOINT") || "https://huggingface.co").replace(/\/$/, "");

class HubDataset implements Place {
  readonly #id: string;
  readonly #revision: string;

  constructor(readonly name: string, readonly task: string) {
    const [id, revision = "main"] = name.replace(/^hf:(?:\/\/)?(?:datasets\/)?/, "").split("@") as [
      string,
      string?,
    ];
    this.#id = id;
    this.#revision = revision;
  }

  async list(): Promise<string[]> {
    const url = `${hub()}/api/datasets/${this.#id}/tree/${this.#revision}?recursive=true`;
    const bytes = await fetchBytes(url, this.task);
    if (bytes === undefined) {
      throw new UserError(
        `${this.task}: the hub has no data set '${this.#id}' with revision '${this.#revision}' ` +
          `(asked ${url}; a folder would be ./${this.#id})`,
      );
    }
    const entries = JSON.parse(new TextDecoder().decode(bytes)) as { type: string; path: string }[];
    return entries.filter(({ type, path }) => type === "file" && dataFile.test(path)).map((
      { path },
    ) => path).sort();
  }

  read(path: string): Promise<Uint8Array | undefined> {
    return fetchCached(this.locate(path), this.task);
  }

  locate(path: string): string {
    return `${hub()}/datasets/${this.#id}/resolve/${this.#revision}/${path}`;
  }
}

/**
 * The place that a `path` parameter names: `https://...`, a folder that exists, or `owner/name` on the hub
 * (`hf:owner/name@revision` says so outright).
 */
export async function findPlace(path: string, task: string): Promise<Place> {
  if (/^https?:\/\//.test(path)) return new Web(path, task);
  if (path.startsWith("hf:")) return new HubDataset(path, task);
  const isName = /^[A-Za-z0-9][\w.-]*\/[\w.-]+(?:@[\w./-]+)?$/.test(path);
  if (!isName) return new Folder(path, task);
  const exists = await stat(path).then(() => true, () => false);
  return exists ? new Folder(path, task) : new HubDataset(path, task);
}
