/**
 * LoRA (Hu et al. 2021) as PEFT writes it: to the product with a frozen matrix W an adapter adds
 * `scale * (x Aᵀ) Bᵀ`, with A [rank, in], B [out, rank] and scale = alpha / rank (alpha / sqrt(rank)
 * with rsLoRA). An adapter's matrices stand in the parameter table beside the matrix they adapt, as
 * `NAME.lora_A.weight` and `NAME.lora_B.weight`; with `withLora(config, lora)` as configuration every
 * function of this room applies them. So a trainer differentiates by the adapter's tensors alone.
 */
import { mkdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { asType, isBfloat16, random, tf } from "../xla/mod.ts";
import { UserError } from "../errors.ts";
import { type ModelConfig, parameterShapes } from "./config.ts";
import { readJson } from "./json.ts";
import { loraScale, type LoraScaling, patternRegExp } from "./lora_scale.ts";
import { SafetensorsFile } from "./safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "./safetensors_write.ts";
import type { Params } from "./transformer.ts";

/** What an adapter is, without its tensors. */
export interface LoraConfig extends LoraScaling {
  /** Last parts of the names of the adapted modules, e.g. `q_proj`. */
  readonly targets: readonly string[];
  /** The fields as read, so that saving keeps what this structure does not hold. */
  readonly raw: Readonly<Record<string, unknown>>;
}

/** An adapter for a model. */
export interface Lora {
  readonly config: LoraConfig;
  /** `NAME.lora_A.weight` [rank, in] and `NAME.lora_B.weight` [out, rank], float32. */
  readonly params: Params;
}

const patterns = z.record(z.string(), z.number().positive()).nullish();
const adapterFile = z.looseObject({
  peft_type: z.literal("LORA"),
  r: z.number().int().positive(),
  lora_alpha: z.number().positive(),
  use_rslora: z.boolean().nullish(),
  rank_pattern: patterns,
  alpha_pattern: patterns,
  target_modules: z.union([z.string(), z.array(z.string())]).nullish(),
  base_model_name_or_path: z.string().nullish(),
});

/** Fields that do not change what a loaded adapter computes; what was adapted is seen by its tensors. */
const harmless = new Set(
  `auto_mapping base_model_name_or_path corda_config ensure_weight_tying eva_config exclude_modules
  inference_mode layers_pattern layers_to_transform loftq_config lora_dropout
  lora_ga_config megatron_config megatron_core peft_version qalora_group_size revision task_type
  runtime_config`.split(/\s+/),
);

/** Ways to start an adapter that take a part out of the base's own weights, which PEFT does again to load it. */
const changesBase = /^(pissa|corda|olora|loftq|lora_ga)/i;

/** @throws UserError naming a field that is wrong, or unknown and in use */
function parseAdapterConfig(fields: unknown, source: string): LoraConfig & { base?: string } {
  const parsed = adapterFile.safeParse(fields);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new UserError(`${source}: ${issue.path.join(".") || "the file"}: ${issue.message}`);
  }
  const { r, lora_alpha, use_rslora, rank_pattern, alpha_pattern, target_modules } = parsed.data;
  for (const [field, value] of Object.entries(fields as Record<string, unknown>)) {
    if (field in adapterFile.shape || harmless.has(field)) continue;
    if (value === null || value === false || (field === "bias" && value === "none")) continue;
    if (field === "init_lora_weights" && !changesBase.test(String(value))) continue;
    if (typeof value === "object" && Object.keys(value).length === 0) continue;
    throw new UserError(
      `${source}: ${field} = ${JSON.stringify(value).slice(0, 80)} is not supported: plain LoRA is`,
    );
  }
  for (const pattern of Object.keys({ ...rank_pattern, ...alpha_pattern })) {
    if (patternRegExp(pattern) !== undefined) continue;
    throw new UserError(
      `${source}: rank_pattern or alpha_pattern: '${pattern}' is not supported: names and simple ` +
        "regular expressions are",
    );
  }
  const base = parsed.data.base_model_name_or_path;
  return {
    rank: r,
    alpha: lora_alpha,
    rankStabilised: use_rslora ?? false,
    ranks: rank_pattern ?? {},
    alphas: alpha_pattern ?? {},
    targets: typeof target_modules === "string" ? [target_modules] : target_modules ?? [],
    raw: fields as Record<string, unknown>,
    ...(base === null || base === undefined ? {} : { base }),
  };
}

