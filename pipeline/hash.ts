/**
 * Hashes of content and of descriptions. A description is hashed in its one canonical JSON form, so
 * that the order in which keys were written plays no part.
 */
import { createHash } from "node:crypto";
import type { Json } from "./events.ts";

/** JSON with sorted keys and no spaces; undefined members are left out. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value).filter(([, inner]) => inner !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
      .map(([key, inner]) => `${JSON.stringify(key)}:${canonicalJson(inner)}`);
    return `{${members.join(",")}}`;
  }
  return JSON.stringify(value);
}

/** SHA-256 in hexadecimal of the canonical JSON of a value. */
export function hashOf(value: Json | object): string {
  return createHash("sha256").update(canonicalJson(value)).digest("hex");
}

/** SHA-256 in hexadecimal of a text or bytes. */
export function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}
