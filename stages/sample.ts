/**
 * Sample: the policy writes several solutions to each query. Every solution has a seed of its own, made
 * from the stage's, so the same request gives the same text in any batch and after any interruption.
 * Where the task has turns, solutions are episodes that are played to their end.
 */
import { join } from "node:path";
import { z } from "zod";
import { Generator, RemoteGenerator } from "../lm/mod.ts";
import { defineStage, optional } from "../pipeline/mod.ts";
import { tf } from "../xla/mod.ts";
import {
  checkpoint,
  dataset,
  files,
  readJsonLines,
  SampleRecord,
  samples,
  writeJsonLines,
} from "./artifacts.ts";
import { startEngine } from "./engine.ts";
import { loadLanguageModel } from "./language_model.ts";
import { play, type Played } from "./play.ts";
import { answerLimits, OpenTask, taskFields } from "./task.ts";
import { Wording } from "./transcript.ts";

/** How solutions are drawn; the paper's settings are the defaults. */
const samplingFields = {
  temperature: z.number().positive().default(1),
  topP: z.number().gt(0).max(1).default(0.9),
  topK: z.int().nonnegative().default(16).describe("0 keeps every token"),
  maxNewTokens: z.int().positive().default(2048),
  /** Sequences that are decoded side by side. */
  slots: z.int().positive().default(64),
};

/** What playing a task of turns takes beside; a turn has at most `maxNewTokens`. */
export const playFields = {
  /** Tokens that the model is shown at once, at most; what it can see where left out. */
  window: z.int().positive().optional(),
  /** Tokens a slot may make before the worlds that wait are looked after. */
  tokensPerDispatch: z.int().positive().default(8),
};

const params = z.object({
  ...taskFields,
  ...samplingFields,
  ...playFields,
  split: z.enum(["train", "validation"]).default("train"),
  /** Queries from number `offset` on; all where `queries` is left out. */
  offset: z.int().nonnegative().default(0),
  queries: z.int().positive().optional(),
  perQuery: z.int().positive().default(10),
  /**
   * An OpenAI-compatible server that serves the policy and samples in this process's place: `deno task
   * serve` or vLLM. Its key is OPENAI_API_KEY.
   */
  server: z.url({ protocol: /^https?$/ }).optional(),
  /** The server's name of the policy; the first that it lists where left out. */
  serverModel: z.string().optional(),
  /** Queries between two saved parts: what an interruption can cost. */
  chunk: z.int().positive().default(512),
});

