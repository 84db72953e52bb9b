/** Reading JSON files with errors that name the file. */
import { readFile } from "node:fs/promises";
import { UserError } from "../errors.ts";

/** Parses a JSON file. @throws UserError naming the file where it is missing or not JSON. */
export async function readJson(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw new UserError(`cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UserError(`${path} is not JSON: ${(cause as Error).message}`, { cause });
  }
}
