import assert from "node:assert/strict";
import { Slots } from "./slots.ts";

const never = new AbortController().signal;
const settle = () => new Promise((resolve) => setTimeout(resolve, 0));

Deno.test("stages share slots, GPUs and memory; a small one passes one that does not fit", async () => {
  const slots = new Slots({ slots: 2, gpus: 1, memoryGiB: 10 });
  const got: string[] = [];
  const ask = (name: string, need: object) =>
    slots.acquire(need, never).then((release) => {
      got.push(name);
      return release;
    });
  const a = ask("a", { gpus: 1 });
  const b = ask("b", { gpus: 1 });
  const c = ask("c", { memoryGiB: 99 }); // wants more than there is: gets all
  await settle();
  assert.deepEqual(got, ["a", "c"]);
  (await c)();
  (await c)(); // giving back twice counts once
  await settle();
  assert.deepEqual(got, ["a", "c"]);
  (await a)();
  (await b)();
  assert.deepEqual(got, ["a", "c", "b"]);
});

Deno.test("waiting ends when the signal aborts, and takes nothing", async () => {
  const slots = new Slots({ slots: 1, gpus: 0, memoryGiB: 0 });
  const release = await slots.acquire({}, never);
  const stop = new AbortController();
  const waiting = slots.acquire({}, stop.signal);
  stop.abort(new Error("enough"));
  await assert.rejects(waiting, /enough/);
  release();
  (await slots.acquire({}, never))();
});
