/**
 * Model weights from and to Hugging Face folders and GGUF files: every tensor the configuration calls
 * for must be there with its shape, nothing more, and goes to the device one at a time.
 */
import { mkdir, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fromBfloat16, tf } from "../xla/mod.ts";
import { UserError } from "../errors.ts";
import { architectureName, type ModelConfig, parameterShapes, type WeightType } from "./config.ts";
import { float32ToBfloat16 } from "./floats.ts";
import { bytesPerElement, ReadRoom, SafetensorsFolder } from "./safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "./safetensors_write.ts";
import { GgufFile } from "./gguf.ts";
import { type Params, VALUE_HEAD } from "./transformer.ts";

/** A set of named float tensors that can be read one at a time. */
interface WeightSource {
  names(): string[];
  entry(name: string): { readonly shape: readonly number[]; readonly file: string } | undefined;
  float32(name: string): Promise<Float32Array>;
  /** Its bits, in `room` if it likes; absent where only float32 is to be had. */
  bfloat16?(name: string, room: ReadRoom): Promise<Uint16Array<ArrayBuffer>>;
}

/** What parameters are kept as on the device. */
export type ParamsType = "float32" | "bfloat16";

/** Buffers that some exporters store although they follow from the configuration. */
const redundant = /(^|\.)rotary_emb\.(inv_freq|cos_cached|sin_cached)$|\.attention\.masked_bias$/;

/**
 * The parameters of the model that `config` describes. As bfloat16 each is on the device before the next
 * is read, and all are read into the same memory.
 * @throws UserError naming file, tensor, expected and found where the weights do not fit the config.
 */
async function loadParams(
  config: ModelConfig,
  source: WeightSource,
  where: string,
  dtype: ParamsType,
): Promise<Params> {
  const expected = expectedShapes(config, source);
  for (const [name, shape] of expected) {
    const entry = source.entry(name);
    if (entry === undefined) {
      throw new UserError(
        `${where} has no tensor '${name}', expected with shape [${shape}] by its config`,
      );
    }
    if (entry.shape.join() !== shape.join()) {
      throw new UserError(
        `${entry.file}: tensor '${name}' has shape [${entry.shape}], expected [${shape}] by the config`,
      );
    }
  }
  for (const name of source.names()) {
    if (expected.has(name) || redundant.test(name)) continue;
    // Some writers keep the tied output embedding; it is the same tensor.
    if (name === "lm_head.weight" && config.tieWordEmbeddings) continue;
    throw new UserError(
      `${where} holds tensor '${name}', which a ${config.modelType} model of this config has not`,
    );
  }
  const params: Params = {};
  try {
    const room = new ReadRoom();
    for (const [name, shape] of expected) {
      params[name] = dtype === "float32"
        ? tf.tensor(await source.float32(name), shape, "float32")
        : fromBfloat16(await bits(source, name, room), shape);
    }
  } catch (error) {
    tf.dispose(params);
    throw error;
  }
  return params;
}

async function bits(source: WeightSource, name: string, room: ReadRoom) {
  return await source.bfloat16?.(name, room) ?? float32ToBfloat16(await source.float32(name));
}

/** The config's shapes; a value model has a head more and may lack the output embedding. */
function expectedShapes(config: ModelConfig, source: WeightSource): Map<string, number[]> {
  const shapes = parameterShapes(config);
  if (source.entry(VALUE_HEAD) !== undefined) {
    shapes.set(VALUE_HEAD, [1, config.hiddenSize]);
    if (source.entry("lm_head.weight") === undefined) shapes.delete("lm_head.weight");
  }
  return shapes;
}

/** What a model path turned out to be. */
export type ModelFiles =
  | { kind: "safetensors"; folder: string }
  | { kind: "gguf"; file: string; folder?: string };

/**
 * Finds the weights at a path: a `.gguf` file, or a folder with `model.safetensors` (or its index), or
 * a folder with `config.json` and one `.gguf`.
 */
