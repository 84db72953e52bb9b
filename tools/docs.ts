/**
 * Documents must not promise what is not there: their links lead to files and headings that exist,
 * the tasks they name are in deno.json, and the files and folders they name in code marks exist.
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { rooms } from "./imports.ts";

/** What a document can point at. */
export interface Surroundings {
  /** Names of the tasks in deno.json. */
  readonly tasks: ReadonlySet<string>;
  /** Whether a path relative to the repository's root exists. */
  exists(path: string): boolean;
  /** The text of a document, for its headings. */
  read(path: string): string;
}

export function surroundings(root: string): Surroundings {
  const config = JSON.parse(readFileSync(join(root, "deno.json"), "utf8"));
  return {
    tasks: new Set(Object.keys(config.tasks)),
    exists: (path) => existsSync(join(root, path)),
    read: (path) => readFileSync(join(root, path), "utf8"),
  };
}

/** The document without its fenced code, line count kept. */
function prose(text: string): string {
  return text.replace(/^```.*?^```/gms, (block) => block.replace(/[^\n]/g, ""));
}

/** The anchor that GitHub gives a heading. */
function anchor(heading: string): string {
  const plain = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").trim().toLowerCase();
  return plain.replace(/[^\p{L}\p{N}\s_-]/gu, "").replace(/\s/g, "-");
}

function anchors(text: string): Set<string> {
  return new Set([...prose(text).matchAll(/^#+ (.+)$/gm)].map((match) => anchor(match[1]!)));
}

function lineOf(text: string, index: number): number {
  return text.slice(0, index).split("\n").length;
}

function brokenLinks(file: string, text: string, around: Surroundings): string[] {
  const problems: string[] = [];
  for (const match of prose(text).matchAll(/\[[^\]]*\]\(([^)\s]+)[^)]*\)/g)) {
    const target = match[1]!;
    if (/^[a-z]+:/i.test(target)) continue;
    const [path = "", fragment] = target.split("#");
    const resolved = path === "" ? file : normalize(join(dirname(file), path));
    const where = `${file}:${lineOf(text, match.index)}: link to '${target}'`;
    if (!around.exists(resolved)) problems.push(`${where}: there is no ${resolved}`);
    else if (fragment !== undefined && !anchors(around.read(resolved)).has(fragment)) {
      problems.push(`${where}: ${resolved} has no heading '#${fragment}'`);
    }
  }
  return problems;
}

function unknownTasks(file: string, text: string, around: Surroundings): string[] {
  return [...text.matchAll(/deno(?:@[\d.]+)? task ([a-z][\w:-]*)/g)]
    .filter((match) => !around.tasks.has(match[1]!))
    .map((match) =>
      `${file}:${lineOf(text, match.index)}: 'deno task ${match[1]}' is not in deno.json`
    );
}

/** Code marks that read as a path into one of the rooms or tools, e.g. `xla/mod.ts` or `docs/`. */
function missingPaths(file: string, text: string, around: Surroundings): string[] {
  const folders = [...Object.keys(rooms), "docs", "tools", "tests", "deploy", "benchmarks"];
  const pattern = new RegExp(`\`((?:${folders.join("|")})/[\\w./-]*)\``, "g");
  return [...prose(text).matchAll(pattern)]
    .filter((match) => !around.exists(match[1]!))
    .map((match) => `${file}:${lineOf(text, match.index)}: there is no '${match[1]}'`);
}

/** What is wrong in one document, as lines to print. */
export function checkDocument(file: string, text: string, around: Surroundings): string[] {
  return [brokenLinks, unknownTasks, missingPaths].flatMap((check) => check(file, text, around));
}
