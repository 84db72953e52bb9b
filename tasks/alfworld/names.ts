/**
 * The names that players see, made from ids as ALFWorld does: `mug_bar__plus_00...` becomes "mug 2".
 * Ids are gone through in order and each kind's highest number comes first; ids that contain "basin"
 * are named after it; ids without coordinates keep a trailing blank.
 */
import { sharedText } from "./shared_text.ts";

/**
 * @param objects ids in ascending order
 * @param mentioned whether a fact of the start mentions the object: only those are numbered
 */
export function displayNames(
  objects: readonly string[],
  mentioned: (object: number) => boolean,
): string[] {
  const separator = "_bar_";
  const counts = new Map<string, number>();
  const kinds = objects.map((id, object) => {
    const end = id.indexOf(separator);
    if (end < 0 || !mentioned(object)) return undefined;
    const kind = (end < 0 ? id : id.slice(0, end)) + (id.includes("basin") ? "basin" : "");
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
    return kind;
  });
  return objects.map((id, object) => {
    const kind = kinds[object];
    if (kind === undefined) return sharedText(`${plain(id)} `);
    const number = counts.get(kind)!;
    counts.set(kind, number - 1);
    return sharedText(`${plain(kind)} ${number}`);
  });
}

function plain(id: string): string {
  return id.replaceAll("_bar_", "|").replaceAll("_minus_", "-").replaceAll("_plus_", "+")
    .replaceAll("_dot_", ".").replaceAll("_comma_", ",");
}
