/** `grade`: mathematics answers as JSON lines in, verdicts as JSON lines out. */
import { InvalidArgumentError } from "@commander-js/extra-typings";
import { UserError } from "../errors.ts";
import { plainCommand, wholeNumber } from "./options.ts";

function threads(text: string): number {
  const count = wholeNumber(text);
  if (count >= 1 && count <= 1024) return count;
  throw new InvalidArgumentError("It must be a whole number from 1 to 1024.");
}

/** Chunks of bytes as batches of numbered lines, each as soon as it is complete. */
async function* lines(
  input: AsyncIterable<Uint8Array>,
): AsyncGenerator<[text: string, number: number][]> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let rest = "";
  let number = 0;
  const batch = (text: string[]) => text.map((line): [string, number] => [line, ++number]);
  const decode = (bytes?: Uint8Array) => {
    try {
      return bytes === undefined ? decoder.decode() : decoder.decode(bytes, { stream: true });
    } catch (cause) {
      throw new UserError(`grade: line ${number + 1} or one soon after is not UTF-8 text`, {
        cause,
      });
    }
  };
  for await (const bytes of input) {
    const parts = (rest + decode(bytes)).split("\n");
    rest = parts.pop()!;
    if (parts.length > 0) yield batch(parts);
  }
  rest += decode();
  if (rest.trim() !== "") yield batch([rest]);
}

async function open(file: string): Promise<AsyncIterable<Uint8Array>> {
  try {
    return (await Deno.open(file)).readable;
  } catch (cause) {
    throw new UserError(`grade: cannot read '${file}': ${(cause as Error).message}`, { cause });
  }
}

/** The command. */
export function gradeCommand() {
  return plainCommand(
    "grade",
    "grade mathematics answers: JSON lines in, JSON lines out, in the same order",
  )
    .argument(
      "[file]",
      'lines {"id", "gold", "prediction", "task": "gsm8k" or "math"} (default: standard input)',
    )
    .option("--threads <number>", "threads to grade on (default: as many as processors)", threads)
    .action(async (file, options) => {
      // Loaded here so that no other command pays for it.
      const { gradeCases, parseCase } = await import("../tasks/mod.ts");
      const input = file === undefined ? Deno.stdin.readable : await open(file);
      async function* cases() {
        for await (const batch of lines(input)) {
          const good = [];
          for (const [line, number] of batch) {
            try {
              good.push(parseCase(line, number));
            } catch (error) {
              // What stands before a bad line is still answered.
              yield good;
              throw error;
            }
          }
          yield good;
        }
      }
      const settings = options.threads === undefined ? {} : { threads: options.threads };
      const encoder = new TextEncoder();
      for await (const grade of gradeCases(cases(), settings)) {
        const line = encoder.encode(JSON.stringify(grade) + "\n");
        for (let at = 0; at < line.length;) at += await Deno.stdout.write(line.subarray(at));
      }
    });
}
