/** What two JSON values differ in, member by member. */
import type { Json } from "./events.ts";
import { canonicalJson } from "./hash.ts";

export interface ChangedPath {
  /** Members joined by dots; empty where the values themselves differ. */
  readonly path: string;
  /** As JSON; `unset` where it has no such member. */
  readonly before: string;
  readonly now: string;
}

/** The members of objects, however deep, that differ. Lists are compared as a whole. */
export function changedPaths(
  before: Json | undefined,
  now: Json | undefined,
  path = "",
): ChangedPath[] {
  const isObject = (value: unknown): value is Record<string, Json> =>
    typeof value === "object" && value !== null && !Array.isArray(value);
  if (isObject(before) && isObject(now)) {
    return [...new Set([...Object.keys(before), ...Object.keys(now)])].flatMap((name) =>
      changedPaths(before[name], now[name], path === "" ? name : `${path}.${name}`)
    );
  }
  if (canonicalJson(before) === canonicalJson(now)) return [];
  const text = (value: Json | undefined) => value === undefined ? "unset" : JSON.stringify(value);
  return [{ path, before: text(before), now: text(now) }];
}