export async function findModel(path: string): Promise<ModelFiles> {
  const info = await stat(path).catch((cause) => {
    const why = cause.code === "ENOENT"
      ? "there is nothing; give a model's folder, a .gguf file, or org/name on the hub"
      : cause.message;
    throw new UserError(`cannot open the model ${path}: ${why}`, { cause });
  });
  if (!info.isDirectory()) {
    if (path.endsWith(".gguf")) return { kind: "gguf", file: path };
    throw new UserError(`${path} is neither a model folder nor a .gguf file`);
  }
  const names = await readdir(path);
  if (names.some((name) => /^model\.safetensors(\.index\.json)?$/.test(name))) {
    return { kind: "safetensors", folder: path };
  }
  const ggufs = names.filter((name) => name.endsWith(".gguf"));
  if (ggufs.length === 1) return { kind: "gguf", file: join(path, ggufs[0]!), folder: path };
  throw new UserError(
    ggufs.length > 1
      ? `${path} holds ${ggufs.length} .gguf files: name one of them`
      : `${path} holds no model.safetensors, no model.safetensors.index.json and no .gguf file`,
  );
}

/** Loads the weights found by {@link findModel}. */
export async function loadWeights(
  config: ModelConfig,
  files: ModelFiles,
  dtype: ParamsType = "float32",
): Promise<Params> {
  if (files.kind === "gguf") {
    await using source = await GgufFile.open(files.file);
    return await loadParams(config, source.asHuggingFace(config), files.file, dtype);
  }
  await using source = await SafetensorsFolder.open(files.folder);
  return await loadParams(config, source, files.folder, dtype);
}

const storedAs = { float32: "F32", float16: "F16", bfloat16: "BF16" } as const;

/** Above this, weights go into several files, as Hugging Face's writers do. */
const SHARD_BYTES = 5e9;

/**
 * Writes `config.json` and the weights into `folder`: `model.safetensors`, or shards and their index
 * where they are larger than `shardBytes`. Each file appears whole or not at all, the one that names
 * the others last. Parameters are read back from the device one at a time.
 */
export async function saveWeights(
  folder: string,
  config: ModelConfig,
  params: Params,
  weightType: WeightType = "float32",
  shardBytes = SHARD_BYTES,
): Promise<void> {
  const dtype = storedAs[weightType];
  const shards: Map<string, TensorToWrite>[] = [];
  let room = 0;
  let total = 0;
  for (const name of Object.keys(params).toSorted()) {
    const tensor = params[name]!;
    const bytes = tensor.size * bytesPerElement[dtype];
    if (shards.length === 0 || bytes > room) {
      shards.push(new Map());
      room = shardBytes;
    }
    room -= bytes;
    total += bytes;
    const data = async () => await tensor.data<"float32">();
    shards.at(-1)!.set(name, { shape: tensor.shape, dtype, data });
  }
  try {
    await mkdir(folder, { recursive: true });
    const fields = configFields(config, weightType, VALUE_HEAD in params);
    await writeFile(join(folder, "config.json"), JSON.stringify(fields, null, 2) + "\n");
  } catch (cause) {
    throw new UserError(`cannot write the model to ${folder}: ${(cause as Error).message}`, {
      cause,
    });
  }
  const single = join(folder, "model.safetensors");
  const index = `${single}.index.json`;
  const metadata = { format: "pt" };
  if (shards.length <= 1) {
    await writeSafetensors(single, shards[0] ?? new Map(), metadata);
    await rm(index, { force: true });
    return;
  }
  const number = (n: number) => String(n).padStart(5, "0");
  const weightMap: Record<string, string> = {};
  for (const [i, tensors] of shards.entries()) {
    const file = `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`;
    await writeSafetensors(join(folder, file), tensors, metadata);
    for (const name of tensors.keys()) weightMap[name] = file;
  }
  const text = JSON.stringify({ metadata: { total_size: total }, weight_map: weightMap }, null, 2);
  await writeFile(`${index}.tmp`, text + "\n");
  await rename(`${index}.tmp`, index);
  // A single file of an earlier save would be read in place of the shards.
  await rm(single, { force: true });
}

/** The fields as read, with what saving changes: the number format and the class. */
function configFields(config: ModelConfig, weightType: WeightType, isValueModel: boolean) {
  const key = "dtype" in config.raw ? "dtype" : "torch_dtype";
  return {
    ...config.raw,
    architectures: [
      isValueModel ? "LLMForSequenceRegression" : architectureName(config.modelType),
    ],
    [key]: weightType,
  };
}
