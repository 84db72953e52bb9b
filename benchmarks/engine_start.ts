/**
 * A process of its own for the engine benchmark: starts the backend and gets a train step ready to run,
 * compiled or from the cache that `XLA_PROGRAMS` names, and prints the seconds of both as JSON. What is
 * timed is tracing and compiling (or loading); the step is not run.
 */
import { z } from "zod";
import { adamStep } from "../rl/mod.ts";
import { useBackend } from "../xla/mod.ts";
import { xlaBackend } from "../xla/use_backend.ts";
import { compiledStep, seconds, stepArguments } from "./engine_cases.ts";

const request = z.object({
  model: z.object({
    hidden: z.number(),
    layers: z.number(),
    heads: z.number(),
    kvHeads: z.number(),
    ffn: z.number(),
    vocab: z.number(),
  }),
  shape: z.object({ batch: z.number(), length: z.number() }),
}).parse(JSON.parse(Deno.args[0] ?? "{}"));

const start = await seconds(async () => void await useBackend("xla"));
const { params, state, ids } = stepArguments(request.model, request.shape);
const at = adamStep(1, 1e-3);
const { stats } = xlaBackend()!.programs;
const before = { ...stats };
const step = compiledStep(request.model);
const program = await seconds(() => Promise.resolve(void step.memoryPlan(params, state, at, ids)));
console.log(JSON.stringify({
  start,
  program,
  compiled: stats.compiled - before.compiled,
  loaded: stats.loaded - before.loaded,
}));
