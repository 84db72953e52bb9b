/**
 * Where reasoning steps end. A step runs up to and including its delimiter (a line break for
 * arithmetic and GSM8K); what follows the last delimiter is a step of its own.
 */

/**
 * Cuts `text` after every delimiter; the pieces joined are `text` again. Where several delimiters end
 * at one place they cut once. An empty line is a step of its own, as in the reference code.
 */
export function splitSteps(text: string, delimiters: readonly string[]): string[] {
  const steps: string[] = [];
  let start = 0;
  for (let end = 1; end <= text.length; end++) {
    const cut = delimiters.some((delimiter) =>
      end - delimiter.length >= start && text.startsWith(delimiter, end - delimiter.length)
    );
    if (cut || end === text.length) {
      steps.push(text.slice(start, end));
      start = end;
    }
  }
  return steps;
}

/**
 * The same cuts over tokens: `pieces[i]` is the text of token `i` of a completion, and the result
 * lists, ascending, the index of the last token of each step. A token that holds the end of one step
 * and the start of the next belongs to the step that it ends; two steps that end in one token count
 * once. The last token always ends a step.
 */
export function stepEnds(pieces: readonly string[], delimiters: readonly string[]): number[] {
  const ends: number[] = [];
  let textEnd = 0;
  const lengths = splitSteps(pieces.join(""), delimiters).map((step) => step.length);
  let stepEnd = lengths.shift();
  pieces.forEach((piece, index) => {
    textEnd += piece.length;
    let ended = false;
    while (stepEnd !== undefined && textEnd >= stepEnd) {
      ended = true;
      const next = lengths.shift();
      stepEnd = next === undefined ? undefined : stepEnd + next;
    }
    // Special tokens decode to nothing: they may trail the text and still belong to its last step.
    if (ended || index === pieces.length - 1) ends.push(index);
  });
  // A trailing run of empty pieces (end of text) extends the last step rather than adding one.
  if (ends.length >= 2) {
    const [before, last] = [ends.at(-2)!, ends.at(-1)!];
    if (pieces.slice(before + 1, last + 1).every((piece) => piece === "")) ends.splice(-2, 1);
  }
  return ends;
}
