import assert from "node:assert/strict";
import { panelsOf } from "./metrics.ts";

const curve = (metric: string, stage = "oreo") => ({
  stage,
  metric,
  points: [[1, 2]] as [number, number][],
});

Deno.test("metrics that belong together share a panel, in reading order", () => {
  const panels = panelsOf(
    "oreo",
    [
      "value_grad_norm",
      "steps_seen",
      "kl_k3",
      "value_wrong",
      "policy_grad_norm",
      "value_correct",
      "value_loss",
      "kl",
    ].map((metric) => curve(metric)),
  );
  assert.deepEqual(panels.map((p) => [p.title, p.series.map((s) => s.label), p.detail]), [
    ["Value loss", ["loss"], false],
    ["KL to the reference", ["divergence"], false],
    ["Mean V of right and wrong solutions", ["right", "wrong"], false],
    ["Gradient norm", ["policy", "value"], true],
    ["KL estimated on the data's tokens (k3)", ["k3"], true],
    ["Steps seen", ["steps_seen"], false],
  ]);
});

Deno.test("panels hold one stage's curves, and none without points", () => {
  assert.deepEqual(panelsOf("sft", [curve("loss"), { ...curve("kl", "sft"), points: [] }]), []);
});

Deno.test("held-out data share a panel with training, a first phase of V alone has its own", () => {
  const panels = panelsOf(
    "oreo",
    [
      "value_first/value_loss",
      "held_out/value_loss",
      "value_loss",
      "value_first/held_out/value_loss",
    ].map((metric) => curve(metric)),
  );
  assert.deepEqual(panels.map((p) => [p.title, p.series.map((s) => s.label)]), [
    ["Value loss", ["loss", "loss, held out"]],
    ["Value loss, V alone first", ["loss", "loss, held out"]],
  ]);
});
