/** Getting hold of a run, so that nobody else drives it. */
import { UserError } from "../errors.ts";
import type { Claim, Journal, RunWriter } from "./journal.ts";
import { pause } from "./pause.ts";
import { isAlive, thisOwner } from "./owner.ts";

/**
 * A runner elsewhere whose heartbeat has not changed for so long, by this machine's own count of
 * passing time, is taken for dead. Wall clocks play no part: they jump, and differ between machines.
 */
export const SILENCE_MS = 20_000;
/** How often a runner says that it lives. */
export const BEAT_MS = 2_000;

/**
 * Claims the run, waiting where it cannot be known at once whether its last runner still lives.
 *
 * @throws UserError where another runner drives it
 */
export async function claimRun(
  journal: Journal,
  claim: Claim,
  options: { signal?: AbortSignal; silenceMilliseconds?: number } = {},
): Promise<RunWriter> {
  const owner = thisOwner();
  const silence = options.silenceMilliseconds ?? SILENCE_MS;
  let result = await journal.claim(claim, owner);
  if (result.state === "granted") return result.writer;
  const alive = isAlive(result.owner);
  if (alive === false) {
    // Dead on this machine, which a journal's server elsewhere cannot know.
    result = await journal.claim(claim, owner, result);
    if (result.state === "granted") return result.writer;
  } else if (alive === undefined) {
    const since = performance.now();
    while (performance.now() - since < silence) {
      await pause(Math.min(500, silence / 4), options.signal);
      options.signal?.throwIfAborted();
      const again = await journal.claim(claim, owner);
      if (again.state === "granted") return again.writer;
      if (again.beat !== result.beat) throw held(again);
      result = again;
    }
    result = await journal.claim(claim, owner, result);
    if (result.state === "granted") return result.writer;
  }
  throw held(result);
}

function held(result: { run: string; owner: { host: string; pid: number } }): UserError {
  const { run, owner } = result;
  return new UserError(
    `run ${run} of the same workflow and parameters is being run by process ${owner.pid} on ` +
      `${owner.host}; follow it with: pipeline show ${run}`,
  );
}
