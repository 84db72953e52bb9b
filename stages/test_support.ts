/** What tests of the training stages share: a model of a few parameters, data of it, a stage's context. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { charTokenizer, hiddenStates, logits, type ModelConfig, type Params } from "../lm/mod.ts";
import type { Stage } from "../pipeline/mod.ts";
import { type Trajectory, writeTrajectories } from "../rl/mod.ts";
import { jit, tf } from "../xla/mod.ts";
import { files } from "./artifacts.ts";
import type { LanguageModel } from "./language_model.ts";
import { modelFields, newModel } from "./new_model.ts";

const shape = { hidden: 16, layers: 1, heads: 2, keyValueHeads: 1, feedForward: 24, maxLength: 32 };

export function tinyModel(): LanguageModel {
  return newModel(modelFields.shape.parse(shape), charTokenizer("0123456789+= "), 1);
}

/** Twelve solutions to four queries, the first to each right. */
export async function writeSolutions(
  folder: string,
  { tokenizer }: Pick<LanguageModel, "tokenizer">,
): Promise<void> {
  const trajectories = Array.from({ length: 12 }, (_, i): Trajectory => ({
    version: 1,
    query: `q${i % 4}`,
    prompt: "1+1=",
    promptIds: tokenizer.encode(`${i % 4}+1=`),
    responseIds: [...tokenizer.encode(`${i}`), tokenizer.eosId],
    stepEnds: [0],
    reward: i < 4 ? 1 : 0,
    source: "test",
  }));
  await mkdir(folder, { recursive: true });
  await writeTrajectories(join(folder, files.trajectories), trajectories);
}

/** Logits of a sequence, laid flat. */
export async function logitsOf(config: ModelConfig, params: Params): Promise<ArrayLike<number>> {
  const ids = tf.tensor2d([[3, 5, 7, 2, 9, 11, 4, 8]], undefined, "int32");
  const program = jit((params: Params, ids: tf.Tensor2D) =>
    logits(config, params, hiddenStates(config, params, ids))
  );
  return await program(params, ids).data();
}

/** Runs a stage here: its outputs and its scratch come into `folder` by name. */
export async function runStage<Values>(
  stage: Pick<Stage, "params" | "outputs"> & { run(context: never): Promise<Values> },
  { params, inputs, folder }: {
    params: Record<string, unknown>;
    inputs: Readonly<Record<string, string>>;
    folder: string;
  },
): Promise<Values> {
  const at = (part: string) => join(folder, part);
  const outputs = Object.keys(stage.outputs);
  for (const part of [...outputs, "scratch"]) await mkdir(at(part), { recursive: true });
  const context = {
    params: stage.params.parse(params),
    inputs: Object.fromEntries(
      Object.entries(inputs).map(([name, path]) => [name, { path, id: name }]),
    ),
    outputs: Object.fromEntries(outputs.map((name) => [name, { path: at(name) }])),
    scratch: at("scratch"),
    seed: 0,
    signal: new AbortController().signal,
    progress: () => {},
    log: () => {},
    metric: () => {},
  };
  return await stage.run(context as never);
}
