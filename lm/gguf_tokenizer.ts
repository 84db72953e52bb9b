/**
 * A tokenizer from GGUF metadata: byte-level BPE whose pre-tokenizer is known here, and SentencePiece's
 * BPE (Llama 2, Mistral, MiniCPM), whose merges follow from the scores of its tokens. For others, put the
 * model's tokenizer.json beside the file.
 */
import { UserError } from "../errors.ts";
import type { GgufFile } from "./gguf.ts";
import { numberAt } from "./gguf_metadata.ts";
import { Tokenizer } from "./tokenizer.ts";
import { addedToken, bpeModel } from "./tokenizer_json.ts";

const byteLevel = {
  type: "ByteLevel",
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: false,
};

const split = (pattern: string) => (
  { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false }
);
const splitBy = (pattern: string) => (
  { type: "Sequence", pretokenizers: [split(pattern), byteLevel] }
);

const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const wordsAndRest = "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+";
const punctuationAndSpace = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** The letters that DeepSeek's tokenizer takes together. */
const deepseekLetters =
  "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-" +
  "\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1" +
  "\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-" +
  "\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15" +
  "\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d" +
  "\u1f80-\u1fb4\u1fb6-\u1fbc\u03b9\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb" +
  "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d" +
  "\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183" +
  "\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b" +
  "\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-" +
  "\uff3a\uff41-\uff5a\u{10400}-\u{1044f}\u{104b0}-\u{104d3}\u{104d8}-\u{104fb}\u{10c80}-" +
  "\u{10cb2}\u{10cc0}-\u{10cf2}\u{118a0}-\u{118df}\u{1e900}-\u{1e943}";

/** The pre-tokenizer behind each name llama.cpp gives. */
const preTokenizers: Record<string, object> = {
  smollm: {
    type: "Sequence",
    pretokenizers: [{ type: "Digits", individual_digits: true }, { ...byteLevel, use_regex: true }],
  },
  "gpt-2": { ...byteLevel, use_regex: true },
  qwen2: splitBy([contractions, wordsAndRest, "\\p{N}", punctuationAndSpace].join("|")),
  "deepseek-llm": {
    type: "Sequence",
    pretokenizers: [
      split("[\\r\\n]"),
      split(`\\s?[${deepseekLetters}]+`),
      split("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"),
      split("\\s+$"),
      split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"),
      { type: "Digits", individual_digits: true },
      byteLevel,
    ],
  },
  "llama-bpe": splitBy([contractions, wordsAndRest, "\\p{N}{1,3}", punctuationAndSpace].join("|")),
};

/** ggml's token types. */
const NORMAL = 1;
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;

/**
 * The tokenizer in the metadata, with its chat template; undefined where there is none.
 * @throws UserError where it is of a kind that is not rebuilt here
 */
export function ggufTokenizer(gguf: GgufFile): Tokenizer | undefined {
  const { metadata, path } = gguf;
  const model = metadata.get("tokenizer.ggml.model");
  const list = metadata.get("tokenizer.ggml.tokens");
  if (model === undefined || !Array.isArray(list)) return undefined;
  const tokens = list.map(String);
  const pre = String(metadata.get("tokenizer.ggml.pre") ?? "default");
  const sentencePiece = model === "llama" && pre === "default";
  if (!sentencePiece && !(model === "gpt2" && Object.hasOwn(preTokenizers, pre))) {
    throw new UserError(
      `${path}: tokenizer '${
        String(model)
      }' with pre-tokenizer '${pre}' cannot be rebuilt (known: ` +
        `llama, and gpt2 with ${Object.keys(preTokenizers).join(", ")}): ` +
        `put the model's tokenizer.json beside the file`,
    );
  }
  const types = metadata.get("tokenizer.ggml.token_type");
  const typeOf = (id: number) => Array.isArray(types) ? Number(types[id]) : NORMAL;
  const added = tokens.flatMap((content, id) => {
    const type = typeOf(id);
    const special = type === CONTROL || (sentencePiece && type === UNKNOWN);
    if (!special && type !== USER_DEFINED) return [];
    return [addedToken(id, content, special)];
  });
  const json = {
    version: "1.0",
    added_tokens: added,
    post_processor: specialTokens(gguf, tokens, sentencePiece || pre === "llama-bpe"),
    ...(sentencePiece ? sentencePieces(gguf, tokens, typeOf) : bytePairs(gguf, tokens, pre)),
  };
  const config = {
    bos_token: tokenAt(gguf, tokens, "bos")?.token,
    eos_token: tokenAt(gguf, tokens, "eos")?.token,
    pad_token: tokenAt(gguf, tokens, "padding")?.token,
    chat_template: metadata.get("tokenizer.chat_template"),
    clean_up_tokenization_spaces: false,
  };
  return new Tokenizer({
    "tokenizer.json": JSON.stringify(json),
    "tokenizer_config.json": JSON.stringify(config),
  }, path);
}

