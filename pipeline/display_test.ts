import assert from "node:assert/strict";
import { plainDisplay, terminalDisplay } from "./display.ts";
import type { EventBody, GraphRecord } from "./events.ts";

const graph: GraphRecord = {
  nodes: ["a", "long"].map((id) => ({ id, stage: id, inputs: [], params: {} })),
};
const started: EventBody = {
  type: "run.started",
  workflow: "w",
  params: {},
  seed: 0,
  graph,
  out: "o",
};
const stageStarted: EventBody = { type: "stage.started", stage: "a", attempt: 1, key: "k" };
const progress = (done: number): EventBody => {
  return { type: "stage.progress", stage: "a", attempt: 1, done, total: 100, unit: "steps" };
};
const metric: EventBody = {
  type: "stage.metric",
  stage: "a",
  attempt: 1,
  step: 3,
  values: { loss: 0.123456 },
};
const done: EventBody = {
  type: "stage.done",
  stage: "a",
  attempt: 1,
  key: "k",
  artifacts: {},
  values: { accuracy: 0.5, text: "a text too long to be shown here" },
  seconds: 12,
};

/** A plain display, events at seconds of its clock, and the lines that it has written. */
function plainLines() {
  let text = "";
  let time = 0;
  const display = plainDisplay({ write: (t) => text += t, now: () => time });
  const at = (seconds: number, event: EventBody) => {
    time = seconds * 1000;
    display.onEvent(event, "r");
  };
  return { at, lines: () => text.trimEnd().split("\n") };
}

Deno.test("plain lines tell starts, ends, and progress now and then", () => {
  const { at, lines } = plainLines();
  at(0, started);
  at(0, stageStarted);
  at(1, progress(10));
  at(5, progress(30));
  at(11, metric);
  at(11, progress(60));
  at(12, progress(70));
  at(12, done);
  at(13, { type: "stage.log", stage: "long", attempt: 1, text: "hello", level: "info" });
  at(14, { type: "stage.failed", stage: "long", attempt: 1, message: "no", retryable: false });
  at(15, { type: "run.failed", message: "stage 'long' failed: no" });
  assert.deepEqual(lines(), [
    "[0:00] run r: 2 stages",
    "[0:00] a: started",
    "[0:11] a: 60/100 steps, 5.0/s, 0:08 left  loss 0.1235",
    "[0:12] a: done in 12 s  (accuracy 0.5)",
    "[0:13] long | hello",
    "[0:14] long: failed: no",
    "[0:15] run r: stage 'long' failed: no",
  ]);
});

Deno.test("a stage of several parts is timed from the start of each", () => {
  const { at, lines } = plainLines();
  at(0, started);
  at(0, stageStarted);
  at(1, progress(10));
  at(31, progress(100));
  at(41, progress(20));
  at(51, progress(40));
  assert.deepEqual(lines().slice(-3), [
    "[0:31] a: 100/100 steps, 3.0/s",
    "[0:41] a: 20/100 steps",
    "[0:51] a: 40/100 steps, 2.0/s, 0:30 left",
  ]);
});

Deno.test("the terminal view is redrawn in place and fits the terminal", () => {
  const frames: string[] = [];
  let time = 0;
  let size = { columns: 30, rows: 24 };
  let draw = () => {};
  const display = terminalDisplay({
    write: (text) => frames.push(text),
    now: () => time,
    size: () => size,
    everyFrame: (frame) => {
      draw = frame;
      return () => {};
    },
  });
  display.onEvent(started, "r");
  display.onEvent(stageStarted, "r");
  draw();
  time = 2_000;
  display.onEvent(progress(0), "r");
  time = 4_000;
  display.onEvent(progress(50), "r");
  display.onEvent({ type: "stage.log", stage: "a", attempt: 1, text: "hi", level: "info" }, "r");
  draw();
  // deno-lint-ignore no-control-regex -- escape characters are what is taken out
  const lines = frames.map((frame) => frame.replace(/\x1b\[K|\x1b\[J/g, "").split("\n"));
  assert.deepEqual(lines[0], ["r  0/2 stages  0:00", "▸ a     0:00", "· long", ""]);
  assert.deepEqual(lines[1], [
    "\x1b[3A\ra | hi",
    "r  0/2 stages  0:04",
    "▸ a     0:04  ██████░░░░░░ 50…",
    "· long",
    "",
  ]);
  size = { columns: 80, rows: 4 };
  display.onEvent(done, "r");
  display.onEvent({ type: "stage.started", stage: "long", attempt: 1, key: "k" }, "r");
  display.close();
  assert(frames[2]!.includes("▸ long"));
  assert(!frames[2]!.includes("✓ a"));
});