export const sample = defineStage({
  name: "sample",
  version: 1,
  module: import.meta.url,
  params,
  inputs: { policy: checkpoint, data: optional(dataset) },
  outputs: { samples },
  async run({ params, inputs, outputs, scratch, seed, signal, progress, log }) {
    await startEngine(log);
    const { server, serverModel } = params;
    const model = await loadLanguageModel(inputs.policy.path, { weights: server === undefined });
    const task = await OpenTask.open(params, inputs.data);
    const queries = await task.queries(params.split, params.offset, params.queries);
    if (task.task.agent !== undefined) return await episodes();
    const prompts = queries.map((query) => task.prompt(query, model));
    const { limits, maxLength } = answerLimits(model, queries, prompts, params.maxNewTokens);
    using generator = server === undefined
      ? new Generator(model, { slots: params.slots, maxLength })
      : await RemoteGenerator.connect(server, {
        model: serverModel,
        tokenizer: model.tokenizer,
        concurrency: params.slots,
      });
    tf.dispose(model.params);
    const all = await inParts(draw, "solutions");
    const truncated = all.filter((record) => record.finish === "length").length;
    return { queries: queries.length, samples: all.length, truncated: truncated / all.length };

    /** All records, drawn part by part; parts that an interrupted run left are read. */
    async function inParts(
      draw: (from: number, to: number) => Promise<SampleRecord[]>,
      unit: string,
    ): Promise<SampleRecord[]> {
      const total = queries.length * params.perQuery;
      const all: SampleRecord[] = [];
      for (let start = 0; start < queries.length; start += params.chunk) {
        signal.throwIfAborted();
        const part = `part-${start}.jsonl`;
        const done = await readPart(scratch, part);
        const records = done ?? await draw(start, Math.min(start + params.chunk, queries.length));
        if (done === undefined) {
          await writeJsonLines(scratch, `${part}.tmp`, records);
          await Deno.rename(join(scratch, `${part}.tmp`), join(scratch, part));
        }
        all.push(...records);
        progress(all.length, total, unit);
      }
      await writeJsonLines(outputs.samples.path, files.samples, all);
      return all;
    }

    /** A task of turns: whole episodes, whose outcome is known. */
    async function episodes() {
      const maxLength = Math.min(model.config.maxPositions, params.window ?? Infinity);
      using generator = new Generator(model, {
        slots: params.slots,
        maxLength,
        tokensPerDispatch: params.tokensPerDispatch,
        whole: true,
      });
      tf.dispose(model.params);
      const wording = new Wording(model, params.chat);
      const { perQuery } = params;
      const all = await inParts(async (from, to) => {
        const attempts = queries.slice(from, to).flatMap((query, i) =>
          Array.from(
            { length: perQuery },
            (_, n) => ({ query, seed: seed + (from + i) * perQuery + n }),
          )
        );
        const played = await play(generator, task, wording, attempts, {
          temperature: params.temperature,
          topP: params.topP,
          topK: params.topK,
          maxNewTokens: Math.min(params.maxNewTokens, maxLength >> 2),
          signal,
          onProgress: (done) => progress(from * perQuery + done, queries.length * perQuery),
        });
        return played.flatMap((each) => episodeRecord(each, inputs.policy.id, maxLength) ?? []);
      }, "episodes");
      const won = all.filter(({ reward }) => reward === 1).length;
      const turns = all.reduce((sum, { stepEnds }) => sum + stepEnds!.length, 0);
      return {
        queries: queries.length,
        samples: all.length,
        success: won / all.length,
        turns: turns / all.length,
      };
    }

    async function draw(from: number, to: number): Promise<SampleRecord[]> {
      const requests = prompts.slice(from, to).map(({ ids }, i) => ({
        promptIds: ids,
        n: params.perQuery,
        seed: seed + from + i,
        temperature: params.temperature,
        topP: params.topP,
        topK: params.topK,
        maxNewTokens: limits[from + i]!,
      }));
      const completions = await generator.generate(requests, { signal });
      return completions.flatMap((drawn, i) => {
        const { id, question, gold } = queries[from + i]!;
        const { text: prompt, ids: promptIds } = prompts[from + i]!;
        return drawn.map(({ ids: responseIds, text, logProbs, finish }) => ({
          query: id,
          question,
          gold,
          prompt,
          promptIds,
          responseIds,
          text,
          policy: inputs.policy.id,
          logProbs: logProbs.map(round),
          finish,
        }));
      });
    }
  },
});

/** An episode as a record; undefined where none of its turns fits into what the model sees. */
function episodeRecord(
  { query, transcript, outcome }: Played,
  policy: string,
  window: number,
): SampleRecord | undefined {
  const trained = transcript.trained(window);
  if (trained === undefined) return undefined;
  return {
    query: query.id,
    question: query.question,
    gold: query.gold,
    prompt: transcript.prompt.text,
    ...trained,
    text: outcome.reason,
    policy,
    logProbs: trained.logProbs.map(round),
    finish: outcome.reason === "out of turns" ? "length" : "stop",
    reward: outcome.success ? 1 : 0,
  };
}

/** Five decimals: more are noise of float32 sums, and cost disk. */
function round(x: number): number {
  return Math.round(x * 1e5) / 1e5;
}

async function readPart(scratch: string, part: string): Promise<SampleRecord[] | undefined> {
  try {
    return await readJsonLines(SampleRecord, scratch, part);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
