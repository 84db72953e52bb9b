/**
 * Models by their name on a Hugging Face hub, `org/name` or `org/name@revision`, through
 * `@huggingface/hub` into the cache that its other programs use too: `models--org--name/` with `refs`
 * (branch to commit), `blobs` (contents by hash) and `snapshots/COMMIT` (links to blobs). A file is in
 * the cache under its name only when its hash was right; a download cut short goes on where it ended.
 *
 * Environment, as for other programs: HF_TOKEN (or the token that `hf auth login` keeps), HF_ENDPOINT,
 * HF_HUB_CACHE, HF_HOME, HF_HUB_OFFLINE.
 */
import { createHash, type Hash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { mkdir, open, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, relative } from "node:path";
import {
  downloadFile,
  HubApiError,
  type ListFileEntry,
  listFiles,
  modelInfo,
} from "@huggingface/hub";
import { UserError } from "../errors.ts";

export interface HubOptions {
  /** Address of the hub; default HF_ENDPOINT, else the public one. */
  readonly url?: string;
  readonly token?: string;
  readonly cacheDir?: string;
  /** One line for each thing that takes time. Default: standard error. */
  readonly log?: (text: string) => void;
}

const NAME = /^([\w][\w.-]*\/[\w][\w.-]*)(?:@([\w][\w./-]*))?$/;

/** What a model needs of a repository: nothing in other folders, no weights in other formats. */
const WANTED = /^(?:[\w.-]+\.json|[\w.-]+\.jinja|[\w.-]+\.safetensors|[\w.-]+\.gguf)$/;

/** Times that a broken connection is taken up again. */
const ATTEMPTS = 5;

/**
 * The folder (or file) of a model: `path` itself where that exists, else a name's files in the cache,
 * downloaded if need be.
 * @throws UserError where it is neither, or the hub refuses
 */
export async function modelPath(path: string, options: HubOptions = {}): Promise<string> {
  if (existsSync(path)) return path;
  const match = NAME.exec(path);
  if (match === null || path.endsWith(".gguf")) return path;
  return await snapshot(match[1]!, match[2] ?? "main", options);
}

async function snapshot(name: string, revision: string, options: HubOptions): Promise<string> {
  const cache = join(options.cacheDir ?? cacheDir(), `models--${name.replace("/", "--")}`);
  const known = await cached(cache, revision);
  if (known !== undefined && Deno.env.get("HF_HUB_OFFLINE") === "1") return known;
  const repo = new Repository(name, revision, cache, options);
  let commit: string;
  try {
    commit = await repo.commit();
  } catch (error) {
    // The hub answered: what it says holds. It did not: what was downloaded before is still good.
    if (error instanceof HubApiError || known === undefined) throw repo.explained(error);
    repo.log(`the hub cannot be reached: using ${name}@${revision} as downloaded before`);
    return known;
  }
  try {
    return await repo.download(commit);
  } catch (error) {
    throw repo.explained(error);
  }
}

function cacheDir(): string {
  return Deno.env.get("HF_HUB_CACHE") ?? join(hubHome(), "hub");
}

function hubHome(): string {
  return Deno.env.get("HF_HOME") ??
    join(Deno.env.get("XDG_CACHE_HOME") ?? join(homedir(), ".cache"), "huggingface");
}

async function storedToken(): Promise<string | undefined> {
  const set = Deno.env.get("HF_TOKEN") ?? Deno.env.get("HUGGING_FACE_HUB_TOKEN");
  if (set !== undefined) return set.trim() || undefined;
  return await readFile(join(hubHome(), "token"), "utf8")
    .then((text) => text.trim() || undefined, () => undefined);
}

/** The snapshot that was made of a revision before, where there is one. */
async function cached(cache: string, revision: string): Promise<string | undefined> {
  const commit = await readFile(join(cache, "refs", revision), "utf8")
    .then((text) => text.trim(), () => revision);
  const folder = join(cache, "snapshots", commit);
  return existsSync(join(folder, "config.json")) || existsSync(join(folder, "adapter_config.json"))
    ? folder
    : undefined;
}

class Repository {
  readonly log: (text: string) => void;

  constructor(
    private readonly name: string,
    private readonly revision: string,
    private readonly cache: string,
    private readonly options: HubOptions,
  ) {
    this.log = options.log ?? ((text) => console.error(text));
  }

  async #access() {
    const token = this.options.token ?? await storedToken();
    const hubUrl = this.options.url ?? Deno.env.get("HF_ENDPOINT");
    return {
      ...(token === undefined ? {} : { accessToken: token }),
      ...(hubUrl === undefined ? {} : { hubUrl: hubUrl.replace(/\/$/, "") }),
    };
  }

  /** The commit that the revision means now. */
  async commit(): Promise<string> {
    const { sha } = await modelInfo({
      ...await this.#access(),
      name: this.name,
      revision: this.revision,
      additionalFields: ["sha"],
    });
    if (!/^[0-9a-f]{40,64}$/.test(sha)) throw new Error(`the hub names commit '${sha}'`);
    return sha;
  }

  async download(commit: string): Promise<string> {
    const folder = join(this.cache, "snapshots", commit);
    const repo = { type: "model" as const, name: this.name };
    const entries: ListFileEntry[] = [];
    for await (const entry of listFiles({ ...await this.#access(), repo, revision: commit })) {
      if (entry.type === "file" && WANTED.test(entry.path)) entries.push(entry);
    }
    for (const entry of needed(entries)) {
      const link = join(folder, entry.path);
      if (existsSync(link)) continue;
      const blob = await this.#blob(entry, commit);
      await mkdir(folder, { recursive: true });
      await rm(link, { force: true });
      await symlink(relative(folder, blob), link);
    }
    if (commit !== this.revision) {
      const ref = join(this.cache, "refs", this.revision);
      await mkdir(dirname(ref), { recursive: true });
      await writeFile(ref, commit);
    }
    return folder;
  }

  /** A file's contents in the cache, downloaded from where an earlier attempt ended. */
  async #blob(entry: ListFileEntry, commit: string): Promise<string> {
    // Large files go by their SHA-256, small ones by the SHA-1 that git gives them.
    const hash = entry.lfs?.oid ?? entry.oid ?? "";
    if (!/^[0-9a-f]{40}$|^[0-9a-f]{64}$/.test(hash)) {
      throw new Error(`the hub gives no hash of ${entry.path}`);
    }
    const size = entry.lfs?.size ?? entry.size;
    const path = join(this.cache, "blobs", hash);
    if (existsSync(path)) return path;
    await mkdir(dirname(path), { recursive: true });
    const partial = `${path}.incomplete`;
    for (let attempt = 1;; attempt++) {
      try {
        await this.#fetchRest(entry.path, commit, partial, size);
        break;
      } catch (error) {
        if (error instanceof HubApiError || attempt === ATTEMPTS) throw error;
        const { message } = error as Error;
        this.log(`${this.name}: ${entry.path}: ${message}: going on (${attempt} of ${ATTEMPTS})`);
      }
    }
    const found = await hashOf(partial, hash, size);
    if (found !== hash) {
      await rm(partial, { force: true });
      throw new UserError(
        `${this.name}@${this.revision}: ${entry.path} came with hash ${found}, expected ${hash}: ` +
          "the download was dropped; try again",
      );
    }
    await rename(partial, path);
    return path;
  }

  /** Appends to `partial` what it lacks of the file. */
  async #fetchRest(path: string, commit: string, partial: string, size: number): Promise<void> {
    let have = await stat(partial).then((info) => info.size, () => 0);
    if (have > size) {
      await rm(partial);
      have = 0;
    }
    if (have === size && size > 0) return;
    this.log(`${this.name}: ${path}: ${size} bytes${have > 0 ? `, ${have} of them here` : ""}`);
    // Plain HTTP ranges, so that it can go on at any byte.
    const blob = await downloadFile({
      ...await this.#access(),
      repo: { type: "model", name: this.name },
      revision: commit,
      path,
      xet: false,
    });
    if (blob === null) throw new UserError(`${this.name}@${this.revision} has no file ${path}`);
    const file = await open(partial, "a");
    try {
      if (size > 0) {
        for await (const chunk of blob.slice(have, size).stream()) {
          await file.writeFile(chunk);
          have += chunk.length;
        }
      }
      await file.sync();
    } finally {
      await file.close();
    }
    if (have !== size) throw new Error(`the connection ended at byte ${have} of ${size}`);
  }

  /** What went wrong, with the name that was asked for and what to do. */
  explained(error: unknown): UserError {
    if (error instanceof UserError) return error;
    const what = `cannot get ${this.name}@${this.revision} from the hub`;
    const code = error instanceof HubApiError ? error.statusCode : undefined;
    if (code === 401 || code === 403) {
      return new UserError(
        `${what}: access is refused (${code}): set HF_TOKEN to a token that may read it, ` +
          "and check the name",
        { cause: error },
      );
    }
    if (code === 404) {
      return new UserError(`${what}: there is no such model or revision`, { cause: error });
    }
    return new UserError(
      `${what}: ${(error as Error).message}; a folder of that name does not exist either`,
      { cause: error },
    );
  }
}

/** Files to have: of weights in several formats, safetensors; of shards, those with the usual name. */
function needed(entries: readonly ListFileEntry[]): ListFileEntry[] {
  const weights = /^(?:model|adapter_model)[\w.-]*\.safetensors$/;
  const hasWeights = entries.some(({ path }) => weights.test(path));
  const ggufs = entries.filter(({ path }) => path.endsWith(".gguf"));
  if (!hasWeights && ggufs.length > 1) {
    const names = ggufs.map(({ path }) => path).join(", ");
    throw new UserError(
      `the repository has several .gguf files: download one and give its path: ${names}`,
    );
  }
  return entries.filter(({ path }) =>
    path.endsWith(".safetensors") ? weights.test(path) : path.endsWith(".gguf") ? !hasWeights : true
  );
}

/** The hash of a file, of the kind of `like`: SHA-256, or git's SHA-1 of a blob. */
async function hashOf(path: string, like: string, size: number): Promise<string> {
  const hash: Hash = createHash(like.length === 64 ? "sha256" : "sha1");
  if (like.length === 40) hash.update(`blob ${size}\0`);
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
  return hash.digest("hex");
}
