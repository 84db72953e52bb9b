/**
 * Demonstrations: read from and written to the published form (a JSON array of conversations with
 * `from` human or gpt and `value`, as ETO publishes them, or `role` and `content`), and made by the
 * expert.
 */
import { z } from "zod";
import { UserError } from "../../errors.ts";
import { Random } from "../random.ts";
import type { ChatMessage } from "../task.ts";
import { Environment } from "./environment.ts";
import { Expert } from "./expert.ts";
import type { Game } from "./game.ts";
import type { Protocol } from "./protocol.ts";

const roles = { human: "user", gpt: "assistant", system: "system" } as const;

const message = z.union([
  z.object({ role: z.enum(["system", "user", "assistant"]), content: z.string() }),
  z.object({ from: z.enum(["human", "gpt", "system"]), value: z.string() })
    .transform(({ from, value }) => ({ role: roles[from], content: value })),
]);

const reward = z.union([z.number(), z.boolean()]).transform(Number);

const published = z.array(z.looseObject({
  id: z.union([z.string(), z.number()]).optional(),
  game_file: z.string().optional(),
  conversations: z.array(message).min(2),
  /** In trajectories: whether it succeeded. Both authors' programs write it under `meta`. */
  reward: reward.optional(),
  meta: z.looseObject({ reward: reward.nullish() }).optional(),
}));

export interface PublishedConversation {
  readonly id: string;
  readonly messages: ChatMessage[];
  readonly reward: number | undefined;
}

/**
 * Parses a file of conversations.
 * @throws {UserError} naming the file and the place in it
 */
export function parseConversations(text: string, name: string): PublishedConversation[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
    // The authors' programs write a file a game.
    if (typeof json === "object" && json !== null && !Array.isArray(json)) json = [json];
  } catch (cause) {
    throw new UserError(`${name}: not JSON: ${(cause as Error).message}`, { cause });
  }
  const parsed = published.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new UserError(`${name}: ${issue.path.join(".") || "the file"}: ${issue.message}`);
  }
  return parsed.data.map(({ id, game_file, conversations, reward, meta }, index) => ({
    id: game_file ?? `${id ?? index}`,
    messages: conversations,
    reward: reward ?? meta?.reward ?? undefined,
  }));
}

/** The published form of conversations, as the authors' code reads them. */
export function formatConversations(
  conversations: readonly { id: string; messages: readonly ChatMessage[]; reward?: number }[],
): string {
  return JSON.stringify(
    conversations.map(({ id, messages, reward }) => ({
      id,
      conversations: messages.map(({ role, content }) => ({
        from: role === "assistant" ? "gpt" : role === "user" ? "human" : role,
        value: content,
      })),
      ...(reward === undefined ? {} : { reward }),
    })),
    null,
    2,
  ) + "\n";
}

/** How many messages stand before the first turn on the game: up to its first text. */
export function givenMessages(messages: readonly ChatMessage[]): number {
  const start = messages.findLastIndex(({ role, content }) =>
    role === "user" && content.includes("Your task is to:")
  );
  return start >= 0 ? start + 1 : messages.findIndex(({ role }) => role === "assistant");
}

export interface ExpertOptions {
  readonly protocol: Protocol;
  readonly examples: 0 | 1;
  /** Turns after which it gives up. */
  readonly maxTurns: number;
  /** Probability of a random admissible command in place of the expert's own, a turn; 0 by default. */
  readonly dawdle?: number;
  /**
   * Probability that a place that was come to is examined once more, which tells nothing new and costs
   * a turn; 0 by default.
   */
  readonly doubleCheck?: number;
  readonly random?: Random;
}

/**
 * The expert's way through a game as a conversation, won or not; undefined where the expert does not
 * understand the goal.
 */
export function demonstrate(
  game: Game,
  { protocol, examples, maxTurns, dawdle = 0, doubleCheck = 0, random = Random.from(game.name) }:
    ExpertOptions,
): { messages: ChatMessage[]; given: number; won: boolean } | undefined {
  const environment = new Environment(game);
  let outcome = environment.reset();
  let expert: Expert;
  try {
    expert = new Expert(outcome.observation);
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
  const messages: ChatMessage[] = [
    ...protocol.opening(examples),
    { role: "user", content: protocol.start(outcome.observation) },
  ];
  const given = messages.length;
  /** What the habit has it do next, in place of anything else. */
  let check: { thought: string; command: string } | undefined;
  for (let turn = 0; turn < maxTurns && !outcome.won; turn++) {
    const idle = check === undefined && random.uniform() < dawdle;
    const move = check ??
      (idle
        ? { thought: "I try something.", command: random.pick(outcome.admissibleCommands) }
        : expert.next());
    if (move === undefined) break;
    check = undefined;
    outcome = environment.step(move.command);
    expert.observe(move.command, outcome.observation);
    const place = /^go to (.*)$/.exec(move.command)?.[1];
    if (place !== undefined && doubleCheck > 0 && random.uniform() < doubleCheck) {
      check = { thought: "I look again.", command: `examine ${place}` };
    }
    messages.push({ role: "assistant", content: protocol.turn(move.thought, move.command) });
    if (!outcome.won) {
      messages.push({ role: "user", content: protocol.answer(outcome.observation) });
    }
  }
  if (messages.at(-1)!.role === "user") messages.pop();
  return messages.length > given ? { messages, given, won: outcome.won } : undefined;
}
