/** ALFWorld as a task of turns: its queries are games, its demonstrations conversations. */
import { join } from "node:path";
import { z } from "zod";
import { UserError } from "../../errors.ts";
import { type Conversation, defineAgentTask } from "../agent.ts";
import { Random } from "../random.ts";
import { demonstrate, givenMessages, parseConversations } from "./conversations.ts";
import { GameEpisode } from "./episode.ts";
import { gameOf, gamesFields, gamesOf, taskTypeOf } from "./games.ts";
import { protocolNames, protocols } from "./protocol.ts";

const params = z.object({
  ...gamesFields,
  protocol: z.enum(protocolNames).default("oreo"),
  examples: z.literal([0, 1]).optional()
    .describe("worked examples in the prompt; the protocol's where left out"),
  maxTurns: z.int().positive().default(40),
  demonstrations: z.object({
    file: z.string().optional()
      .describe("conversations in the published form, in `path`; none: the expert plays"),
    /** Conversations a game. */
    perGame: z.int().positive().default(1),
    /** Probability of a random command in place of the expert's own, a turn. */
    dawdle: z.number().min(0).lt(1).default(0),
    /** Probability that the expert examines a place once more when it has come there. */
    doubleCheck: z.number().min(0).max(1).default(0),
    /** Turns that the expert may take; those it does not win in so many are left out. */
    maxTurns: z.int().positive().default(40),
  }).prefault({}),
});
type Parameters = z.output<typeof params>;

const play = ({ protocol: name, examples, maxTurns }: Parameters) => {
  const protocol = protocols[name];
  return { protocol, examples: examples ?? protocol.examples, maxTurns };
};

async function* published(file: string, path: string | undefined): AsyncGenerator<Conversation> {
  const place = path === undefined ? file : join(path, file);
  let text: string;
  try {
    text = await Deno.readTextFile(place);
  } catch (cause) {
    throw new UserError(
      `cannot read the demonstrations ${place}: ${(cause as Error).message}`,
      { cause },
    );
  }
  for (const { id, messages, reward } of parseConversations(text, place)) {
    if (reward === 0) continue;
    const group = taskTypeOf(id.split("/").find((part) => taskTypeOf(part) !== undefined) ?? "");
    const query = { id, question: group ?? id, gold: "won", ...(group && { group }) };
    yield { query, messages, given: givenMessages(messages) };
  }
}

export const alfworld = defineAgentTask({
  name: "alfworld",
  description: "household tasks as text games, played in turns",
  params,
  queries: gamesOf,
  begin: async (query, params) => new GameEpisode(await gameOf(query, params), play(params)),
  async *conversations(split, params) {
    const { file, perGame, dawdle, doubleCheck, maxTurns } = params.demonstrations;
    if (file !== undefined) return yield* published(file, params.path);
    for (const query of await gamesOf(split, params)) {
      const game = await gameOf(query, params);
      for (let n = 0; n < perGame; n++) {
        const random = Random.from(`alfworld/demonstrations/${query.id}/${n}`);
        const shown = demonstrate(game, { ...play(params), maxTurns, dawdle, doubleCheck, random });
        if (shown?.won) yield { query, messages: shown.messages, given: shown.given };
      }
    }
  },
});
