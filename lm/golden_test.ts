/**
 * The transformer, checkpoints and greedy generation against what PyTorch and transformers computed
 * (`$SHARED/golden/models`, its README for formats and tolerances).
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { jit, tf, useBackend } from "../xla/mod.ts";
import { type ModelConfig, parseConfig } from "./config.ts";
import { findModel, loadWeights } from "./checkpoint.ts";
import { Generator } from "./generate.ts";
import { Scorer } from "./score.ts";
import { SafetensorsFile } from "./safetensors.ts";
import {
  allHiddenStates,
  hiddenStates,
  logits,
  type Params,
  tokenLogProbs,
} from "./transformer.ts";
import { maxDifference, sharedCases } from "./test_support.ts";

interface Side {
  input_ids: number[][];
  attention_mask: number[][];
  position_ids: number[][];
  logit_positions: number[][];
  sum_logprob: number[];
}
interface Golden {
  right: Side;
  left: Side;
  nll: {
    loss: number;
    n_tokens: number;
    total_grad_norm: number;
    grads: Record<string, { shape: number[]; norm: number; first8: number[] }>;
  };
}

await useBackend();

const read = (path: string) => JSON.parse(readFileSync(path, "utf8"));
const matrix = (rows: number[][]) => tf.tensor2d(rows, undefined, "int32");

interface Loaded {
  config: ModelConfig;
  params: Params;
  golden: Golden;
  expected: SafetensorsFile;
}

async function withModel(folder: string, fn: (loaded: Loaded) => Promise<void>): Promise<void> {
  const checkpoint = join(folder, "checkpoint");
  const config = parseConfig(read(join(checkpoint, "config.json")));
  const params = await loadWeights(config, await findModel(checkpoint));
  await using expected = await SafetensorsFile.open(join(folder, "expected.safetensors"));
  try {
    await fn({ config, params, golden: read(join(folder, "expected.json")), expected });
  } finally {
    tf.dispose(params);
  }
}

const perToken = (config: ModelConfig) =>
  jit((params: Params, ids: tf.Tensor2D, attentionMask: tf.Tensor2D, positions: tf.Tensor2D) => {
    const hidden = hiddenStates(config, params, ids, { attentionMask, positions });
    const scores = logits(config, params, hidden);
    const logProbs = tokenLogProbs(config, params, ids, { attentionMask, positions });
    const logSoftmax = tf.logSoftmax(scores);
    const entropy = tf.neg(tf.sum(tf.mul(tf.exp(logSoftmax), logSoftmax), -1));
    return { hidden, scores, logProbs, entropy };
  });

/** Rows of the last axis at given columns: [batch, time, n] -> [batch, columns, n], flat. */
async function atPositions(x: tf.Tensor, positions: number[][]): Promise<number[]> {
  const [, time, width] = x.shape as [number, number, number];
  const data = await x.data();
  return positions.flatMap((columns, row) =>
    columns.flatMap((column) => {
      const from = (row * time + column) * width;
      return Array.from(data.subarray(from, from + width));
    })
  );
}

/** Hidden states have no stated tolerance: that of the logits, at the scale of the values. */
function assertHiddenClose(got: ArrayLike<number>, want: Float32Array): void {
  const scale = want.reduce((top, v) => Math.max(top, Math.abs(v)), 1);
  const difference = maxDifference(got, want);
  assert.ok(difference <= 1e-4 * scale, `hidden states differ by ${difference} of ${scale}`);
}

