/** A whole model folder: configuration, weights, tokenizer, sampling defaults. */
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { tf } from "../xla/mod.ts";
import { UserError } from "../errors.ts";
import {
  findModel,
  loadWeights,
  type ModelFiles,
  type ParamsType,
  saveWeights,
} from "./checkpoint.ts";
import { type ModelConfig, parseConfig, type WeightType } from "./config.ts";
import { GgufFile } from "./gguf.ts";
import { ggufConfig } from "./gguf_metadata.ts";
import { ggufTokenizer } from "./gguf_tokenizer.ts";
import { type HubOptions, modelPath } from "./hub.ts";
import { readJson } from "./json.ts";
import { findBase, isAdapter, loadLora, mergeLora } from "./lora.ts";
import { Tokenizer } from "./tokenizer.ts";
import type { Params } from "./transformer.ts";

/** Sampling settings of `generation_config.json`, where a model ships them. */
export interface GenerationDefaults {
  readonly eosTokenIds?: readonly number[];
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly doSample?: boolean;
}

export interface Model {
  readonly config: ModelConfig;
  readonly params: Params;
  /** Absent where the folder has no tokenizer.json: ids go in and out then. */
  readonly tokenizer?: Tokenizer;
  readonly generationConfig: GenerationDefaults;
}

const generationFile = z.looseObject({
  eos_token_id: z.union([z.number().int(), z.array(z.number().int())]).nullish(),
  temperature: z.number().nonnegative().nullish(),
  top_k: z.number().int().nonnegative().nullish(),
  top_p: z.number().positive().max(1).nullish(),
  do_sample: z.boolean().nullish(),
});

export interface LoadOptions {
  /** A LoRA adapter's folder (or its name on the hub), merged into the weights. */
  readonly adapter?: string;
  /** False leaves `params` empty: configuration and tokenizer only. Default true. */
  readonly weights?: boolean;
  /**
   * What the weights are kept as on the device, whatever they are in the file. bfloat16 takes half the
   * memory and is for inference: a trainer wants float32. Default float32.
   */
  readonly dtype?: ParamsType;
  /** Where `org/name` is looked for. */
  readonly hub?: HubOptions;
}

/**
 * Loads a model from a Hugging Face folder, a `.gguf` file, a folder with `config.json`,
 * `tokenizer.json` and one `.gguf`, a LoRA adapter's folder (its base is loaded and the adapter
 * merged), or by the name of one of these on the hub, `org/name` or `org/name@revision`. Weights become
 * tensors on the active backend.
 * @throws UserError naming the file and what is wrong with it.
 */
export async function loadModel(path: string, options: LoadOptions = {}): Promise<Model> {
  const at = await modelPath(path, options.hub);
  if (options.adapter === undefined && await isAdapter(at)) {
    const base = await modelPath(await findBase(at), options.hub);
    return await loadModel(base, { ...options, adapter: at });
  }
  const files = await findModel(at);
  const config = await loadConfig(files);
  const tokenizer = await loadTokenizer(files);
  if (tokenizer !== undefined && tokenizer.vocabSize > config.vocabSize) {
    throw new UserError(
      `${path}: the tokenizer has ${tokenizer.vocabSize} tokens, ` +
        `the model's vocab_size is ${config.vocabSize}`,
    );
  }
  const generationConfig = files.folder === undefined
    ? {}
    : await loadGenerationConfig(files.folder);
  const base = options.weights === false ? {} : await loadWeights(config, files, options.dtype);
  const params = options.adapter === undefined || options.weights === false
    ? base
    : await adapted(config, base, await modelPath(options.adapter, options.hub));
  return { config, params, generationConfig, ...(tokenizer === undefined ? {} : { tokenizer }) };
}

/** The parameters with an adapter merged in; consumes `base`. */
async function adapted(config: ModelConfig, base: Params, folder: string): Promise<Params> {
  try {
    const lora = await loadLora(folder, config);
    const merged = mergeLora(base, lora);
    tf.dispose(lora.params);
    for (const [name, tensor] of Object.entries(base)) {
      if (merged[name] !== tensor) tensor.dispose();
    }
    return merged;
  } catch (error) {
    tf.dispose(base);
    throw error;
  }
}

async function loadConfig(files: ModelFiles): Promise<ModelConfig> {
  const beside = files.folder === undefined ? undefined : join(files.folder, "config.json");
  if (beside !== undefined && (files.kind === "safetensors" || existsSync(beside))) {
    return parseConfig(await readJson(beside), beside);
  }
  if (files.kind !== "gguf") throw new UserError("a safetensors model needs its config.json");
  await using gguf = await GgufFile.open(files.file);
  return ggufConfig(gguf);
}

async function loadTokenizer(files: ModelFiles): Promise<Tokenizer | undefined> {
  if (files.folder !== undefined && existsSync(join(files.folder, "tokenizer.json"))) {
    return await Tokenizer.load(files.folder);
  }
  if (files.kind !== "gguf") return undefined;
  await using gguf = await GgufFile.open(files.file);
  return ggufTokenizer(gguf);
}

async function loadGenerationConfig(folder: string): Promise<GenerationDefaults> {
  const path = join(folder, "generation_config.json");
  if (!existsSync(path)) return {};
  const parsed = generationFile.safeParse(await readJson(path));
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new UserError(`${path}: ${issue.path.join(".")}: ${issue.message}`);
  }
  const { eos_token_id: eos, temperature, top_k, top_p, do_sample } = parsed.data;
  return {
    ...(eos === undefined || eos === null ? {} : { eosTokenIds: Array.isArray(eos) ? eos : [eos] }),
    ...(typeof temperature === "number" ? { temperature } : {}),
    ...(typeof top_k === "number" ? { topK: top_k } : {}),
    ...(typeof top_p === "number" ? { topP: top_p } : {}),
    ...(typeof do_sample === "boolean" ? { doSample: do_sample } : {}),
  };
}

/**
 * Writes a model as a Hugging Face folder: config.json, the weights (in files of at most `shardBytes`,
 * default 5 GB), the tokenizer's files and generation_config.json. Each weight file appears whole or
 * not at all.
 */
export async function saveModel(
  folder: string,
  model: {
    readonly config: ModelConfig;
    readonly params: Params;
    readonly tokenizer?: Tokenizer | undefined;
    readonly generationConfig?: GenerationDefaults | undefined;
  },
  options: { weightType?: WeightType; shardBytes?: number } = {},
): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
    await model.tokenizer?.save(folder);
    const defaults = generationFields(model.generationConfig ?? {});
    if (Object.keys(defaults).length > 0) {
      const text = JSON.stringify(defaults, null, 2) + "\n";
      await writeFile(join(folder, "generation_config.json"), text);
    }
  } catch (cause) {
    throw new UserError(`cannot write the model to ${folder}: ${(cause as Error).message}`, {
      cause,
    });
  }
  const { weightType, shardBytes } = options;
  await saveWeights(folder, model.config, model.params, weightType, shardBytes);
}

function generationFields(defaults: GenerationDefaults): Record<string, unknown> {
  const fields = {
    eos_token_id: defaults.eosTokenIds,
    temperature: defaults.temperature,
    top_k: defaults.topK,
    top_p: defaults.topP,
    do_sample: defaults.doSample,
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
