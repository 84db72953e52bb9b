/**
 * Which of a model's parameters are trained: all of them, a LoRA adapter's beside them, or a value head
 * alone. What is not trained is shared, never copied, and a trained part comes back as a whole model.
 */
import { join } from "node:path";
import {
  initLora,
  type Lora,
  mergeLora,
  type ModelConfig,
  type Params,
  saveLora,
  saveModel,
  VALUE_HEAD,
  withLora,
} from "../lm/mod.ts";
import type { LanguageModel } from "./language_model.ts";

export interface Trainable {
  /** Under which trained and untrained parameters together are read. */
  config: ModelConfig;
  params: Params;
  /** What `params` stand on; none where they are all. */
  base?: Params;
  /** The whole model with `trained` in place of `params`. */
  whole(trained: Params): Params;
  /** What `trained` has of an adapter; absent where none is trained. */
  adapter?(trained: Params): Lora;
}

interface LoraParams {
  rank: number;
  alpha: number;
  rankStabilised: boolean;
  targets?: string[] | undefined;
}

function everything({ config, params }: LanguageModel): Trainable {
  return { config, params, whole: (trained) => trained };
}

/** An adapter on all of the model but `besides`, which are trained as they are. */
function adapter(
  { config, params }: LanguageModel,
  { targets, ...options }: LoraParams,
  seed: number,
  besides: readonly string[] = [],
): Trainable {
  const lora = initLora(config, seed, {
    ...options,
    ...(targets === undefined ? {} : { targets }),
  });
  const isBeside = ([name]: [string, unknown]) => besides.includes(name);
  const own = Object.fromEntries(Object.entries(params).filter(isBeside));
  const base = Object.fromEntries(Object.entries(params).filter((entry) => !isBeside(entry)));
  const adapter = (trained: Params): Lora => ({
    ...lora,
    params: Object.fromEntries(Object.entries(trained).filter((entry) => !isBeside(entry))),
  });
  return {
    config: withLora(config, lora),
    params: { ...lora.params, ...own },
    base,
    whole: (trained) => ({
      ...mergeLora(base, adapter(trained)),
      ...Object.fromEntries(Object.entries(trained).filter(isBeside)),
    }),
    adapter,
  };
}

/** The folder of a checkpoint in which the adapter lies that was merged into it, as PEFT saves it. */
const ADAPTER = "adapter";

/**
 * Writes the model with what was trained in place. Where that is an adapter, it is merged in, and kept
 * beside in a folder of its own for the base that training began with.
 */
export async function saveTrained(
  folder: string,
  model: LanguageModel,
  trainable: Trainable,
  trained: Params,
): Promise<void> {
  await saveModel(folder, { ...model, params: trainable.whole(trained) });
  const adapter = trainable.adapter?.(trained);
  if (adapter !== undefined) await saveLora(join(folder, ADAPTER), adapter);
}

export function trainablePolicy(
  { lora }: { lora?: LoraParams | undefined },
  model: LanguageModel,
  seed: number,
): Trainable {
  return lora === undefined ? everything(model) : adapter(model, lora, seed);
}

/**
 * The value model `critic` as what `params.critic` names. A head alone stands on the trunk that the
 * policy starts from, whose hidden states the reference's pass computes anyway.
 */
export function trainableValue(
  params: { critic: "separate" | "lora" | "head"; criticLora: LoraParams },
  critic: LanguageModel,
  seed: number,
): Trainable {
  switch (params.critic) {
    case "separate":
      return everything(critic);
    case "lora":
      return adapter(critic, params.criticLora, seed + 1, [VALUE_HEAD]);
    case "head": {
      const { [VALUE_HEAD]: head, ...base } = critic.params;
      return {
        config: critic.config,
        params: { [VALUE_HEAD]: head! },
        base,
        whole: (trained) => ({ ...base, ...trained }),
      };
    }
    default:
      return params.critic satisfies never;
  }
}
