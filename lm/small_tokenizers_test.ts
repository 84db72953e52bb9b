import assert from "node:assert/strict";
import { wordTokenizer } from "./small_tokenizers.ts";

const alphabet = "\n abcdefghijklmnopqrstuvwxyz0123456789.,";

Deno.test("a word with its blank is one token, a word not known is spelled", () => {
  const tokenizer = wordTokenizer(["go to desk 1", "go to bed 12."], alphabet);
  assert.equal(tokenizer.encode("go to desk 12.").length, 5);
  assert.equal(tokenizer.encode(" zoo").length, 4);
  for (const text of ["go to desk 1", " zoo\n\ngo  to. 345", "desk,desk 1"]) {
    assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
  }
});

Deno.test("the most frequent words are kept where there may not be more", () => {
  const tokenizer = wordTokenizer(["aa aa bb"], alphabet, { most: 1 });
  assert.equal(tokenizer.encode(" aa aa").length, 2);
  assert.equal(tokenizer.encode(" bb").length, 3);
  assert.equal(tokenizer.vocabSize, 2 + alphabet.length + 1);
});
