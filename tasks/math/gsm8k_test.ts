import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { UserError } from "../../errors.ts";
import { gsm8k } from "./mod.ts";

const line = (question: string, final: string) =>
  JSON.stringify({ question, answer: `It is <<1*${final}=${final}>>${final}.\n#### ${final}` });

const train = Array.from({ length: 40 }, (_, i) => line(`Question ${i}?`, `${i}`)).join("\n");
const test = [line("How many?", "1,200"), line("How much?", "$3.50")].join("\n");

async function withFolder(
  files: Record<string, string | Uint8Array>,
  run: (path: string) => Promise<void>,
): Promise<void> {
  const path = await mkdtemp(join(tmpdir(), "gsm8k-"));
  try {
    for (const [name, content] of Object.entries(files)) await writeFile(join(path, name), content);
    await run(path);
  } finally {
    await rm(path, { recursive: true });
  }
}

Deno.test("the published form is read: plain or gzipped, short or long file names, CRLF too", async () => {
  const forms: Record<string, string | Uint8Array>[] = [
    { "train.jsonl": train, "test.jsonl": test + "\n" },
    { "gsm8k_train.jsonl.gz": gzipSync(train), "gsm8k_test.jsonl.gz": gzipSync(test) },
    { "train.jsonl": train, "test.jsonl": test.replaceAll("\n", "\r\n") },
  ];
  for (const files of forms) {
    await withFolder(files, async (path) => {
      assert.deepEqual(await gsm8k.queries("test", { path }), [
        { id: "gsm8k/test/1", question: "How many?", gold: "1200" },
        { id: "gsm8k/test/2", question: "How much?", gold: "3.5" },
      ]);
      const [first] = await gsm8k.demonstrations("test", { path });
      assert.equal(first!.prompt, "How many?\n");
      assert.equal(first!.solution, "It is <<1*1,200=1,200>>1,200.\n#### 1,200");
    });
  }
});

Deno.test("validation is a fixed part of the training file and training the rest", async () => {
  await withFolder({ "train.jsonl": train, "test.jsonl": test }, async (path) => {
    const ids = async (split: "train" | "validation", more = {}) =>
      (await gsm8k.queries(split, { path, validationShare: 0.3, ...more })).map(({ id }) => id);
    const [learned, aside] = [await ids("train"), await ids("validation")];
    assert.equal(new Set([...learned, ...aside]).size, 40);
    assert.ok(aside.length >= 5 && aside.length <= 20, `${aside.length}`);
    assert.deepEqual(await ids("train", { train: 7 }), learned.slice(0, 7));
    assert.deepEqual(await ids("validation", { validationShare: 0 }), []);
  });
});

Deno.test("every malformed line stops the reading with file and line number", async () => {
  const bad: [string, RegExp][] = [
    ['{"question": "cut off', /train\.jsonl, line 2: not JSON/],
    ["", /line 2: the line is empty/],
    ["[]", /line 2: the line: /],
    ['{"question": "q"}', /line 2: field 'answer'/],
    ['{"question": "", "answer": "#### 1"}', /line 2: field 'question'/],
    ['{"question": "q", "answer": "one"}', /line 2: the answer has no '#### n' line/],
    ['{"question": "q", "answer": "#### one"}', /line 2: 'one' after #### is not a number/],
  ];
  for (const [text, message] of bad) {
    const lines = [line("a", "1"), text, line("b", "2")].join("\n");
    await withFolder({ "train.jsonl": lines, "test.jsonl": test }, async (path) => {
      await assert.rejects(gsm8k.queries("train", { path }), (error) => {
        assert.ok(error instanceof UserError);
        assert.match(error.message, message);
        return true;
      });
    });
  }
});

Deno.test("a missing folder, file, or parameter and unreadable bytes are errors that say so", async () => {
  const fails = (path: string | undefined, message: RegExp) =>
    assert.rejects(gsm8k.queries("train", path === undefined ? {} : { path }), (error) => {
      assert.ok(error instanceof UserError);
      assert.match(error.message, message);
      return true;
    });
  await fails(undefined, /parameter 'path'/);
  await fails("does/not/exist", /'does\/not\/exist': there is no such folder/);
  await withFolder({ "test.jsonl": test }, async (path) => {
    await fails(path, /no train file in .* looked for train\.jsonl, train\.jsonl\.gz, gsm8k_train/);
    await fails(join(path, "test.jsonl"), /it is not a folder/);
  });
  await withFolder({ "train.jsonl.gz": new TextEncoder().encode("plain") }, async (path) => {
    await fails(path, /cannot read .*train\.jsonl\.gz/);
  });
  await withFolder({ "train.jsonl": Uint8Array.of(0xff, 0xfe, 0x41) }, async (path) => {
    await fails(path, /cannot read .*train\.jsonl/);
  });
  await withFolder({ "train.jsonl": "" }, async (path) => await fails(path, /is empty/));
});

Deno.test("a completion is graded by the number after ####, however it is written", async () => {
  const query = { id: "q", question: "?", gold: "1200" };
  const correct = async (text: string) => (await gsm8k.grade(query, text)).correct;
  for (const text of ["#### 1200", "x\n#### 1,200", "#### $1200.00.", "#### 1200 dollars"]) {
    assert.equal(await correct(text), true, text);
  }
  for (const text of ["1200", "#### 12000", "#### -1200", "#### 1", "#### 1200 or 1300"]) {
    assert.equal(await correct(text), false, text);
  }
});

Deno.test("the alphabet holds every character of the files", async () => {
  const files = { "train.jsonl": line("Zoë’s 3½ €?", "1"), "test.jsonl": line("𝑥?", "2") };
  await withFolder(files, async (path) => {
    const alphabet = new Set(await gsm8k.alphabet({ path }));
    for (const character of "Zoë’s 3½ €?𝑥<>=#\n") assert.ok(alphabet.has(character), character);
  });
});
