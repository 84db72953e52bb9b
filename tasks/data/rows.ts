/**
 * Rows of a published data set: JSON lines, one JSON object a file, or parquet, each plain or gzipped.
 * A row that cannot be read stops the reading with file and line; rows are never skipped.
 */
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { UserError } from "../../errors.ts";
import { findPlace, type Place } from "./place.ts";

export interface Row {
  readonly value: unknown;
  /** The file and the line or row in it. */
  readonly where: string;
}

/** How a data set's files are found and spoken of. */
export interface Layout {
  /** The task, in front of every error. */
  readonly task: string;
  /** What a row looks like, at the end of errors about one. */
  readonly form: string;
  /** File names without endings that hold a split, best first, e.g. `train`, `gsm8k_train`. */
  readonly stems: readonly string[];
  /** A sub-folder that counts where a data set has several for a split, e.g. `main`. */
  readonly config?: string;
}

/** JSON lines before parquet, where a place has both. */
const endings = [[".jsonl", ".jsonl.gz"], [".parquet"]];
const candidates = (stems: readonly string[]) =>
  endings.flatMap((group) => stems.flatMap((stem) => group.map((ending) => stem + ending)));

/** The files that hold a split, in the order in which they are read. */
export function chooseFiles(files: readonly string[], { stems, config }: Layout): string[] {
  const at = (path: string, folder: string) => folder === "" ? path : `${folder}/${path}`;
  for (const name of candidates(stems)) {
    for (const folder of ["", "data"]) {
      if (files.includes(at(name, folder))) return [at(name, folder)];
    }
  }
  for (const stem of stems) {
    // The hub's shards, in one folder or one for each configuration.
    const shard = new RegExp(`(?:^|/)${stem}-\\d+-of-\\d+(?:-[0-9a-f]+)?\\.parquet$`);
    const shards = files.filter((file) => shard.test(file));
    const chosen = config === undefined
      ? []
      : shards.filter((file) => file.split("/").includes(config));
    if (shards.length > 0) return chosen.length > 0 ? chosen : shards;
    const nested = files.filter((file) =>
      candidates([stem]).some((name) => file.endsWith(`/${name}`))
    );
    if (nested.length > 0) return nested;
    // A folder of problems, one a file.
    const single = files.filter((file) => new RegExp(`(?:^|/)${stem}/.+\\.json$`).test(file));
    if (single.length > 0) {
      return single.toSorted(new Intl.Collator("en", { numeric: true }).compare);
    }
  }
  return [];
}

/** Bytes as text and text as rows; `name` is the file's. */
async function readRows(bytes: Uint8Array, name: string, layout: Layout): Promise<Row[]> {
  const { task, form } = layout;
  const path = name.replace(/[?#].*$/, "");
  const unreadable = (cause: unknown) =>
    new UserError(`${task}: cannot read '${name}': ${(cause as Error).message}`, { cause });
  let plain: Uint8Array;
  let text = "";
  try {
    plain = path.endsWith(".gz") ? await promisify(gunzip)(bytes) : bytes;
    if (/\.parquet(?:\.gz)?$/.test(path)) {
      // Loaded here so that nobody else pays for it.
      const [{ parquetReadObjects }, { compressors }] = await Promise.all([
        import("hyparquet"),
        import("hyparquet-compressors"),
      ]);
      const file = plain.slice().buffer;
      const values = await parquetReadObjects({ file, compressors });
      return values.map((value, i) => ({ value, where: `${name}, row ${i + 1}` }));
    }
    text = new TextDecoder("utf-8", { fatal: true }).decode(plain);
  } catch (cause) {
    throw unreadable(cause);
  }
  const parse = (json: string, where: string): Row => {
    if (json.trim() === "") {
      throw new UserError(`${task}: ${where}: the line is empty; expected ${form}`);
    }
    try {
      return { value: JSON.parse(json), where };
    } catch (cause) {
      const why = (cause as Error).message;
      throw new UserError(`${task}: ${where}: not JSON (${why}); expected ${form}`, { cause });
    }
  };
  if (/\.json(?:\.gz)?$/.test(path)) {
    const whole = parse(text, name);
    return Array.isArray(whole.value)
      ? whole.value.map((value, i) => ({ value, where: `${name}, item ${i + 1}` }))
      : [whole];
  }
  const lines = text.split(/\r?\n/);
  if (lines.at(-1)?.trim() === "") lines.pop();
  if (lines.length === 0) throw new UserError(`${task}: '${name}' is empty`);
  return lines.map((line, i) => parse(line, `${name}, line ${i + 1}`));
}

/** The split's files that a place has, with their bytes. */
async function openFiles(
  place: Place,
  layout: Layout,
): Promise<[name: string, bytes: Uint8Array][]> {
  const listed = await place.list();
  if (listed === undefined) {
    for (const path of candidates(layout.stems)) {
      const bytes = await place.read(path);
      if (bytes !== undefined) return [[place.locate(path), bytes]];
    }
    return [];
  }
  const files = listed.length === 1 && listed[0] === "" ? listed : chooseFiles(listed, layout);
  const opened: [string, Uint8Array][] = [];
  for (const path of files) {
    const bytes = await place.read(path);
    if (bytes === undefined) throw new UserError(`${layout.task}: '${place.locate(path)}' is gone`);
    opened.push([place.locate(path), bytes]);
  }
  return opened;
}

/**
 * All rows of a split, in order.
 * @param path a folder, a URL (`{split}` in it stands for the first of the layout's stems) or a hub name
 * @throws {UserError} where there are none, or with file and line at the first malformed row
 */
export async function readSplit(path: string, layout: Layout): Promise<Row[]> {
  const place = await findPlace(path.replaceAll("{split}", layout.stems[0]!), layout.task);
  const files = await openFiles(place, layout);
  if (files.length === 0) {
    throw new UserError(
      `${layout.task}: no ${layout.stems[0]} file in '${place.name}': looked for ` +
        candidates(layout.stems).join(", "),
    );
  }
  const rows: Row[] = [];
  for (const [name, bytes] of files) rows.push(...await readRows(bytes, name, layout));
  return rows;
}
