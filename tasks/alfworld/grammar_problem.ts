/** What is wrong with a piece of grammar, before anyone knows where it stands. */

/** Raised where a piece of grammar is malformed; the caller knows the file and the line. */
export class GrammarProblem extends Error {
  constructor(readonly expected: string, readonly found: string) {
    super(`expected ${expected}, found ${found}`);
  }
}
