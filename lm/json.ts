/** Reading JSON files with errors that name the file. */
import { readFile, stat } from "node:fs/promises";
import { UserError } from "../errors.ts";

/** Configurations take kilobytes; parsed, a file of brackets alone takes forty times its size. */
const MOST_BYTES = 4 * 2 ** 20;

/**
 * Parses a JSON file of at most 4 MiB.
 * @throws UserError naming the file where it is missing, larger or not JSON
 */
export async function readJson(path: string): Promise<unknown> {
  let text: string;
  try {
    const { size } = await stat(path);
    if (size > MOST_BYTES) {
      throw new UserError(`${path} has ${size} bytes, expected at most ${MOST_BYTES}`);
    }
    text = await readFile(path, "utf8");
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw new UserError(`cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UserError(`${path} is not JSON: ${(cause as Error).message}`, { cause });
  }
}
