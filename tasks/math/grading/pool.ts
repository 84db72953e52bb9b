/**
 * Grades a stream of cases on several threads. Results come in the order of the cases, each as soon as
 * those before it are done. A thread that spends too long on one case is ended, the case counts as wrong,
 * and the rest goes to a new thread: no input can stop the stream.
 */
import { Worker } from "node:worker_threads";
import type { GradedCase, GradingCase } from "./cases.ts";

export interface PoolOptions {
  /** Threads; as many as there are processors where unset. */
  readonly threads?: number;
  /** Milliseconds that one case may take, a thread's start not counted. */
  readonly limit?: number;
}

/** Cases that a thread is given at a time, at most. */
const batchSize = 64;
/** A thread's first case may come while the algebra engine starts. */
const firstLimit = 30_000;

class Thread {
  #worker: Worker | undefined;
  #started = false;

  constructor(readonly limit: number) {}

  /** Grades `cases` in order, calling `done` for each. */
  async grade(cases: readonly GradingCase[], done: (grade: GradedCase) => void): Promise<void> {
    let rest = cases;
    while (rest.length > 0) {
      const count = await this.#run(rest, done);
      if (count === rest.length) return;
      const { id } = rest[count]!;
      done({ id, correct: false, extracted: null, reason: `not graded within ${this.limit} ms` });
      rest = rest.slice(count + 1);
      await this.close();
    }
  }

  /** How many cases were graded before one took too long. */
  #run(cases: readonly GradingCase[], done: (grade: GradedCase) => void): Promise<number> {
    const worker = this.#worker ??= new Worker(new URL("./worker.ts", import.meta.url));
    return new Promise((resolve, reject) => {
      let count = 0;
      let timer: ReturnType<typeof setTimeout>;
      const finish = (settle: () => void) => {
        clearTimeout(timer);
        worker.off("message", onMessage);
        worker.off("error", onError);
        settle();
      };
      const wait = () => {
        timer = setTimeout(
          () => finish(() => resolve(count)),
          this.#started ? this.limit : firstLimit,
        );
      };
      const onMessage = (grade: GradedCase) => {
        this.#started = true;
        clearTimeout(timer);
        done(grade);
        if (++count === cases.length) finish(() => resolve(count));
        else wait();
      };
      const onError = (error: Error) => finish(() => reject(error));
      worker.on("message", onMessage);
      worker.on("error", onError);
      wait();
      worker.postMessage(cases);
    });
  }

  async close(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    this.#started = false;
    await worker?.terminate();
  }
}

/**
 * Grades every case of `batches`.
 * @param batches cases as they come in; a batch is graded without waiting for the next
 */
export async function* gradeCases(
  batches: AsyncIterable<readonly GradingCase[]>,
  { threads = navigator.hardwareConcurrency, limit = 10_000 }: PoolOptions = {},
): AsyncGenerator<GradedCase> {
  const idle = Array.from({ length: Math.max(1, threads) }, () => new Thread(limit));
  const all = [...idle];
  const waiting: ((thread: Thread) => void)[] = [];
  const release = (thread: Thread) => {
    const next = waiting.shift();
    if (next === undefined) idle.push(thread);
    else next(thread);
  };
  // Grades in order; those of a batch are filled in as its thread gets to them.
  const queue: Promise<GradedCase>[] = [];
  let wake = () => {};
  let ended = false;
  let failure: unknown;
  const most = all.length * batchSize * 4;
  let resume = () => {};

  const read = async () => {
    for await (const batch of batches) {
      for (let at = 0; at < batch.length; at += batchSize) {
        const part = batch.slice(at, at + batchSize);
        while (queue.length > most) await new Promise<void>((resolve) => resume = resolve);
        const slots = part.map(() => Promise.withResolvers<GradedCase>());
        queue.push(...slots.map(({ promise }) => promise));
        for (const { promise } of slots) promise.catch(() => {});
        wake();
        const thread = idle.shift() ??
          await new Promise<Thread>((resolve) => waiting.push(resolve));
        let next = 0;
        thread.grade(part, (grade) => slots[next++]!.resolve(grade)).then(
          () => release(thread),
          (error) => slots.slice(next).forEach(({ reject }) => reject(error)),
        );
      }
    }
  };
  const reading = read().catch((error) => failure = error).finally(() => {
    ended = true;
    wake();
  });
  try {
    for (;;) {
      const next = queue.shift();
      if (next !== undefined) {
        resume();
        yield await next;
      } else if (ended) break;
      else await new Promise<void>((resolve) => wake = resolve);
    }
    await reading;
    // What came before the bad line has been answered by now.
    if (failure !== undefined) throw failure;
  } finally {
    await Promise.all(all.map((thread) => thread.close()));
  }
}
