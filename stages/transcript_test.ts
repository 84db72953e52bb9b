import assert from "node:assert/strict";
import { charTokenizer, Tokenizer } from "../lm/mod.ts";
import type { LanguageModel } from "./language_model.ts";
import { transcribe, Transcript, Wording } from "./transcript.ts";

const plain = charTokenizer("\nabcdefghijklmnopqrstuvwxyz .:-|>");
const modelWith = (tokenizer: Tokenizer) =>
  ({
    tokenizer,
    config: { eosTokenIds: [tokenizer.eosId] },
    generationConfig: {},
  }) as unknown as LanguageModel;
const withTemplate = (template: string) =>
  new Tokenizer({ ...plain.files, "chat_template.jinja": template });

const messages = [
  { role: "user", content: "a room" },
  { role: "assistant", content: "look" },
  { role: "user", content: "a bed" },
  { role: "assistant", content: "sleep" },
] as const;

Deno.test("turns are actions, all else is state, and a turn's last token ends a step", () => {
  const { prompt, responseIds, actionMask, stepEnds } = transcribe(
    new Wording(modelWith(plain), false),
    messages,
    1,
  );
  assert.equal(prompt.text, "a room\n");
  assert.equal(plain.decode(responseIds), "look<eos>\na bed\nsleep<eos>");
  const acted = responseIds.filter((_, i) => actionMask[i] === 1);
  assert.equal(plain.decode(acted), "look<eos>sleep<eos>");
  assert.deepEqual(stepEnds.map((end) => responseIds[end]), [plain.eosId, plain.eosId]);
});

Deno.test("a chat template's text around turns is kept as the template has it", () => {
  const ended = withTemplate(
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}<eos>|{% endfor %}{% if add_generation_prompt %}a:{% endif %}",
  );
  const wording = new Wording(modelWith(ended), true);
  const { prompt, responseIds } = transcribe(wording, messages, 1);
  const whole = ended.applyChatTemplate(messages.map((m) => ({ ...m })));
  assert.equal(prompt.text + ended.decode(responseIds) + "|", whole);
});

Deno.test("an end token that the template does not have is taken back", () => {
  const bare = withTemplate(
    "{% for m in messages %}{% if m.role == 'user' %}|{{ m.content }}>{% else %}{{ m.content }}{% endif %}{% endfor %}",
  );
  const { responseIds, stepEnds, actionMask } = transcribe(
    new Wording(modelWith(bare), true),
    messages,
    1,
  );
  assert.equal(bare.decode(responseIds), "look|a bed>sleep<eos>");
  assert.deepEqual(stepEnds, [3, responseIds.length - 1]);
  assert.equal(actionMask.length, responseIds.length);
});

Deno.test("a long history is cut to the prompt and the latest turns", () => {
  const transcript = transcribe(new Wording(modelWith(plain), false), messages, 1);
  const all = transcript.prompt.ids.length + transcript.responseIds.length;
  assert.equal(transcript.context(all + 4, 4)!.length, all);
  assert.equal(plain.decode(transcript.context(all + 3, 4)!), "a room\nsleep<eos>");
  assert.equal(plain.decode(transcript.context(12, 4)!), "a room\n");
  assert.equal(transcript.context(8, 4), undefined);
});

Deno.test("training takes whole turns from the start, and nothing where none fits", () => {
  const transcript = transcribe(new Wording(modelWith(plain), false), messages, 1);
  const cut = transcript.trained(16)!;
  assert.equal(plain.decode(cut.responseIds), "look<eos>");
  assert.deepEqual(cut.stepEnds, [4]);
  assert.equal(transcript.trained(9), undefined);
  assert.equal(new Transcript(transcript.wording, messages.slice(0, 1)).turns, 0);
});
