/** What the tests of this room share: where the golden files are, a tiny model, and how to compare. */
import { statSync } from "node:fs";
import { basename, dirname } from "node:path";
import { sharedFiles } from "../tests/shared.ts";
import { type ModelConfig, parseConfig } from "./config.ts";

/** A folder of the reference data; undefined where there is none, see `sharedFiles`. */
export function sharedFolder(path: string): string | undefined {
  const [first] = sharedFiles(path);
  return first === undefined ? undefined : dirname(first);
}

/** The folders below a folder of the reference data; empty where there is none. */
export function sharedCases(path: string): { name: string; folder: string }[] {
  const files = sharedFiles(path);
  const folders = files.filter((file) => statSync(file).isDirectory());
  if (files.length > 0 && folders.length === 0) throw new Error(`${path} holds no cases`);
  return folders.map((folder) => ({ name: basename(folder), folder }));
}

/** A model of two small layers with grouped-query attention; `fields` as in config.json. */
export function tinyConfig(fields: { vocab_size: number; [field: string]: unknown }): ModelConfig {
  return parseConfig({
    model_type: "qwen2",
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    tie_word_embeddings: true,
    ...fields,
  });
}

/** The largest |a - b|; NaN where either is NaN. */
export function maxDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`lengths differ: ${a.length} and ${b.length}`);
  let worst = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    if (!(difference <= worst)) worst = difference;
  }
  return worst;
}
