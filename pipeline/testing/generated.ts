/**
 * Workflows of every shape, made from a number: chains, diamonds, shards with fan-in, iterations,
 * stages that run only under a condition.
 */
import { z } from "zod";
import { defineWorkflow } from "../workflow.ts";
import type { ArtifactRef, Condition } from "../workflow.ts";
import { misbehave, mix, mixOn, type text } from "./stages.ts";

type Text = ArtifactRef<typeof text>;

export const generated = defineWorkflow({
  name: "generated",
  description: "a graph of a shape that depends on a number",
  params: z.object({ shape: z.number().int().default(1), stepMilliseconds: z.number().default(4) }),
  build(w, params) {
    const random = generator(params.shape);
    const between = (low: number, high: number) => low + Math.floor(random() * (high - low + 1));
    let count = 0;
    const kind = random() < 0.5 ? mix : mixOn;
    const node = (
      first: Text | undefined,
      rest: Text[],
      when: { when?: Condition } = {},
    ) => {
      const id = `s${count++}`;
      const { stepMilliseconds } = params;
      return w.stage(id, kind, {
        params: { text: id, steps: between(1, 5), stepMilliseconds },
        inputs: { first, rest },
        ...when,
      });
    };
    const stage = (first: Text | undefined, rest: Text[]) => node(first, rest).outputs.text;
    let last: Text | undefined;
    for (let part = between(2, 3); part > 0; part--) {
      const shape = ["chain", "diamond", "shards", "iterations", "condition"][between(0, 4)];
      if (shape === "chain") {
        for (let i = between(1, 3); i > 0; i--) last = stage(last, []);
      } else if (shape === "diamond") {
        const [left, right] = [stage(last, []), stage(last, [])];
        last = stage(left, [right, left]);
      } else if (shape === "shards") {
        const shards = Array.from({ length: between(2, 4) }, () => stage(last, []));
        last = stage(undefined, shards);
      } else if (shape === "iterations") {
        for (let i = between(2, 3); i > 0; i--) {
          const sampled = stage(last, []);
          last = stage(last, [sampled]);
        }
      } else {
        const first = node(last, []);
        const limit = between(2, 3);
        const second = node(first.outputs.text, [], {
          when: {
            of: [first],
            test: (values) => Number(values["length"]) > limit,
            otherwise: "too short",
          },
        });
        last = stage(undefined, [first.outputs.text, second.outputs.text]);
      }
      w.output(`part${part}`, last!);
    }
  },
});

/** One stage that does as it is told. */
export const misbehaving = defineWorkflow({
  name: "misbehaving",
  description: "one stage that does as it is told",
  params: z.object({ how: z.string(), times: z.number().default(1) }),
  build: (w, params) => void w.stage("m", misbehave, { params, inputs: {} }),
});

/** Numbers in [0, 1) that depend on the seed alone. */
export function generator(seed: number): () => number {
  let state = (seed * 0x9e3779b9) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
