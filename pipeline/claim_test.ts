import assert from "node:assert/strict";
import { join } from "node:path";
import { claimRun } from "./claim.ts";
import type { Journal, RunWriter } from "./journal.ts";
import { openJournal } from "./journal_open.ts";
import { type Owner, thisOwner } from "./owner.ts";

const claim = { newRun: "r", fingerprint: "f" };
const elsewhere: Owner = { ...thisOwner(), machine: "another", host: "far" };

async function heldBy(
  owner: Owner,
  body: (journal: Journal, holder: RunWriter) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  const journal = openJournal(join(folder, "journal.sqlite"));
  try {
    const first = await journal.claim(claim, owner);
    assert(first.state === "granted");
    await body(journal, first.writer);
  } finally {
    await journal.close();
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a run of a machine that has fallen silent is taken over, and fenced off", async () => {
  await heldBy(elsewhere, async (journal, holder) => {
    const writer = await claimRun(journal, claim, { silenceMilliseconds: 40 });
    assert.equal(writer.run, "r");
    assert(writer.fence > holder.fence);
    await assert.rejects(holder.beat(), /another runner has taken over run r/);
  });
});

Deno.test("a run of a machine that lives is left to it, whatever its clock says", async () => {
  await heldBy(elsewhere, async (journal, holder) => {
    const realNow = Date.now;
    Date.now = () => realNow() - 86_400_000;
    const beating = setInterval(() => holder.beat().catch(() => {}), 5);
    try {
      const taken = claimRun(journal, claim, { silenceMilliseconds: 400 });
      await assert.rejects(taken, /is being run by process \d+ on far/);
    } finally {
      clearInterval(beating);
      Date.now = realNow;
    }
    await holder.beat();
  });
});

Deno.test("of many who wait for a silent runner's run, one gets it", async () => {
  await heldBy(elsewhere, async (journal) => {
    const all = Array.from(
      { length: 8 },
      () => claimRun(journal, claim, { silenceMilliseconds: 40 }),
    );
    const settled = await Promise.allSettled(all);
    assert.equal(settled.filter((one) => one.status === "fulfilled").length, 1);
  });
});

Deno.test("waiting for a silent runner ends when it is asked to", async () => {
  await heldBy(elsewhere, async (journal) => {
    const signal = AbortSignal.timeout(10);
    await assert.rejects(claimRun(journal, claim, { silenceMilliseconds: 60_000, signal }));
  });
});

Deno.test("a journal that cannot know that its holder died here is told so", async () => {
  const dead = { ...thisOwner(), pid: 2 ** 22 + 1, birth: "1" };
  await heldBy(dead, async (journal) => {
    // As a server on another machine sees it.
    const far = Object.create(journal) as Journal;
    far.claim = async (claim, owner, takeOver) =>
      takeOver === undefined
        ? { state: "held", run: "r", owner: dead, beat: 1 }
        : await journal.claim(claim, owner, takeOver);
    assert.equal((await claimRun(far, claim, { silenceMilliseconds: 60_000 })).run, "r");
  });
});
