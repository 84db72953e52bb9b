import assert from "node:assert/strict";
import fc from "fast-check";
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { charTokenizer } from "./small_tokenizers.ts";
import { Tokenizer } from "./tokenizer.ts";
import { UserError } from "../errors.ts";

const alphabet = "0123456789 +-=\né😀";

Deno.test("a character tokenizer numbers special tokens first, then the alphabet in order", () => {
  const tokenizer = charTokenizer(alphabet + "00", { extraSpecialTokens: ["<step>"] });
  assert.equal(tokenizer.padId, 0);
  assert.equal(tokenizer.eosId, 1);
  assert.equal(tokenizer.idOf("<step>"), 2);
  assert.equal(tokenizer.vocabSize, 3 + [...alphabet].length);
  assert.deepEqual(tokenizer.encode("01é😀"), [3, 4, 18, 19]);
  assert.equal(tokenizer.bosId, undefined);
});

Deno.test("the quick path of character tokenizers gives what the general one gives", () => {
  const tokenizer = charTokenizer(alphabet);
  const json = JSON.parse(tokenizer.files["tokenizer.json"]!);
  const config = JSON.parse(tokenizer.files["tokenizer_config.json"]!);
  const general = new HuggingFaceTokenizer(json, config);
  const piece = fc.constantFrom(...alphabet, "<eos>", "<pad>", "  ");
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
      const text = pieces.join("");
      if (text === "") return;
      const ids = tokenizer.encode(text);
      assert.deepEqual(ids, general.encode(text, { add_special_tokens: false }).ids);
      assert.equal(tokenizer.decode(ids), text);
      assert.equal(general.decode(ids, { clean_up_tokenization_spaces: false }), text);
      const plain = pieces.filter((p) => !p.startsWith("<")).join("");
      assert.equal(tokenizer.decode(ids, { skipSpecialTokens: true }), plain);
    }),
    { seed: 1 },
  );
});

Deno.test("a character outside the alphabet is named", () => {
  const tokenizer = charTokenizer("abc");
  assert.throws(() => tokenizer.encode("abx"), /cannot encode "abx": the alphabet has no "x"/);
  assert.throws(() => tokenizer.decode([99]), /cannot decode token 99: the vocabulary has 5/);
});

Deno.test("nothing encodes to nothing and back", () => {
  const tokenizer = charTokenizer("abc");
  assert.deepEqual(tokenizer.encode(""), []);
  assert.equal(tokenizer.decode([]), "");
  assert.equal(tokenizer.decode([1], { skipSpecialTokens: true }), "");
});

Deno.test("templates compare as Python does: an empty text is not false, true is 1", () => {
  const render = (template: string, variables = {}) =>
    new Tokenizer({ ...charTokenizer("a").files, "chat_template.jinja": template })
      .applyChatTemplate([{ role: "user", content: "" }], { variables });
  assert.equal(render("{{ messages[0].content == false }}"), "false");
  assert.equal(render("{{ messages[0].content != false }}"), "true");
  assert.equal(render("{% if x == '1' %}same{% else %}other{% endif %}", { x: 1 }), "other");
  assert.equal(render("{{ flag == 1 }}", { flag: true }), "true");
  assert.equal(render("{{ 1 == 1 and 'a' == 'a' }}"), "true");
});

Deno.test("a template that raises, or none at all, is an error of the user's", () => {
  const base = charTokenizer("a").files;
  const messages = [{ role: "user", content: "a" }];
  assert.throws(() => new Tokenizer(base).applyChatTemplate(messages), /has no chat template/);
  const raising = { ...base, "chat_template.jinja": "{{ raise_exception('roles!') }}" };
  assert.throws(
    () => new Tokenizer(raising).applyChatTemplate(messages),
    (error: unknown) => error instanceof UserError && /roles!/.test(error.message),
  );
  const broken = { ...base, "chat_template.jinja": "{% if %}" };
  assert.throws(() => new Tokenizer(broken).applyChatTemplate(messages), UserError);
});