for (const { name, folder } of sharedCases("golden/models")) {
  Deno.test(`${name}: both config layouts describe the same model`, () => {
    const v5 = parseConfig(read(join(folder, "checkpoint/config.json")));
    let v4: ModelConfig;
    try {
      v4 = parseConfig(read(join(folder, "checkpoint/config.v4.json")));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      console.log(`${name} has one config layout only`);
      return;
    }
    assert.deepEqual({ ...v4, raw: 0 }, { ...v5, raw: 0 });
  });

  for (const side of ["right", "left"] as const) {
    Deno.test(`${name}: logits and log-probabilities with ${side} padding`, async () => {
      await withModel(folder, async ({ config, params, golden, expected }) => {
        const rows = golden[side];
        const mask = rows.attention_mask;
        const out = perToken(config)(
          params,
          matrix(rows.input_ids),
          matrix(mask),
          matrix(rows.position_ids),
        );
        const want = async (key: string) => await expected.float32(`${side}.${key}`);
        const got = (x: tf.Tensor) => atPositions(x, rows.logit_positions);
        const scores = maxDifference(await got(out.scores), await want("logits"));
        assert.ok(scores <= 1e-4, `logits differ by ${scores}`);
        assertHiddenClose(await got(out.hidden), await want("last_hidden_state"));

        const time = mask[0]!.length;
        const valid = mask.flatMap((row) =>
          Array.from({ length: time - 1 }, (_, j) => row[j]! * row[j + 1]!)
        );
        const logProbs = Array.from(await out.logProbs.data(), (v, i) => v * valid[i]!);
        const difference = maxDifference(logProbs, await want("token_logprobs"));
        assert.ok(difference <= 5e-5, `log-probabilities differ by ${difference}`);
        const entropies = await out.entropy.data();
        const shifted = mask.flatMap((_, row) =>
          Array.from(
            { length: time - 1 },
            (_, j) => entropies[row * time + j]! * valid[row * (time - 1) + j]!,
          )
        );
        const entropy = maxDifference(shifted, await want("token_entropy"));
        assert.ok(entropy <= 1e-4, `entropies differ by ${entropy}`);
        const sums = mask.map((_, row) =>
          logProbs.slice(row * (time - 1), (row + 1) * (time - 1)).reduce((a, b) => a + b, 0)
        );
        assert.ok(maxDifference(sums, rows.sum_logprob) <= 1e-3);
        tf.dispose(out);
      });
    });
  }

  Deno.test(`${name}: the residual stream after each layer`, async () => {
    await withModel(folder, async ({ config, params, golden, expected }) => {
      const ids = matrix([golden.right.input_ids[0]!]);
      const states = jit((params: Params, ids: tf.Tensor2D) =>
        allHiddenStates(config, params, ids)
      )(
        params,
        ids,
      );
      const last = golden.right.attention_mask[0]!.length - 1;
      const want = await expected.float32("row0_last_position.hidden_states");
      const got = await Promise.all(states.map((state) => atPositions(state, [[last]])));
      assertHiddenClose(got.flat(), want);
      tf.dispose(states);
    });
  });

  Deno.test(`${name}: loss and gradients of every parameter`, async () => {
    await withModel(folder, async ({ config, params, golden, expected }) => {
      const { nll, right } = golden;
      const time = right.input_ids[0]!.length;
      const valid = tf.tensor2d(
        right.attention_mask.map((row) => row.slice(1)),
        [right.input_ids.length, time - 1],
        "float32",
      );
      const names = Object.keys(params);
      const step = jit((params: Params, ids: tf.Tensor2D, valid: tf.Tensor2D) => {
        const loss = (...list: tf.Tensor[]) => {
          const own = Object.fromEntries(names.map((key, i) => [key, list[i]!]));
          const logProbs = tokenLogProbs(config, own, ids);
          return tf.neg(tf.div(tf.sum(tf.mul(logProbs, valid)), tf.sum(valid))) as tf.Scalar;
        };
        const { value, grads } = tf.valueAndGrads(loss)(names.map((key) => params[key]!));
        return { value, grads };
      });
      const { value, grads } = step(params, matrix(right.input_ids), valid);
      const loss = (await value.data())[0]!;
      assert.ok(Math.abs(loss - nll.loss) <= 1e-5, `loss ${loss}, expected ${nll.loss}`);
      assert.deepEqual(names.toSorted(), Object.keys(nll.grads).toSorted());
      let total = 0;
      for (const [i, key] of names.entries()) {
        const want = nll.grads[key]!;
        const data = await grads[i]!.data() as Float32Array;
        const square = data.reduce((sum, v) => sum + v * v, 0);
        total += square;
        const norm = Math.sqrt(square);
        const tolerance = 1e-4 * want.norm;
        assert.ok(Math.abs(norm - want.norm) <= tolerance, `${key}: ${norm}, not ${want.norm}`);
        assert.ok(maxDifference(data.slice(0, 8), want.first8) <= tolerance, `${key}: first 8`);
        if (expected.entries.has(`grad.${key}`)) {
          const whole = await expected.float32(`grad.${key}`);
          assert.ok(maxDifference(data, whole) <= tolerance, `${key}: some element`);
        }
      }
      const norm = Math.sqrt(total);
      assert.ok(Math.abs(norm - nll.total_grad_norm) <= 1e-4 * nll.total_grad_norm);
      tf.dispose({ value, grads });
    });
  });
}

interface Generate {
  prompts: number[][];
  max_new_tokens: number;
  new_tokens: number[][];
  eos_case: { eos_token_id: number; new_tokens: number[][] };
}

for (const { name, folder } of sharedCases("golden/models")) {
  Deno.test(`${name}: greedy generation is identical, with and without an end token`, async () => {
    await withModel(folder, async ({ config, params, golden }) => {
      const { generate } = golden as Golden & { generate: Generate };
      // Two slots for three prompts, several dispatches and a ring that wraps: none may show.
      using generator = new Generator({ config, params }, {
        slots: 2,
        maxLength: 48,
        tokensPerDispatch: 12,
      });
      const run = async (stopIds: number[]) =>
        (await generator.generate(
          generate.prompts.map((promptIds) => ({
            promptIds,
            temperature: 0,
            maxNewTokens: generate.max_new_tokens,
            stopIds,
          })),
        )).map(([sample]) => sample!);
      const free = await run([]);
      assert.deepEqual(free.map((sample) => sample.ids), generate.new_tokens);
      const { eos_token_id: eos, new_tokens: rows } = generate.eos_case;
      const stopped = await run([eos]);
      // The reference fills finished rows with padding.
      const upToEos = rows.map((row) =>
        row.includes(eos) ? row.slice(0, row.indexOf(eos) + 1) : row
      );
      assert.deepEqual(stopped.map((sample) => sample.ids), upToEos);
      const scored = await new Scorer({ config, params }).responses(
        free.map(({ ids }, i) => ({ promptIds: generate.prompts[i]!, responseIds: ids })),
      );
      for (const [i, sample] of free.entries()) {
        const difference = maxDifference(sample.logProbs, scored[i]!);
        assert.ok(difference <= 1e-5, `generation and scoring differ by ${difference}`);
      }
    });
  });
}
