import assert from "node:assert/strict";
import { GameEpisode } from "./episode.ts";
import { Game } from "./game.ts";
import { generateGame } from "./generate.ts";
import { plan } from "./planner.ts";
import { type ProtocolName, protocols } from "./protocol.ts";
import { givenMessages } from "./conversations.ts";

const { text } = generateGame("episode", { receptacles: 5, objects: 5 });
const game = new Game(text, "episode");
const begin = (name: ProtocolName, maxTurns = 40) =>
  new GameEpisode(game, {
    protocol: protocols[name],
    examples: protocols[name].examples,
    maxTurns,
  });

Deno.test("a plan wins in every protocol, and nothing is answered after the last turn", () => {
  for (const name of ["oreo", "eto", "terse"] as const) {
    const episode = begin(name);
    const answers = plan(game)!.map((command) =>
      episode.act(protocols[name].turn("I know.", command))
    );
    assert.deepEqual(episode.outcome, { success: true, reason: "won" });
    assert.equal(answers.at(-1), undefined);
    assert.ok(answers.slice(0, -1).every((answer) => answer !== undefined));
    assert.throws(() => episode.act("look"), /over/);
  }
});

Deno.test("the paper's protocol ends where a turn has no action, ETO's says so and goes on", () => {
  const paper = begin("oreo");
  assert.equal(paper.act("I go to the desk."), undefined);
  assert.deepEqual(paper.outcome, { success: false, reason: "no command" });
  const eto = begin("eto", 2);
  assert.match(eto.act("I go to the desk.")!, /^Observation: Error Input/);
  assert.equal(eto.act("Action: look"), undefined);
  assert.deepEqual(eto.outcome, { success: false, reason: "out of turns" });
});

Deno.test("the action is what the protocol says it is", () => {
  const { oreo, eto } = protocols;
  assert.equal(oreo.commandOf("Thought: a\nAction: look \n"), "look");
  assert.equal(oreo.commandOf("Action: look\nAction: inventory"), "look\n");
  assert.equal(oreo.commandOf("Action:look"), undefined);
  assert.equal(eto.commandOf("Action:look"), "look");
  assert.equal(eto.commandOf("Action: look\nAction: inventory"), "look\nAction: inventory");
});

Deno.test("prompts are the published ones: instruction, OK, an example for ETO, the game", () => {
  const paper = begin("oreo").messages;
  assert.deepEqual(paper.map(({ role }) => role), ["user", "assistant", "user"]);
  assert.match(paper[0]!.content, /2\. task \{obj\} from/);
  assert.match(paper[2]!.content, /^You are in the middle.*\n\nYour task is to: /);
  const eto = begin("eto").messages;
  assert.equal(eto.length, 13);
  assert.match(eto[0]!.content, /2\. take \{obj\} from/);
  assert.match(eto.at(-1)!.content, /^You are in the middle.*\nYour task is to: /);
  assert.equal(givenMessages(eto), 13);
});

Deno.test("only the older data's location is left out of an observation", () => {
  const { answer } = protocols.oreo;
  assert.equal(
    answer("You arrive at loc 12. On the desk 1, you see nothing."),
    "Observation: On the desk 1, you see nothing.",
  );
  assert.equal(
    answer("You arrive at desk 1. On it, nothing."),
    "Observation: You arrive at desk 1. On it, nothing.",
  );
});

Deno.test("the terse protocol tells the least", () => {
  const { start, answer } = protocols.terse;
  assert.equal(
    start(
      "-= Hi =-\n\nYou are here. You see. Around you, you see a desk 1, and a bed 1.\n\nYour task is to: put some pen on bed.",
    ),
    "see desk 1, bed 1.\nput pen bed.",
  );
  assert.equal(
    answer("You arrive at bed 1. On the bed 1, you see a pen 1, and a book 2."),
    "see pen 1, book 2.",
  );
  assert.equal(answer("You arrive at fridge 1. The fridge 1 is closed."), "closed.");
  assert.equal(answer("Nothing happens."), "no.");
});
