/**
 * The memory that the compiled programs of an OREO step plan, against what its shapes need: what must
 * exist at the same time however well a step is written, by arithmetic on shapes alone.
 */
import type { ModelConfig } from "../lm/mod.ts";
import {
  type Batch,
  languageNetworks,
  type OreoInputs,
  type OreoOptions,
  oreoStepPeak,
} from "../rl/mod.ts";

interface Step {
  config: ModelConfig;
  inputs: OreoInputs;
  options: OreoOptions;
  /** The micro-batches of the first step. */
  batch: readonly Batch[];
}

/** Bytes of float32 numbers. */
const F32 = 4;

/**
 * What a step needs, in bytes, when its loss has both models' forward passes behind it and the backward
 * passes before it:
 * - policy, value model and reference; two moments for each of the trained; their gradients (all of
 *   them before any update, for their norm is clipped);
 * - for the backward pass of either model, of each layer: its input, what each matrix product took
 *   (queries, keys and values included), and the attention weights of the causal half; with
 *   rematerialisation each layer's input, and all of this for the one layer in the works;
 * - the gradient of the layer in the works: of its stream and of the feed-forward part's three tensors;
 * - logits of policy and reference at the action tokens, and the gradient of the policy's.
 */
export function neededBytes(
  { config, inputs, batch }: Step,
  rematerialise: boolean,
): number {
  const size = (params: OreoInputs["policy"]) =>
    Object.values(params).reduce((sum, { size }) => sum + size, 0);
  const [policy, value] = [size(inputs.policy), size(inputs.value)];
  const parameters = policy + 4 * (policy + value);
  const { hiddenSize, numHeads, numKeyValueHeads, headDim, intermediateSize, numLayers } = config;
  const { rows, time, layout } = batch.reduce((a, b) => a.rows > b.rows ? a : b);
  const tokens = rows * time;
  const perToken = 2 * hiddenSize + // The layer's input and its norm's output.
    (2 * numHeads + 2 * numKeyValueHeads) * headDim + // Queries, keys, values; what was mixed.
    2 * hiddenSize + // The same before the feed-forward part.
    3 * intermediateSize; // Gate, up, their product.
  const layer = tokens * perToken + rows * numHeads * time * time / 2;
  const works = tokens * (hiddenSize + 3 * intermediateSize) + (rematerialise ? layer : 0);
  const kept = rematerialise ? numLayers * tokens * hiddenSize : numLayers * layer;
  const logits = 3 * layout!.at.length * config.vocabSize;
  // A batch that is cut has its sum of gradients beside those of a micro-batch.
  const gradients = batch.length > 1 ? policy + value : 0;
  return F32 * (parameters + gradients + 2 * kept + works + logits);
}

/** Prints planned and needed memory with and without rematerialisation. */
export function reportMemory(name: string, step: Step): void {
  for (const rematerialise of [false, true]) {
    const planned = oreoStepPeak({
      ...step.inputs,
      networks: languageNetworks(step.config, { rematerialise }),
    }, step.options);
    if (planned === undefined) return console.log(`${name}: this backend plans no memory`);
    const needed = neededBytes(step, rematerialise);
    const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
    console.log(
      `${name}${rematerialise ? ", rematerialised" : ""}: a step plans ${
        mib(planned)
      }, its shapes ` +
        `need ${mib(needed)}: ${(planned / needed).toFixed(2)} ×`,
    );
  }
}
