/** Two runners, each in a process of its own, started on one run at the same moment, again and again. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openJournal } from "./journal_open.ts";
import { linesOf } from "./protocol.ts";
import { FolderStore } from "./store_folder.ts";
import { contents } from "./testing/fixture.ts";

const TIMES = 100;
const SHAPE = 20;
const main = new URL("./testing/race_main.ts", import.meta.url).pathname;

class Contender {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: AsyncIterator<string>;

  constructor(folder: string) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", main, folder, String(SHAPE)],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#lines = linesOf(this.#child.stdout)[Symbol.asyncIterator]();
  }

  async answer(): Promise<string> {
    const { value, done } = await this.#lines.next();
    assert(!done, "a runner ended early");
    return value;
  }

  start(seed: number): Promise<string> {
    this.#input.write(new TextEncoder().encode(`${seed}\n`));
    return this.answer();
  }

  async end(): Promise<void> {
    await this.#input.close();
    assert.equal((await this.#child.status).code, 0);
    await this.#lines.next();
  }
}

Deno.test(`two runners started on one run ${TIMES} times publish each result once`, async () => {
  const folder = await Deno.makeTempDir({ prefix: "race-" });
  const journal = openJournal(join(folder, "journal.sqlite"));
  try {
    const both = [new Contender(folder), new Contender(folder)];
    for (const one of both) assert.equal(await one.answer(), "ready");
    let fought = 0;
    for (let seed = 0; seed < TIMES; seed++) {
      // Neither is always the first to be told.
      const order = seed % 2 === 0 ? both : [...both].reverse();
      const answers = await Promise.all(order.map((one) => one.start(seed)));
      const [more, less] = answers.sort((a, b) => Number(/^ran/.test(b)) - Number(/^ran/.test(a)));
      assert.match(more!, /^ran [1-9]/, answers.join("\n"));
      // The other came while the first was at it, or after it and found everything done.
      assert.match(less!, /^ran 0$|is being run by process|another runner has taken over/);
      if (less !== "ran 0") fought++;
    }
    for (const one of both) await one.end();
    assert(fought > TIMES / 2, `only ${fought} of ${TIMES} came at the same time`);

    const done = new Map<string, number>();
    const runs = await journal.runs({ limit: 10_000 });
    for (const { id, seed, state } of runs) {
      assert.equal(state, "done");
      for (const event of await journal.events(id, { types: ["stage.done"] })) {
        if (event.type !== "stage.done") continue;
        const name = `${seed} ${event.stage}`;
        done.set(name, (done.get(name) ?? 0) + 1);
      }
    }
    assert.deepEqual([...done].filter(([, times]) => times !== 1), []);
    const ran = (await journal.run(runs[0]!.id))!.counts;
    assert.equal(done.size, TIMES * (ran.done + ran.cached));
    const records = await contents(join(folder, "store", "records"));
    assert.equal(Object.keys(records).length, done.size);
    for (const place of ["tmp", "work", "scratch"]) {
      const left = await contents(join(new FolderStore(join(folder, "store")).location, place));
      assert.deepEqual(left, {}, `left in ${place}`);
    }
  } finally {
    await journal.close();
    await Deno.remove(folder, { recursive: true });
  }
});
