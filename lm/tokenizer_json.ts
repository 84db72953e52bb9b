/** Parts of tokenizer.json, as Hugging Face's library writes them, for tokenizers that are made here. */

/** A token that is found whole in a text before anything else is. */
export function addedToken(id: number, content: string, special: boolean): object {
  return {
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special,
  };
}

/** A BPE model whose tokens' ids are their places; `more` holds what differs from the plainest one. */
export function bpeModel(
  tokens: readonly string[],
  more: Readonly<Record<string, unknown>>,
): object {
  return {
    type: "BPE",
    dropout: null,
    unk_token: null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    ignore_merges: false,
    vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
    merges: [],
    ...more,
  };
}