Deno.test("a malformed tokenizer file is refused by its name", () => {
  const base = charTokenizer("a").files;
  const refused = (files: Record<string, string>, pattern: RegExp) =>
    assert.throws(() => new Tokenizer(files, "here"), (error: unknown) => {
      assert.ok(error instanceof UserError, String(error));
      assert.match(error.message, pattern);
      return true;
    });
  refused({}, /here: tokenizer.json is missing/);
  refused({ "tokenizer.json": "{" }, /here: tokenizer.json is not JSON/);
  refused({ "tokenizer.json": "{}" }, /here: tokenizer.json: model/);
  refused({ ...base, "tokenizer_config.json": "[]" }, /here: tokenizer_config.json/);
  const json = JSON.parse(base["tokenizer.json"]!);
  const odd = { ...json, model: { ...json.model, type: "Odd" } };
  refused(
    { ...base, "tokenizer.json": JSON.stringify(odd) },
    /here: tokenizer.json: model.type: .*BPE/,
  );
});

Deno.test("a template's range counts as Python's, and not for ever", () => {
  const render = (template: string) =>
    new Tokenizer({ ...charTokenizer("a").files, "chat_template.jinja": template })
      .applyChatTemplate([]);
  const each = (range: string) => `{% for i in ${range} %}{{ i }},{% endfor %}`;
  assert.equal(render(each("range(3)")), "0,1,2,");
  assert.equal(render(each("range(5, 0, -2)")), "5,3,1,");
  assert.equal(render(each("range(2, 2)")), "");
  assert.throws(() => render(each("range(10 ** 9)")), UserError);
  assert.throws(() => render(each("range(1, 2, 0)")), UserError);
  const inner = "{% for j in range(90000) %}{% endfor %}";
  assert.equal(render(inner), "");
  assert.throws(() => render(`{% for i in range(9) %}${inner}{% endfor %}`), /all ranges together/);
});

/** The character that stands for a byte in byte-level vocabularies (GPT-2's table). */
function byteCharacter(byte: number): string {
  const shown = (b: number) => (b > 32 && b < 127) || (b > 160 && b !== 173);
  if (shown(byte)) return String.fromCharCode(byte);
  let hidden = 0;
  for (let b = 0; b < byte; b++) if (!shown(b)) hidden++;
  return String.fromCharCode(256 + hidden);
}

/** Pieces that a byte-level tokenizer which could join any two bytes of `text` cuts it into. */
function pieces(text: string, preTokenizers: object[]): string[] {
  const spelled = (part: string) => [...new TextEncoder().encode(part)].map(byteCharacter);
  const letters = Array.from({ length: 256 }, (_, byte) => byteCharacter(byte));
  const merges: string[][] = [];
  const tokens = new Set(letters);
  const characters = spelled(text);
  // Longer and longer beginnings from every place: whatever is not cut becomes one token.
  for (let from = 0; from < characters.length; from++) {
    for (let to = from + 1; to < characters.length; to++) {
      merges.push([characters.slice(from, to).join(""), characters[to]!]);
      tokens.add(characters.slice(from, to + 1).join(""));
    }
  }
  const tokenizer = new Tokenizer({
    "tokenizer.json": JSON.stringify({
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: { type: "Sequence", pretokenizers: preTokenizers },
      post_processor: null,
      decoder: { type: "ByteLevel" },
      model: {
        type: "BPE",
        vocab: Object.fromEntries([...tokens].map((token, id) => [token, id])),
        merges,
      },
    }),
  });
  return tokenizer.encode(text).map((id) => tokenizer.decode([id]));
}

// What `tokenizers` 0.23 in Python cuts these texts into.
const plain = { type: "ByteLevel", add_prefix_space: false, use_regex: false };

Deno.test("digits are Unicode's numbers: fractions, superscripts, other scripts", () => {
  const each = { type: "Digits", individual_digits: true };
  assert.deepEqual(pieces("x\u00b2+\u00bd a12", [each, plain]), [
    "x",
    "\u00b2",
    "+",
    "\u00bd",
    " a",
    "1",
    "2",
  ]);
  const runs = { type: "Digits", individual_digits: false };
  assert.deepEqual(pieces("a\u0663\u0664b1\u2163", [runs, plain]), [
    "a",
    "\u0663\u0664",
    "b",
    "1\u2163",
  ]);
});

Deno.test("byte-level words end at Unicode's white space", () => {
  const words = { type: "ByteLevel", add_prefix_space: false, use_regex: true };
  assert.deepEqual(pieces("! \ufeff?", [words]), ["!", " \ufeff?"]);
  assert.deepEqual(pieces("!\u0085?", [words]), ["!", "\u0085", "?"]);
});
