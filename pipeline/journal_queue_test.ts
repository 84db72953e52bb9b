import { deepStrictEqual, ok, strictEqual } from "node:assert/strict";
import type { Event } from "./events.ts";
import { QueuedWriter } from "./journal_queue.ts";

/** Keeps what was written, a list for each round, each of which ends when `proceed` is called. */
class Rounds extends QueuedWriter {
  readonly rounds: string[][] = [];
  #proceed: () => void = () => {};

  constructor() {
    super({ run: "r", fence: 1, record: undefined, stages: [] });
    this.append({ type: "run.started", workflow: "w", params: {}, seed: 0, graph, out: "out" });
  }

  /** Ends the round that goes on, once there is one of this number. */
  async proceed(number: number): Promise<void> {
    while (this.rounds.length < number) await new Promise((resolve) => setTimeout(resolve, 1));
    this.#proceed();
  }

  protected override async write(events: readonly Event[]): Promise<void> {
    await this.#round(events.map((event) => event.type === "stage.log" ? event.text : event.type));
  }

  protected override async hold(): Promise<void> {
    await this.#round(["lease"]);
  }

  protected override release(): Promise<void> {
    return Promise.resolve();
  }

  protected override isPassing(): boolean {
    return false;
  }

  #round(what: string[]): Promise<void> {
    this.rounds.push(what);
    return new Promise((resolve) => this.#proceed = resolve);
  }
}

const graph = { nodes: [{ id: "a", stage: "s", inputs: [], params: {} }] };

function log(writer: Rounds, text: string): void {
  writer.append({ type: "stage.log", stage: "a", attempt: 1, text, level: "info" });
}

Deno.test("a flush waits for what was appended before it, and for nothing that comes after", async () => {
  const writer = new Rounds();
  log(writer, "before");
  const flushed = writer.flush();
  await writer.proceed(1);
  log(writer, "after");
  await flushed;
  deepStrictEqual(writer.rounds, [["run.started", "before"]]);
  const second = writer.flush();
  await writer.proceed(2);
  await second;
  deepStrictEqual(writer.rounds[1], ["after"]);
});

Deno.test("a flush while its events are being written waits for that round", async () => {
  const writer = new Rounds();
  const first = writer.flush();
  while (writer.rounds.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  let flushed = false;
  const second = writer.flush().then(() => flushed = true);
  await new Promise((resolve) => setTimeout(resolve, 5));
  strictEqual(flushed, false);
  await writer.proceed(1);
  await Promise.all([first, second]);
});

Deno.test("events that nobody waits for are written together, and soon", async () => {
  const writer = new Rounds();
  for (let i = 0; i < 3; i++) {
    log(writer, String(i));
    await Promise.resolve();
  }
  await writer.proceed(1);
  deepStrictEqual(writer.rounds, [["run.started", "0", "1", "2"]]);
});

Deno.test("a lease is renewed after it was asked for: once for all who ask, or with events", async () => {
  const writer = new Rounds();
  const flushed = writer.flush();
  while (writer.rounds.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  let renewed = 0;
  const beats = [writer.beat(), writer.beat()].map((beat) => beat.then(() => renewed++));
  await writer.proceed(1);
  await flushed;
  strictEqual(renewed, 0, "the round under way may have renewed it before it was asked for");
  await writer.proceed(2);
  await Promise.all(beats);
  deepStrictEqual(writer.rounds, [["run.started"], ["lease"]]);
  log(writer, "more");
  const beat = writer.beat();
  await writer.proceed(3);
  await beat;
  ok(writer.rounds[2]!.includes("more"));
  strictEqual(writer.rounds.length, 3);
});
