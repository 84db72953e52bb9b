/** What is wrong with a piece of grammar, before anyone knows where it stands. */

/** Raised where a piece of grammar is malformed or cannot be followed; the caller knows the file. */
export class GrammarProblem extends Error {
  /** @param near text that stands on the line in question, where that is not known otherwise */
  constructor(readonly expected: string, readonly found: string, readonly near = "") {
    super(`expected ${expected}, found ${found}`);
  }
}
