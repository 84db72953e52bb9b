/**
 * Text being parsed and where it came from, so that every complaint about a game file names the file,
 * the line and what was expected there.
 */
import { UserError } from "../../errors.ts";

/** A part of a file, e.g. the `pddl_domain` of `game.tw-pddl`. Lines are counted within the part. */
export class Source {
  /** @param name what to call it in messages, e.g. `"a/game.tw-pddl: pddl_domain"` */
  constructor(readonly name: string, readonly text: string, readonly firstLine = 1) {}

  /** Line of a character, the first one being `firstLine`. */
  lineAt(offset: number): number {
    let line = this.firstLine;
    for (let at = this.text.indexOf("\n"); at >= 0 && at < offset;) {
      line++;
      at = this.text.indexOf("\n", at + 1);
    }
    return line;
  }

  /** @throws {UserError} always: the source, the line, what was expected and what stands there */
  fail(line: number, expected: string, found?: string): never {
    const what = found === undefined ? "" : `, found ${found}`;
    throw new UserError(`cannot read ${this.name}, line ${line}: expected ${expected}${what}`);
  }

  /** JSON in this source. @throws {UserError} where it is none */
  json(): unknown {
    try {
      return JSON.parse(this.text);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      const position = /position (\d+)/.exec(message)?.[1];
      const line = this.lineAt(position === undefined ? this.text.length : Number(position));
      const reason = message.replace(/\s*\(line \d+ column \d+\)/, "");
      throw new UserError(
        `cannot read ${this.name}, line ${line}: expected JSON, found: ${reason}`,
      );
    }
  }
}

/** A word or other text as shown in messages, cut where it is long. */
export function quoted(text: string): string {
  return text.length <= 60 ? `'${text}'` : `'${text.slice(0, 57)}...'`;
}
