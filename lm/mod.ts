/**
 * Language models: Hugging Face checkpoints in and out, the transformer as pure functions over a table
 * of parameters, tokenizers and chat templates, generation with a static key-value cache, and scoring
 * of given sequences. The value model of OREO is the same transformer with a linear head.
 */
export { type ModelConfig, type ModelType, parseConfig, type WeightType } from "./config.ts";
export {
  addValueHead,
  type ForwardOptions,
  hiddenStates,
  initParams,
  logits,
  logProbsAt,
  logProbsOfNext,
  type Params,
  tokenLogProbs,
  VALUE_HEAD,
  values,
} from "./transformer.ts";
export { logProbsOfTargets } from "./log_probs.ts";
export { compareNext, type CompareOptions, type Comparison } from "./compare.ts";
export {
  type GenerationDefaults,
  loadModel,
  type LoadOptions,
  type Model,
  saveModel,
} from "./model.ts";
export type { ParamsType } from "./checkpoint.ts";
export { type PackedType, packedTypes } from "./packed.ts";
export { type HubOptions, modelPath } from "./hub.ts";
export {
  initLora,
  loadLora,
  type Lora,
  type LoraConfig,
  type LoraOptions,
  mergeLora,
  saveLora,
  withLora,
} from "./lora.ts";
export {
  type ChatMessage,
  type ChatTemplateOptions,
  Tokenizer,
  type TokenizerFiles,
} from "./tokenizer.ts";
export { charTokenizer, wordTokenizer } from "./small_tokenizers.ts";
export { type GenerateOptions, Generator, type GeneratorOptions } from "./generate.ts";
export type {
  Generation,
  GenerationRequest,
  GenerationUpdate,
  GeneratorModel,
} from "./requests.ts";
export { StopCutter, TextStream } from "./text_stream.ts";
export { SafetensorsFile } from "./safetensors.ts";
export { type TensorToWrite, writeSafetensors } from "./safetensors_write.ts";
export { type PromptAndResponse, Scorer, type ScorerModel, type ScorerOptions } from "./score.ts";
export { meshFor, type Parallelism, parameterSpec, shardBatch, shardParams } from "./sharding.ts";
export { RemoteGenerator, type RemoteOptions } from "./remote.ts";
export { type ModelServer, serveModel, type ServerOptions } from "./server.ts";
