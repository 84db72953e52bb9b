/**
 * Errors that a person can act on. A `UserError` says what was being done, with which value, and what
 * to do about it; `main.ts` prints its message alone and exits with its code. Anything else that
 * reaches `main.ts` is a defect and keeps its stack trace (shown with `--debug`).
 */

/** Exit codes of every command: 1 the work failed, 2 the command was used wrongly. */
export type ExitCode = 1 | 2;

export class UserError extends Error {
  override name = "UserError";
  readonly exitCode: ExitCode;

  constructor(message: string, options: { exitCode?: ExitCode; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.exitCode = options.exitCode ?? 1;
  }
}

/** Levenshtein distance between two strings, in single-character edits. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitution, previous[j]! + 1, current[j - 1]! + 1));
    }
    previous = current;
  }
  return previous[b.length]!;
}

/** The candidate closest to `name`, or undefined where none is near enough to be a slip of the hand. */
export function nearest(name: string, candidates: Iterable<string>): string | undefined {
  let best: { candidate: string; distance: number } | undefined;
  for (const candidate of candidates) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (best === undefined || distance < best.distance) best = { candidate, distance };
  }
  if (best === undefined || best.distance > Math.max(2, name.length / 3)) return undefined;
  return best.candidate;
}

/** Of more known names only so many are told, the nearest one apart. */
const MAX_NAMES = 30;

/** `unknown workflow 'dmo': did you mean 'demo'? Known: demo, gsm8k` as a usage error. */
export function unknownName(what: string, name: string, known: Iterable<string>): UserError {
  const candidates = [...known];
  const near = nearest(name, candidates);
  const hint = near === undefined ? "" : `did you mean '${near}'? `;
  const shown = candidates.slice(0, MAX_NAMES).join(", ");
  const more = candidates.length > MAX_NAMES ? ` and ${candidates.length - MAX_NAMES} more` : "";
  const list = candidates.length === 0 ? "there are none" : `Known: ${shown}${more}`;
  return new UserError(`unknown ${what} '${name}': ${hint}${list}`, { exitCode: 2 });
}
