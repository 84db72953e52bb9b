/**
 * Tokenizers for small models that are trained from scratch: one token a character, or one a word, in
 * the form of Hugging Face's `tokenizer.json`, so that other programs load them too.
 */
import { ANY_CHARACTER, Tokenizer } from "./tokenizer.ts";
import { addedToken, bpeModel } from "./tokenizer_json.ts";

/** Words and numbers with the blank before them, and every other character by itself. */
const WORDS = " ?[A-Za-z]+| ?[0-9]+|[\\s\\S]";

interface SmallTokenizerOptions {
  readonly extraSpecialTokens?: readonly string[];
}

/**
 * A tokenizer with one token for each character of `alphabet` (code points, in order, duplicates
 * dropped) after the special tokens: `<pad>` is 0, `<eos>` is 1, then `extraSpecialTokens`.
 */
export function charTokenizer(alphabet: string, options: SmallTokenizerOptions = {}): Tokenizer {
  return smallTokenizer(ANY_CHARACTER, [...new Set(alphabet)], options);
}

/**
 * A tokenizer with one token for each word of `texts` (with the blank before it, where there is one),
 * most frequent first, at most `most` of them, after `alphabet` as in `charTokenizer`. Words that it
 * does not know are spelled.
 */
export function wordTokenizer(
  texts: Iterable<string>,
  alphabet: string,
  options: SmallTokenizerOptions & { readonly most?: number } = {},
): Tokenizer {
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const [word] of text.matchAll(new RegExp(WORDS, "g"))) {
      if (word.length > 1) counts.set(word, (counts.get(word) ?? 0) + 1);
    }
  }
  const words = [...counts]
    .sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))
    .slice(0, options.most ?? 4096)
    .map(([word]) => word);
  return smallTokenizer(WORDS, [...new Set(alphabet), ...words], options);
}

function smallTokenizer(
  pattern: string,
  pieces: readonly string[],
  { extraSpecialTokens = [] }: SmallTokenizerOptions,
): Tokenizer {
  const special = ["<pad>", "<eos>", ...extraSpecialTokens];
  const tokens = [...special, ...pieces];
  const json = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: special.map((content, id) => addedToken(id, content, true)),
    normalizer: null,
    pre_tokenizer: {
      type: "Split",
      pattern: { Regex: pattern },
      behavior: "Isolated",
      invert: false,
    },
    post_processor: null,
    decoder: { type: "Fuse" },
    model: bpeModel(tokens, { ignore_merges: pattern !== ANY_CHARACTER }),
  };
  const config = {
    tokenizer_class: "PreTrainedTokenizerFast",
    eos_token: "<eos>",
    pad_token: "<pad>",
    clean_up_tokenization_spaces: false,
    model_max_length: 1_000_000,
  };
  return new Tokenizer({
    "tokenizer.json": JSON.stringify(json, null, 1) + "\n",
    "tokenizer_config.json": JSON.stringify(config, null, 1) + "\n",
  });
}
