/**
 * Tells users of their own files. A stage reads a copy of what was imported, in a folder that is gone
 * when the stage is; where its messages name that copy, they are worded for the file the user gave.
 */
import { basename, join } from "node:path";
import type { GraphNode, InputRef } from "./graph.ts";

/**
 * `text` with paths of imported inputs put as the user's own.
 *
 * @param inputs the folder in which the stage's inputs are laid out by name
 * @param nodeOf finds a node of the graph
 */
export function withOwnPaths(
  text: string,
  node: GraphNode,
  inputs: string,
  nodeOf: (id: string) => GraphNode | undefined,
): string {
  for (const [name, ref] of node.inputs) {
    const refs: readonly InputRef[] = Array.isArray(ref) ? ref : [ref as InputRef];
    for (const [i, { node: from }] of refs.entries()) {
      const source = nodeOf(from);
      const given = source?.importPath;
      if (source === undefined || given === undefined) continue;
      const copy = Array.isArray(ref) ? join(inputs, name, String(i)) : join(inputs, name);
      if (isFile(given)) {
        const name = source.stage.outputs["content"]?.file ?? basename(given);
        text = text.replace(wholePath(join(copy, name)), () => given);
      }
      text = text.replace(wholePath(copy), () => given);
    }
  }
  return text;
}

/** The path itself or the start of a longer one, not `data` of `data2`. */
function wholePath(path: string): RegExp {
  return new RegExp(
    path.replace(/[^\w/]/g, (c) => `\\u{${c.codePointAt(0)!.toString(16)}}`) + "(?![\\w-])",
    "gu",
  );
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
