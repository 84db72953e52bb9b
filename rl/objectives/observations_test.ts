/** No objective has a gradient at tokens that are no actions: prompts, observations, padding. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { tf, useBackend } from "../../xla/mod.ts";
import { valueAndGrads } from "../test_support.ts";
import { klK3 } from "./kl.ts";
import { rejectionSamplingLoss, sftLoss } from "./likelihood.ts";
import {
  type BellmanInputs,
  dqoLoss,
  hingeLoss,
  levels,
  oneStepLoss,
  policyLoss,
  valueLoss,
} from "./oreo.ts";
import { dpoLoss, ktoLoss, responseLogProbs } from "./preference.ts";
import { normalise, weightedSum } from "./tokens.ts";

await useBackend();

const [rows, columns] = [4, 8];
const cells = rows * columns;

/** Rows of turns: each column an action or not, each action that follows none, or is drawn, a state. */
const batches = fc.record({
  actions: fc.array(fc.boolean(), { minLength: cells, maxLength: cells }),
  steps: fc.array(fc.boolean(), { minLength: cells, maxLength: cells }),
  rewards: fc.array(fc.integer({ min: 0, max: 1 }), { minLength: rows, maxLength: rows }),
  numbers: fc.array(fc.integer({ min: -20, max: 20 }), {
    minLength: 2 * cells,
    maxLength: 2 * cells,
  }),
});

type Losses = Record<string, (inputs: BellmanInputs) => tf.Scalar>;

const summed = ({ logRatios, actionMask }: BellmanInputs) =>
  responseLogProbs(logRatios, actionMask);
const half = (x: tf.Tensor1D, at: number) => x.slice([at], [rows / 2]);

const losses: Losses = {
  "the value loss": valueLoss,
  DQO: dqoLoss,
  ...Object.fromEntries(
    levels.map((level) => [`OREO at ${level} level`, (inputs) => policyLoss(inputs, level)]),
  ) as Losses,
  "the one-step loss": (inputs) => oneStepLoss(inputs),
  "the hinge": (inputs) => hingeLoss(inputs),
  "the k3 regulariser": ({ logRatios, actionMask }) =>
    weightedSum(klK3(logRatios), normalise(actionMask)),
  SFT: ({ logRatios, actionMask }) => sftLoss(logRatios, actionMask),
  "rejection sampling": ({ logRatios, actionMask, rewards }) =>
    rejectionSamplingLoss(logRatios, actionMask, rewards),
  DPO: (inputs) =>
    dpoLoss({
      chosenLogRatios: half(summed(inputs), 0),
      rejectedLogRatios: half(summed(inputs), rows / 2),
      beta: 0.1,
    }),
  KTO: (inputs) =>
    ktoLoss({
      logRatios: summed(inputs),
      klLogRatios: summed(inputs),
      labels: inputs.rewards,
      beta: 0.1,
    }),
};

for (const [name, loss] of Object.entries(losses)) {
  Deno.test(`${name} has no gradient at what is no action, and V none where there is no state`, () => {
    fc.assert(
      fc.property(batches, ({ actions, steps, rewards, numbers }) => {
        const isState = actions.map((action, i) =>
          action && (steps[i]! || i % columns === 0 || !actions[i - 1])
        );
        const [, [byLogRatio, byValue]] = valueAndGrads(
          (l, v) =>
            loss({
              values: v as tf.Tensor2D,
              logRatios: l as tf.Tensor2D,
              actionMask: tf.tensor2d(actions.map(Number), [rows, columns]),
              stateMask: tf.tensor2d(isState.map(Number), [rows, columns]),
              rewards: tf.tensor1d(rewards),
              beta: 0.5,
            }).add(l!.sum().add(v!.sum()).mul(0)),
          [numbers.slice(0, cells), numbers.slice(cells)]
            .map((xs) => tf.tensor2d(xs.map((x) => x / 10), [rows, columns])),
        );
        for (let i = 0; i < cells; i++) {
          if (!actions[i]) assert.equal(Math.abs(byLogRatio![i]!), 0, `log-ratio ${i}`);
          if (!isState[i]) assert.equal(Math.abs(byValue![i]!), 0, `V ${i}`);
        }
      }),
      { numRuns: 20 },
    );
  });
}
