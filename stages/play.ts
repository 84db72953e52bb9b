/**
 * The agent loop: many episodes at a time against one generator. Each asks for its next turn as soon as
 * the world has answered, so that the generator's slots stay full; an episode's turns depend on its
 * seed alone, not on what runs beside it.
 */
import { createHash } from "node:crypto";
import type { GenerationRequest, Generator } from "../lm/mod.ts";
import { bestOfK } from "../rl/mod.ts";
import type { EpisodeOutcome, Query } from "../tasks/mod.ts";
import type { OpenTask } from "./task.ts";
import { Transcript, type Wording } from "./transcript.ts";

export interface Attempt {
  readonly query: Query;
  /** Non-negative integer. */
  readonly seed: number;
}

export interface PlayOptions extends
  Pick<
    GenerationRequest,
    "temperature" | "topK" | "topP"
  > {
  /** Tokens of a turn, at most. */
  readonly maxNewTokens: number;
  /** Turns that are drawn at each point; V takes the best. 1: no choice, and no V needed. */
  readonly candidates?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

export interface Played {
  readonly query: Query;
  readonly transcript: Transcript;
  readonly outcome: EpisodeOutcome;
}

/** Episodes in play for each slot of the generator: while one's world answers, another's turn is made. */
const PER_SLOT = 2;

/** Plays every attempt to its end, in the order given. */
export async function play(
  generator: Generator,
  task: OpenTask,
  wording: Wording,
  attempts: readonly Attempt[],
  options: PlayOptions,
): Promise<Played[]> {
  const played: Played[] = [];
  let next = 0;
  let done = 0;
  const worker = async () => {
    while (next < attempts.length) {
      const index = next++;
      options.signal?.throwIfAborted();
      played[index] = await playOne(generator, task, wording, attempts[index]!, options);
      options.onProgress?.(++done, attempts.length);
    }
  };
  const workers = Math.min(attempts.length, PER_SLOT * generator.slots);
  await Promise.all(Array.from({ length: workers }, worker));
  return played;
}

async function playOne(
  generator: Generator,
  task: OpenTask,
  wording: Wording,
  { query, seed }: Attempt,
  { candidates = 1, signal, onProgress: _, maxNewTokens, ...sampling }: PlayOptions,
): Promise<Played> {
  const episode = await task.begin(query);
  const transcript = new Transcript(wording, episode.messages);
  const { endIds } = wording;
  const run = signal === undefined ? {} : { signal };
  for (;;) {
    const promptIds = transcript.context(generator.maxLength, maxNewTokens);
    if (promptIds === undefined) {
      return { query, transcript, outcome: { success: false, reason: "the prompt is too long" } };
    }
    const state = { promptIds, seed: turnSeed(seed, transcript.turns) };
    const turn = candidates > 1
      ? (await bestOfK(generator, [state], {
        ...given(sampling),
        ...run,
        k: candidates,
        endIds,
        maxNewTokens,
      }))[0]!
      : (await generator.generate([{ ...state, ...sampling, stopIds: endIds, maxNewTokens }], run))[
        0
      ]![0]!;
    transcript.addTurn(turn);
    const answer = episode.act(turn.text);
    if (answer === undefined) return { query, transcript, outcome: episode.outcome! };
    transcript.addAnswer(answer);
  }
}

/** Without the fields that are undefined. */
function given({ temperature, topK, topP }: Pick<PlayOptions, "temperature" | "topK" | "topP">) {
  return {
    ...(temperature === undefined ? {} : { temperature }),
    ...(topK === undefined ? {} : { topK }),
    ...(topP === undefined ? {} : { topP }),
  };
}

/** Every turn of an episode has a seed of its own. */
function turnSeed(seed: number, turn: number): number {
  return createHash("sha256").update(`${seed}/${turn}`).digest().readUInt32LE(0);
}

/** How many episodes succeeded, in all and by group, for a result. */
export function tally(played: readonly Pick<Played, "query" | "outcome">[]) {
  const groups: Record<string, { correct: number; n: number }> = {};
  let correct = 0;
  for (const { query, outcome } of played) {
    if (outcome.success) correct++;
    if (query.group === undefined) continue;
    const group = groups[query.group] ??= { correct: 0, n: 0 };
    group.n++;
    if (outcome.success) group.correct++;
  }
  return { correct, n: played.length, groups };
}
