import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer } from "./tokenizer.ts";
import { StopCutter, StopWatch, TextStream } from "./text_stream.ts";
import { charTokenizer } from "./small_tokenizers.ts";
import { sharedCases } from "./test_support.ts";

function streamed(tokenizer: Tokenizer, ids: number[], skipSpecialTokens: boolean): string {
  const stream = new TextStream(tokenizer, { skipSpecialTokens });
  return ids.map((id) => stream.push(id)).join("") + stream.end();
}

for (const { name, folder } of sharedCases("golden/tokenizers")) {
  Deno.test(`${name}: the pieces of a stream add up to the decoded text`, async () => {
    const tokenizer = await Tokenizer.load(folder);
    const { cases } = JSON.parse(readFileSync(join(folder, "cases.json"), "utf8")) as {
      cases: { ids: number[]; decoded: string; decoded_skip: string }[];
    };
    assert.ok(cases.length > 100);
    for (const { ids, decoded, decoded_skip } of cases) {
      assert.equal(streamed(tokenizer, ids, false), decoded);
      assert.equal(streamed(tokenizer, ids, true), decoded_skip);
    }
  });
}

Deno.test("a stop string is found at the token that completes it", () => {
  const tokenizer = charTokenizer("abc#");
  const watch = new StopWatch(tokenizer, ["##", "cab"]);
  const found = (text: string) => tokenizer.encode(text).map((id) => watch.completes(id));
  assert.deepEqual(found("a#bca"), [false, false, false, false, false]);
  assert.deepEqual(found("b"), [true]);
});

Deno.test("text is cut before a stop string, and its beginning held back", () => {
  const cutter = new StopCutter(["END", "Q:"]);
  assert.deepEqual(["one E", "N two", " EN", "D three"].map((piece) => cutter.push(piece)), [
    "one ",
    "EN two",
    " ",
    "",
  ]);
  assert.ok(cutter.stopped);
  assert.equal(cutter.end(), "");
  const open = new StopCutter(["END"]);
  assert.equal(open.push("the E") + open.end(), "the E");
});