/** The model configuration under which a table with the adapter's tensors is read. */
export function withLora(config: ModelConfig, { config: lora }: Pick<Lora, "config">): ModelConfig {
  const { rank, alpha, rankStabilised, ranks, alphas } = lora;
  return { ...config, lora: { rank, alpha, rankStabilised, ranks, alphas } };
}

/** The matrices of the layers that LoRA may adapt, by module name: [out, in]. */
function modules(config: ModelConfig): Map<string, [number, number]> {
  const found = new Map<string, [number, number]>();
  for (const [name, shape] of parameterShapes(config)) {
    if (/\.layers\..*_proj\.weight$/.test(name)) {
      found.set(name.slice(0, -".weight".length), shape as [number, number]);
    }
  }
  return found;
}

export interface LoraOptions {
  /** Default 64, as the paper's critics. */
  readonly rank?: number;
  /** Default 64. */
  readonly alpha?: number;
  /** Module names, e.g. `["q_proj", "v_proj"]`; default: all matrices of the layers. */
  readonly targets?: readonly string[];
  /** Scale by alpha / sqrt(rank) (rsLoRA). Default false. */
  readonly rankStabilised?: boolean;
}

/**
 * A new adapter, which changes nothing yet: A is uniform within 1 / sqrt(in) as PEFT draws it, B is 0.
 * @throws UserError for a target that the model has not
 */
export function initLora(config: ModelConfig, seed: number, options: LoraOptions = {}): Lora {
  const all = modules(config);
  const last = (name: string) => name.slice(name.lastIndexOf(".") + 1);
  const known = [...new Set([...all.keys()].map(last))];
  const targets = options.targets ?? known;
  const stranger = targets.find((target) => !known.includes(target));
  if (stranger !== undefined) {
    throw new UserError(`LoRA: no module '${stranger}' in the model; known: ${known.join(", ")}`);
  }
  const { rank = 64, alpha = 64, rankStabilised = false } = options;
  const params: Params = {};
  const root = random.key(seed);
  let index = 0;
  for (const [name, [out, input]] of all) {
    if (!targets.includes(last(name))) continue;
    const bound = 1 / Math.sqrt(input);
    params[`${name}.lora_A.weight`] = tf.tidy(() => {
      const uniform = random.uniform(random.foldIn(root, index), [rank, input]);
      return tf.sub(tf.mul(uniform, 2 * bound), bound);
    });
    params[`${name}.lora_B.weight`] = tf.zeros([out, rank]);
    index++;
  }
  root.dispose();
  const raw = { peft_type: "LORA", task_type: "CAUSAL_LM", bias: "none", lora_dropout: 0 };
  const scaling = { rank, alpha, rankStabilised, ranks: {}, alphas: {} };
  return { config: { ...scaling, targets: [...targets], raw }, params };
}

/** PEFT's prefix; newer versions may put the adapter's name before `.weight`. */
const PREFIX = "base_model.model.";

/** Whether a folder holds an adapter. */
export async function isAdapter(folder: string): Promise<boolean> {
  return await stat(join(folder, "adapter_config.json")).then(() => true, () => false);
}

/** The model that an adapter's configuration says it was trained on, as written there. */
async function adapterBase(folder: string): Promise<string | undefined> {
  const path = join(folder, "adapter_config.json");
  return parseAdapterConfig(await readJson(path), path).base;
}

/**
 * Reads `adapter_config.json` and `adapter_model.safetensors` for a model of that configuration.
 * @throws UserError naming file, tensor, expected and found
 */
export async function loadLora(folder: string, config: ModelConfig): Promise<Lora> {
  const path = join(folder, "adapter_config.json");
  const { base: _, ...lora } = parseAdapterConfig(await readJson(path), path);
  const weights = join(folder, "adapter_model.safetensors");
  await using file = await SafetensorsFile.open(weights);
  const known = modules(config);
  const params: Params = {};
  try {
    for (const [name, entry] of file.entries) {
      const match = /^(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.[^.]+)?\.weight$/.exec(name);
      const shape = match === null ? undefined : known.get(match[1]!);
      if (match === null || shape === undefined) {
        throw new UserError(`${weights}: tensor '${name}' adapts no matrix of the model's layers`);
      }
      const [module, side] = [match[1]!, match[2] as "A" | "B"];
      const rank = loraScale(lora, module).rank;
      const expected = side === "A" ? [rank, shape[1]] : [shape[0], rank];
      if (entry.shape.join() !== expected.join()) {
        throw new UserError(
          `${weights}: tensor '${name}' has shape [${entry.shape}], expected [${expected}]`,
        );
      }
      params[`${module}.lora_${side}.weight`] = tf.tensor(await file.float32(name), expected);
    }
    for (const name of Object.keys(params)) {
      const other = name.replace(/lora_[AB]/, (side) => side === "lora_A" ? "lora_B" : "lora_A");
      if (!(other in params)) throw new UserError(`${weights} has '${name}' but no '${other}'`);
    }
    if (Object.keys(params).length === 0) throw new UserError(`${weights} holds no adapter`);
  } catch (error) {
    tf.dispose(params);
    throw error;
  }
  return { config: lora, params };
}

