/** AdamW and the cosine schedule against PyTorch and transformers, step by step. */
import assert from "node:assert/strict";
import { basename } from "node:path";
import { SafetensorsFile } from "../lm/mod.ts";
import { jit, tf, toHost, useBackend } from "../xla/mod.ts";
import { gradientsOf } from "./gradients.ts";
import {
  adamInit,
  type AdamState,
  adamStep,
  adamUpdate,
  cosineRate,
  decaysByName,
  type NamedTensors,
} from "./optimizer.ts";
import { assertClose, goldenFiles, readJson } from "./test_support.ts";

await useBackend();

interface OptimizerFile {
  hyper: {
    lr: number;
    betas: [number, number];
    eps: number;
    weight_decay: number;
    max_grad_norm: number;
    num_training_steps: number;
  };
  warmup_steps: number;
  decayed: string[];
  not_decayed: string[];
  snapshots: number[];
  log: { step: number; lr: number; loss: number | null; grad_norm_before_clip: number }[];
}

const tolerance = { absolute: 2e-7, relative: 1e-6 };

for (const path of goldenFiles("optim", /^adamw_.*\.json$/)) {
  Deno.test(`${basename(path)}: parameters and moments after every recorded step`, async () => {
    const file = readJson<OptimizerFile>(path);
    const { hyper } = file;
    await using data = await SafetensorsFile.open(path.replace(/json$/, "safetensors"));
    const read = async (name: string) =>
      tf.tensor(await data.float32(name), [...data.entries.get(name)!.shape]);
    const names = [...file.decayed, ...file.not_decayed];
    for (const name of file.decayed) assert.ok(decaysByName(name), name);
    let params: NamedTensors = {};
    for (const name of names) params[name] = await read(`init.${name}`);
    let state = adamInit(params);

    const given = data.entries.has(`grads.${names[0]}`);
    const problem: NamedTensors = given
      ? Object.fromEntries(await Promise.all(names.map(async (n) => [n, await read(`grads.${n}`)])))
      : { X: await read("X"), Y: await read("Y") };
    const step = jit((p: NamedTensors, s: AdamState, index: tf.Tensor, scalars: tf.Tensor) => {
      const { loss, grads } = given
        ? { loss: tf.scalar(0), grads: givenGrads(problem, index) }
        : regression(p, problem);
      const next = adamUpdate(p, grads, s, scalars as tf.Tensor1D, {
        betas: hyper.betas,
        epsilon: hyper.eps,
        weightDecay: hyper.weight_decay,
        maxGradNorm: hyper.max_grad_norm,
        decays: (name) => file.decayed.includes(name),
      });
      return { ...next, loss };
    }, { donate: [0, 1] });

    for (const [i, log] of file.log.entries()) {
      const rate = cosineRate(i, {
        totalSteps: hyper.num_training_steps,
        warmupSteps: file.warmup_steps,
        learningRate: hyper.lr,
      });
      assertClose([rate], [log.lr], { absolute: 0, relative: 1e-12 }, `rate of step ${i + 1}`);
      const next = step(params, state, tf.scalar(i, "int32"), adamStep(i + 1, rate, hyper.betas));
      ({ params, state } = next);
      const host = await toHost({ norm: next.gradNorm, loss: next.loss });
      const what = `step ${i + 1}`;
      assertClose(host.norm, [log.grad_norm_before_clip], { absolute: 0, relative: 2e-6 }, what);
      if (log.loss !== null) {
        assertClose(host.loss, [log.loss], { absolute: 0, relative: 2e-6 }, `${what} loss`);
      }
      if (!file.snapshots.includes(i + 1)) continue;
      const all = await toHost({ params, m: state.m, v: state.v });
      for (const name of names) {
        for (
          const [kind, key] of [["params", name], ["m", `exp_avg.${name}`], [
            "v",
            `exp_avg_sq.${name}`,
          ]] as const
        ) {
          const expected = await data.float32(`step${i + 1}.${key}`);
          // Autograd sums in another order, so elements near zero carry the noise of the large ones.
          const largest = Math.max(...expected.map(Math.abs));
          const allowed = given ? tolerance : { absolute: 1e-6 * Math.max(1, largest) };
          assertClose(all[kind][name]!, expected, allowed, `${what} ${key}`);
        }
      }
    }
  });
}

function givenGrads(all: NamedTensors, index: tf.Tensor): NamedTensors {
  return Object.fromEntries(
    Object.entries(all).map(([name, grads]) => [name, tf.gather(grads, index)]),
  );
}

function regression(p: NamedTensors, { X, Y }: NamedTensors) {
  const { loss, grads } = gradientsOf(() => {
    const hidden = tf.matMul(X as tf.Tensor2D, p.W1 as tf.Tensor2D, false, true).add(p.b1!).tanh();
    const y = tf.matMul(hidden as tf.Tensor2D, p.W2 as tf.Tensor2D, false, true).add(p.b2!);
    return { loss: y.sub(Y!).square().mean() as tf.Scalar, kept: [] };
  }, { p });
  return { loss, grads: grads.p! };
}

for (const path of goldenFiles("optim", /^cosine_schedule\.json$/)) {
  Deno.test("the cosine schedule has the reference's rates at every step", () => {
    const file = readJson<
      {
        cases: {
          num_training_steps: number;
          num_warmup_steps: number;
          lr: number;
          lr_at_step: number[];
        }[];
      }
    >(path);
    for (const c of file.cases) {
      const options = {
        totalSteps: c.num_training_steps,
        warmupSteps: c.num_warmup_steps,
        learningRate: c.lr,
      };
      // Past the end the reference's cosine rises again; ours stays at its floor.
      const expected = c.lr_at_step.slice(0, c.num_training_steps + 1);
      const rates = expected.map((_, step) => cosineRate(step, options));
      assertClose(rates, expected, { absolute: 1e-15 * c.lr, relative: 1e-9 }, "rate");
      assert.equal(cosineRate(c.num_training_steps + 5, options), 0);
    }
  });
}
