/**
 * Where `@huggingface/tokenizers` differs from Hugging Face's library in Rust, whose ids models are
 * trained on: parts of a tokenizer are set right after it was made.
 */
import {
  ByteFallbackDecoder,
  ByteLevelPreTokenizer,
  DigitsPreTokenizer,
  SequenceDecoder,
  SequencePreTokenizer,
} from "@huggingface/tokenizers";

/**
 * Byte-fallback tokens (`<0x0A>`) decode as in Hugging Face's library: a run of bytes that is not valid
 * UTF-8 gives one U+FFFD a byte, and a byte-order mark is a character like any other.
 */
export function decodeBytesExactly(decoder: unknown): void {
  if (decoder instanceof SequenceDecoder) decoder.decoders.forEach(decodeBytesExactly);
  if (!(decoder instanceof ByteFallbackDecoder)) return;
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  decoder.text_decoder = Object.assign(new TextDecoder(), {
    decode: (bytes: Uint8Array) => {
      try {
        return strict.decode(bytes);
      } catch {
        return "\ufffd".repeat(bytes.length);
      }
    },
  });
}

/** GPT-2's words, with Unicode's white space: JavaScript's has U+FEFF and lacks U+0085. */
const GPT2_WORDS = new RegExp(
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+|" +
    "\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+",
  "gu",
);

/**
 * Digits are all of Unicode's numbers, superscripts and fractions too, not 0 to 9 alone; byte-level
 * words end at Unicode's white space.
 */
export function splitExactly(preTokenizer: unknown): void {
  if (preTokenizer instanceof SequencePreTokenizer) preTokenizer.tokenizers.forEach(splitExactly);
  if (preTokenizer instanceof ByteLevelPreTokenizer) preTokenizer.pattern = GPT2_WORDS;
  if (preTokenizer instanceof DigitsPreTokenizer) {
    const many = preTokenizer.config.individual_digits ? "" : "+";
    preTokenizer.pattern = new RegExp(`\\P{N}+|\\p{N}${many}`, "gu");
  }
}