/**
 * Writes an adapter as PEFT does: `adapter_model.safetensors` and `adapter_config.json`, each whole or
 * not at all. `base` names the model it belongs to.
 */
export async function saveLora(folder: string, lora: Lora, base?: string): Promise<void> {
  const { rank, alpha, rankStabilised, ranks, alphas, targets, raw } = lora.config;
  const tensors = new Map<string, TensorToWrite>();
  for (const name of Object.keys(lora.params).toSorted()) {
    const tensor = lora.params[name]!;
    const data = async () => await tensor.data<"float32">();
    tensors.set(`${PREFIX}${name}`, { shape: tensor.shape, dtype: "F32", data });
  }
  const fields = {
    ...raw,
    base_model_name_or_path: base ?? raw.base_model_name_or_path ?? null,
    inference_mode: true,
    r: rank,
    lora_alpha: alpha,
    use_rslora: rankStabilised,
    rank_pattern: ranks,
    alpha_pattern: alphas,
    target_modules: targets.length === 1 && typeof raw.target_modules === "string"
      ? raw.target_modules
      : targets,
  };
  const path = join(folder, "adapter_config.json");
  try {
    await mkdir(folder, { recursive: true });
    await writeFile(`${path}.tmp`, JSON.stringify(fields, null, 2) + "\n");
  } catch (cause) {
    throw new UserError(`cannot write the adapter to ${folder}: ${(cause as Error).message}`, {
      cause,
    });
  }
  await writeSafetensors(join(folder, "adapter_model.safetensors"), tensors, { format: "pt" });
  await rename(`${path}.tmp`, path);
}

/**
 * The base's parameters with the adapter's added in: adapted matrices are new tensors, the others are
 * the base's own.
 */
export function mergeLora(base: Params, lora: Lora): Params {
  const merged = { ...base };
  const both = { ...base, ...lora.params };
  for (const name of Object.keys(lora.params)) {
    if (!name.endsWith(".lora_A.weight")) continue;
    const module = name.slice(0, -".lora_A.weight".length);
    merged[`${module}.weight`] = mergedWeight(both, module, lora.config);
  }
  return merged;
}

/** `W + scale * B A` [out, in] in W's type, or W's own tensor where nothing adapts it. */
export function mergedWeight(
  params: Params,
  module: string,
  scaling: LoraScaling | undefined,
): tf.Tensor2D {
  const weight = params[`${module}.weight`] as tf.Tensor2D | undefined;
  if (weight === undefined) throw new UserError(`the model has no parameter '${module}.weight'`);
  const a = params[`${module}.lora_A.weight`] as tf.Tensor2D | undefined;
  if (scaling === undefined || a === undefined) return weight;
  const b = params[`${module}.lora_B.weight`] as tf.Tensor2D;
  const { scale } = loraScale(scaling, module);
  return tf.tidy(() => {
    const merged: tf.Tensor2D = tf.add(weight, tf.mul(tf.matMul(b, a), scale));
    return isBfloat16(weight) ? asType(merged, "bfloat16") : merged;
  });
}

/** The base model's files beside an adapter: as its configuration names them, or relative to it. */
export async function findBase(folder: string): Promise<string> {
  const base = await adapterBase(folder);
  if (base === undefined || base === "") {
    throw new UserError(
      `${folder} is a LoRA adapter that names no base model: give the base, and this as adapter`,
    );
  }
  for (const path of [base, join(folder, base), join(folder, "..", base)]) {
    if (await readFile(join(path, "config.json")).then(() => true, () => false)) return path;
  }
  return base;
}
