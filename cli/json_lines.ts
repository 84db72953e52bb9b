/**
 * JSON lines on standard input and output, for commands that other programs drive. A line that cannot
 * be used ends the command with an error that names the line.
 */
import { Buffer } from "node:buffer";
import { once } from "node:events";
import process from "node:process";
import type { Readable } from "node:stream";
import { z } from "zod";
import { UserError } from "../errors.ts";

/** A value with the number of its line, counted from 1. */
export interface Line<T> {
  readonly number: number;
  readonly value: T;
}

/** What a caller gives to know its results by, any JSON; it comes back as it was. */
export const lineId = z.unknown().optional();

/**
 * The lines of `input` as values of `schema`. Empty lines are passed over.
 * @throws UserError naming the line, where it is not JSON or does not fit
 */
export async function* readJsonLines<T extends z.ZodType>(
  schema: T,
  input: Readable | AsyncIterable<Uint8Array>,
): AsyncGenerator<Line<z.output<T>>> {
  let number = 0;
  for await (const text of linesOf(input)) {
    number++;
    if (text.trim() === "") continue;
    yield { number, value: parseLine(schema, text, number) };
  }
}

async function* linesOf(input: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  // Not TextDecoderStream: bytes that are no UTF-8 must be an error, not U+FFFD.
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let parts: Uint8Array[] = [];
  let number = 0;
  const text = () => {
    number++;
    try {
      return decoder.decode(Buffer.concat(parts));
    } catch (cause) {
      throw new UserError(`line ${number} of the input is not UTF-8`, { cause });
    }
  };
  for await (const chunk of input) {
    let start = 0;
    for (let end; (end = chunk.indexOf(10, start)) >= 0; start = end + 1) {
      parts.push(chunk.subarray(start, end));
      yield text();
      parts = [];
    }
    if (start < chunk.length) parts.push(chunk.subarray(start));
  }
  if (parts.length > 0) yield text();
}

function parseLine<T extends z.ZodType>(schema: T, text: string, number: number): z.output<T> {
  let value: unknown;
  try {
    value = JSON.parse(text);
    // Integers of 64 bits lose digits as numbers.
    if (inexact((value as { id?: unknown } | null)?.id)) value = JSON.parse(text, keepDigits);
  } catch (cause) {
    throw new UserError(`line ${number} of the input is not JSON: ${(cause as Error).message}`, {
      cause,
    });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  // A field unknown is often the one that then is missing, misspelt.
  const { issues } = parsed.error;
  const issue = issues.find(({ code }) => code === "unrecognized_keys") ?? issues[0]!;
  const path = issue.path.join(".");
  throw new UserError(
    `line ${number} of the input: ${path === "" ? "" : `${path}: `}${issue.message}`,
  );
}

const inexact = (id: unknown) => Number.isInteger(id) && !Number.isSafeInteger(id);

/** As `JSON.parse` calls it, with the text of each value; TypeScript's library lacks both parts. */
function keepDigits(_key: string, value: unknown, context?: { source?: string }): unknown {
  const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };
  return inexact(value) && context?.source !== undefined ? rawJSON(context.source) : value;
}

/** Groups of at most `size`, so that memory does not grow with the input. */
export async function* inGroups<T>(items: AsyncIterable<T>, size: number): AsyncGenerator<T[]> {
  let group: T[] = [];
  for await (const item of items) {
    group.push(item);
    if (group.length < size) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}

/** Writes one line of JSON to standard output, waiting where the reader is slow. */
export async function writeJsonLine(value: unknown): Promise<void> {
  if (!process.stdout.write(jsonLine(value) + "\n")) await once(process.stdout, "drain");
}

/** JSON without the characters at which some readers (Python's `splitlines`) end a line as well. */
export function jsonLine(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u0085\u2028\u2029]/g,
    (separator) => "\\u" + separator.charCodeAt(0).toString(16).padStart(4, "0"),
  );
}

/** @throws UserError where an id is no token of a vocabulary of that size */
export function checkTokenIds(ids: readonly number[], vocabSize: number, line: number): void {
  const stranger = ids.find((id) => id >= vocabSize);
  if (stranger === undefined) return;
  throw new UserError(
    `line ${line} of the input: input_ids: token ${stranger} is not in the model's vocabulary of ${vocabSize}`,
  );
}
