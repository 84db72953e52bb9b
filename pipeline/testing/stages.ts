/** Small stages for tests of the graph's engine: they join, count and wait, and know no models. */
import { join } from "node:path";
import { z } from "zod";
import {
  artifactKind,
  defineStage,
  type InputArtifact,
  list,
  optional,
  RetryableError,
} from "../stage.ts";
import type { StageRegistry } from "../worker.ts";

export const text = artifactKind("text", 1);
export const number = artifactKind("number", 1);

export async function readText(input: InputArtifact): Promise<string> {
  return await Deno.readTextFile(join(input.path, "text"));
}

/** Writes a text made of its parameters, seed and inputs; steps survive a kill in its scratch. */
export const mix = defineStage({
  name: "mix",
  version: 1,
  params: z.object({
    text: z.string().default(""),
    steps: z.number().int().default(1),
    stepMilliseconds: z.number().default(0),
  }),
  inputs: { first: optional(text), rest: list(text) },
  outputs: { text, log: text },
  async run(ctx) {
    const parts = [ctx.params.text, String(ctx.seed)];
    if (ctx.inputs.first !== undefined) parts.push(await readText(ctx.inputs.first));
    for (const input of ctx.inputs.rest) parts.push(await readText(input));
    const saved = join(ctx.scratch, "step");
    const start = Number(await Deno.readTextFile(saved).catch(() => "0"));
    let state = parts.join("|");
    for (let step = 1; step <= ctx.params.steps; step++) {
      state = String(hash(state));
      if (step <= start) continue;
      await new Promise((resolve) => setTimeout(resolve, ctx.params.stepMilliseconds));
      ctx.signal.throwIfAborted();
      ctx.progress(step, ctx.params.steps);
      ctx.metric(step, { state: Number(state) % 100 });
      await Deno.writeTextFile(`${saved}.tmp`, String(step));
      await Deno.rename(`${saved}.tmp`, saved);
    }
    await Deno.writeTextFile(join(ctx.outputs.text.path, "text"), `${parts[0]}:${state}\n`);
    await Deno.mkdir(join(ctx.outputs.log.path, "deep"));
    await Deno.writeTextFile(join(ctx.outputs.log.path, "deep", "text"), parts.join("\n"));
    return { length: parts.length, text: parts[0]! };
  },
});

/** The same, in processes that do one job after another. */
export const mixOn = defineStage({ ...mix, name: "mixOn", sharesProcess: true });

/** Does what its parameter says: fails, hangs, dies, talks. */
export const misbehave = defineStage({
  name: "misbehave",
  version: 1,
  params: z.object({ how: z.string(), times: z.number().default(1) }),
  inputs: { first: optional(text) },
  outputs: { text },
  async run(ctx) {
    const counter = join(ctx.scratch, "times");
    const times = Number(await Deno.readTextFile(counter).catch(() => "0")) + 1;
    await Deno.writeTextFile(counter, String(times));
    if (times <= ctx.params.times) {
      if (ctx.params.how === "fail") throw new Error("it went wrong");
      if (ctx.params.how === "fail for now") throw new RetryableError("the server is busy");
      if (ctx.params.how === "hang") {
        await new Promise((_, reject) => {
          ctx.signal.addEventListener("abort", () => reject(ctx.signal.reason));
        });
      }
      if (ctx.params.how === "spin") { for (;;); }
      if (ctx.params.how === "die") Deno.kill(Deno.pid, "SIGKILL");
      if (ctx.params.how === "exit") Deno.exit(0);
      if (ctx.params.how === "leave nothing") return;
    }
    console.log("said on the console");
    ctx.log("said in the log", "warn");
    await Deno.writeTextFile(join(ctx.outputs.text.path, "text"), "done");
    return { times, gap: NaN };
  },
});

/** Passes its one input, which it cannot do without, on. */
export const pass = defineStage({
  name: "pass",
  version: 1,
  params: z.object({}),
  inputs: { text },
  outputs: { text },
  async run(ctx) {
    await Deno.writeTextFile(join(ctx.outputs.text.path, "text"), await readText(ctx.inputs.text));
  },
});

/** Tells which process it runs in; fails where it is told to. */
export const who = defineStage({
  name: "who",
  version: 1,
  params: z.object({ number: z.number(), fails: z.boolean().default(false) }),
  inputs: { before: list(text) },
  outputs: { text },
  sharesProcess: true,
  async run(ctx) {
    console.log(`number ${ctx.params.number}`);
    const tried = join(ctx.scratch, "tried");
    if (ctx.params.fails && !(await Deno.readTextFile(tried).catch(() => ""))) {
      await Deno.writeTextFile(tried, "yes");
      throw new RetryableError("not yet");
    }
    await Deno.writeTextFile(join(ctx.outputs.text.path, "text"), String(ctx.params.number));
    return { pid: Deno.pid };
  },
});

export const stages: StageRegistry = {
  mix,
  mixOn,
  pass,
  who,
  misbehave: () => Promise.resolve(misbehave),
};

function hash(value: string): number {
  let h = 2166136261;
  for (const char of value) h = Math.imul(h ^ char.charCodeAt(0), 16777619) >>> 0;
  return h;
}