/** The token that the metadata gives a part to play; undefined where there is none. */
function tokenAt(gguf: GgufFile, tokens: readonly string[], key: string) {
  const id = numberAt(gguf, `tokenizer.ggml.${key}_token_id`);
  const token = id === undefined ? undefined : tokens[id];
  return id === undefined || token === undefined ? undefined : { id, token };
}

/** The parts of tokenizer.json for byte-level BPE. */
function bytePairs(gguf: GgufFile, tokens: readonly string[], pre: string): object {
  return {
    normalizer: pre === "qwen2" ? { type: "NFC" } : null,
    pre_tokenizer: preTokenizers[pre],
    decoder: byteLevel,
    model: bpeModel(tokens, {
      ignore_merges: pre === "llama-bpe",
      merges: gguf.metadata.get("tokenizer.ggml.merges") ?? [],
    }),
  };
}

/** The parts of tokenizer.json for SentencePiece's BPE, as transformers converts it. */
function sentencePieces(
  gguf: GgufFile,
  tokens: readonly string[],
  typeOf: (id: number) => number,
): object {
  const scores = gguf.metadata.get("tokenizer.ggml.scores");
  if (!Array.isArray(scores) || scores.length !== tokens.length) {
    throw new UserError(`${gguf.path}: tokenizer.ggml.scores must hold a number for each token`);
  }
  const unknown = tokens[numberAt(gguf, "tokenizer.ggml.unknown_token_id") ?? 0];
  const prefix = gguf.metadata.get("tokenizer.ggml.add_space_prefix") !== false;
  const spaces = { type: "Replace", pattern: { String: " " }, content: "\u2581" };
  return {
    normalizer: {
      type: "Sequence",
      normalizers: prefix ? [{ type: "Prepend", prepend: "\u2581" }, spaces] : [spaces],
    },
    pre_tokenizer: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "\u2581" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(prefix ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
      ],
    },
    model: bpeModel(tokens, {
      unk_token: unknown ?? null,
      fuse_unk: true,
      byte_fallback: true,
      merges: mergesByScore(tokens, scores.map(Number), typeOf),
    }),
  };
}

/** Longer pieces are not made of two others by any tokenizer in use; they would take their length squared. */
const LONGEST_PIECE = 256;

/** SentencePiece merges whichever neighbours make the token of the highest score. */
function mergesByScore(
  tokens: readonly string[],
  scores: readonly number[],
  typeOf: (id: number) => number,
): [string, string][] {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const merges: { left: string; right: string; score: number }[] = [];
  for (const [id, token] of tokens.entries()) {
    if (typeOf(id) !== NORMAL || token.length > LONGEST_PIECE) continue;
    for (let at = 1; at < token.length; at++) {
      const [left, right] = [token.slice(0, at), token.slice(at)];
      if (ids.has(left) && ids.has(right)) merges.push({ left, right, score: scores[id]! });
    }
  }
  merges.sort((a, b) =>
    b.score - a.score || b.left.length - a.left.length || b.right.length - a.right.length
  );
  return merges.map(({ left, right }) => [left, right]);
}

/** The post-processor that puts begin and end tokens around a text, where the metadata wants them. */
function specialTokens(gguf: GgufFile, tokens: readonly string[], begins: boolean): object | null {
  const wanted = (key: string, otherwise: boolean) =>
    gguf.metadata.get(`tokenizer.ggml.add_${key}_token`) ?? otherwise;
  const special = (key: string) => {
    const found = tokenAt(gguf, tokens, key);
    if (found !== undefined) return found;
    throw new UserError(
      `${gguf.path}: tokenizer.ggml.${key}_token_id names no token to put at a text's ${
        key === "bos" ? "beginning" : "end"
      }`,
    );
  };
  // llama.cpp adds Llama's begin token unless told otherwise.
  const before = wanted("bos", begins) ? [special("bos")] : [];
  const after = wanted("eos", false) ? [special("eos")] : [];
  const around = [...before, ...after];
  if (around.length === 0) return null;
  const piece = ({ token }: { token: string }) => ({ SpecialToken: { id: token, type_id: 0 } });
  const sequence = (id: string) => [
    ...before.map(piece),
    { Sequence: { id, type_id: 0 } },
    ...after.map(piece),
  ];
  return {
    type: "TemplateProcessing",
    single: sequence("A"),
    pair: [...sequence("A"), ...sequence("B")],
    special_tokens: Object.fromEntries(
      around.map(({ token, id }) => [token, { id: token, ids: [id], tokens: [token] }]),
    ),
  };
}
