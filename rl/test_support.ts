/**
 * What this room's tests share: where the golden files are, a tiny transformer, and comparing arrays
 * with a tolerance that names the worst element. Used by tests only.
 */
import assert from "node:assert/strict";
import { parseConfig } from "../lm/mod.ts";
import { sharedFiles } from "../tests/shared.ts";
import { tf } from "../xla/mod.ts";
import { uniforms } from "./shuffle.ts";
import type { Trajectory } from "./trajectory.ts";

/** Paths of golden files in `golden/FOLDER` whose name matches; see `sharedFiles`. */
export function goldenFiles(folder: string, pattern: RegExp): string[] {
  return sharedFiles(`golden/${folder}`, pattern);
}

export function readJson<T>(path: string): T {
  return JSON.parse(Deno.readTextFileSync(path)) as T;
}

/** A transformer of two small layers over twelve tokens. */
export const tinyConfig = parseConfig({
  architectures: ["Qwen2ForCausalLM"],
  model_type: "qwen2",
  vocab_size: 12,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 32,
  rms_norm_eps: 1e-6,
  rope_theta: 10000,
  tie_word_embeddings: true,
  hidden_act: "silu",
  initializer_range: 0.3,
  eos_token_id: 1,
});

/** Random trajectories of 3 to 14 tokens, some with observations. */
export function randomTrajectories(count: number, seed: number): Trajectory[] {
  const random = uniforms(`trajectories/${seed}`);
  const below = (n: number) => Math.floor(random() * n);
  return Array.from({ length: count }, (_, i) => {
    const ids = (n: number) => Array.from({ length: n }, () => 2 + below(10));
    const responseIds = ids(2 + below(10));
    const length = responseIds.length;
    return {
      version: 1,
      query: `q${i % 3}`,
      prompt: "",
      promptIds: ids(1 + below(4)),
      responseIds,
      actionMask: responseIds.map((_, j) => j === 0 || random() < 0.7 ? 1 : 0),
      stepEnds: length > 3 ? [1, length - 1] : [length - 1],
      reward: below(2) as 0 | 1,
      source: "test",
    };
  });
}

/** A folder that is gone after `body`. */
export async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

export interface Tolerance {
  absolute: number;
  /** Allowed on top of `absolute`, in units of the expected element. */
  relative?: number;
}

/** Fails with the worst element where `actual` is not within the tolerance of `expected`. */
export function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: Tolerance,
  what: string,
): void {
  assert.equal(actual.length, expected.length, `${what}: number of elements`);
  let worst = { excess: 0, index: -1 };
  for (let i = 0; i < expected.length; i++) {
    const allowed = tolerance.absolute + (tolerance.relative ?? 0) * Math.abs(expected[i]!);
    const difference = Math.abs(actual[i]! - expected[i]!);
    const excess = Number.isNaN(difference) ? Infinity : difference / allowed;
    if (excess > worst.excess) worst = { excess, index: i };
  }
  if (worst.excess > 1) {
    const i = worst.index;
    assert.fail(
      `${what}[${i}]: ${actual[i]} is ${worst.excess.toFixed(2)} × the tolerance away from ${
        expected[i]
      }`,
    );
  }
}

/** A number of any nesting as a flat array. */
export function flat(nested: unknown): number[] {
  return Array.isArray(nested) ? nested.flat(Infinity) as number[] : [nested as number];
}

/** `[value, gradients]` of a scalar function of tensors, as host arrays. */
export function valueAndGrads(
  f: (...xs: tf.Tensor[]) => tf.Scalar,
  xs: tf.Tensor[],
): [number, Float32Array[]] {
  return tf.tidy(() => {
    const { value, grads } = tf.valueAndGrads(f)(xs);
    const host = grads.map((g) => g.dataSync<"float32">()) as unknown[];
    return [value.dataSync()[0]!, host] as unknown as tf.TensorContainer;
  }) as unknown as [number, Float32Array[]];
}
