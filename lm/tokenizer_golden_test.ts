/**
 * Tokenizers and chat templates against Hugging Face's own (`$SHARED/golden/tokenizers`): ids with and
 * without special tokens, decoded texts, rendered conversations and their ids, all exactly.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type ChatMessage, Tokenizer } from "./tokenizer.ts";
import { sharedCases } from "./test_support.ts";

interface Case {
  text: string;
  ids: number[];
  ids_with_special: number[];
  decoded: string;
  decoded_skip: string;
}
interface ChatCase {
  template: string;
  messages: ChatMessage[];
  kwargs: { add_generation_prompt?: boolean } & Record<string, unknown>;
  text?: string;
  ids?: number[];
  error?: string;
}

/** Fails once with how many differ and the first of them, so that a report stays readable. */
function assertAll<T>(cases: T[], check: (one: T) => void): void {
  const failures: string[] = [];
  for (const one of cases) {
    try {
      check(one);
    } catch (error) {
      failures.push((error as Error).message);
    }
  }
  assert.ok(failures.length === 0, `${failures.length} of ${cases.length}: ${failures[0]}`);
}

for (const { name, folder } of sharedCases("golden/tokenizers")) {
  const read = (file: string) => JSON.parse(readFileSync(join(folder, file), "utf8"));
  const { cases, decode_cases: decodeCases } = read("cases.json") as {
    cases: Case[];
    decode_cases: Omit<Case, "text" | "ids_with_special">[];
  };

  Deno.test(`${name}: ids of every text`, async () => {
    const tokenizer = await Tokenizer.load(folder);
    assertAll(cases, (one) => assert.deepEqual(tokenizer.encode(one.text), one.ids));
    assertAll(cases, (one) => {
      const ids = tokenizer.encode(one.text, { addSpecialTokens: true });
      assert.deepEqual(ids, one.ids_with_special);
    });
  });

  Deno.test(`${name}: text of ids, valid or not`, async () => {
    const tokenizer = await Tokenizer.load(folder);
    assertAll([...cases, ...decodeCases], (one) => {
      assert.equal(tokenizer.decode(one.ids), one.decoded);
      assert.equal(tokenizer.decode(one.ids, { skipSpecialTokens: true }), one.decoded_skip);
    });
  });

  Deno.test(`${name}: conversations by every chat template`, async () => {
    const chat = read("chat.json") as { templates: Record<string, string>; cases: ChatCase[] };
    const files = (await Tokenizer.load(folder)).files;
    const byTemplate = new Map(
      Object.entries(chat.templates).map(([key, template]) => [
        key,
        new Tokenizer({ ...files, "chat_template.jinja": template }),
      ]),
    );
    assertAll(chat.cases, (one) => {
      const tokenizer = byTemplate.get(one.template)!;
      const { add_generation_prompt: addGenerationPrompt = false, ...variables } = one.kwargs;
      const render = () =>
        tokenizer.applyChatTemplate(one.messages, { addGenerationPrompt, variables });
      if (one.error !== undefined) return void assert.throws(render, one.template);
      const text = render();
      assert.equal(text, one.text);
      assert.deepEqual(tokenizer.encode(text), one.ids);
    });
  });
}
