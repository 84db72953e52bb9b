import assert from "node:assert/strict";
import { Random } from "../random.ts";
import { demonstrate } from "./conversations.ts";
import { Expert, parseGoal } from "./expert.ts";
import { Game } from "./game.ts";
import { generateGame, taskTypes } from "./generate.ts";
import { protocols } from "./protocol.ts";

Deno.test("goals are read in both wordings of every type", () => {
  const cases: [string, string, string, string][] = [
    ["put a mug in desk", "pick_and_place_simple", "mug", "desk"],
    ["put some mug on desk", "pick_and_place_simple", "mug", "desk"],
    ["look at book under the desklamp", "look_at_obj_in_light", "book", "desklamp"],
    ["examine the book with the desklamp", "look_at_obj_in_light", "book", "desklamp"],
    ["put a clean pan in shelf", "pick_clean_then_place_in_recep", "pan", "shelf"],
    ["heat some egg and put it in fridge", "pick_heat_then_place_in_recep", "egg", "fridge"],
    ["put a cool egg in fridge", "pick_cool_then_place_in_recep", "egg", "fridge"],
    ["find two pen and put them in bed", "pick_two_obj_and_place", "pen", "bed"],
    ["put two pen in bed", "pick_two_obj_and_place", "pen", "bed"],
  ];
  for (const [text, type, object, target] of cases) {
    assert.deepEqual(parseGoal(text), { type, object, target }, text);
  }
  assert.equal(parseGoal("water the plants"), undefined);
});

Deno.test("the expert wins generated games of every type and size by what it is told", () => {
  const sizes = [{}, { receptacles: 1, objects: 1 }, { receptacles: 12, objects: 16 }, {
    receptacles: 20,
    objects: 10,
  }];
  for (const type of taskTypes) {
    for (const size of sizes) {
      for (let seed = 0; seed < 10; seed++) {
        const { text, name } = generateGame(`expert-${seed}`, size, type);
        const options = { protocol: protocols.oreo, examples: 0, maxTurns: 40 } as const;
        const shown = demonstrate(new Game(text, name), options);
        assert.equal(shown?.won, true, `${name}, ${JSON.stringify(size)}`);
      }
    }
  }
});

Deno.test("the expert looks into kinds that it found closed after all others", () => {
  const intro =
    "You are in a room. Looking around you, you see a cabinet 1, a cabinet 2, and a desk 1." +
    "\n\nYour task is to: put some mug on desk.";
  const expert = new Expert(intro);
  const answers = [
    "The cabinet 1 is closed.",
    "In it, you see nothing.",
    "On the desk 1, you see nothing.",
  ];
  const commands = answers.map((answer) => {
    const { command } = expert.next()!;
    expert.observe(command, answer);
    return command;
  });
  assert.deepEqual(commands, ["go to cabinet 1", "open cabinet 1", "go to desk 1"]);
  assert.equal(expert.next()!.command, "go to cabinet 2");
});

Deno.test("the expert finds its way again after commands that were not its own", () => {
  let won = 0;
  for (let seed = 0; seed < 30; seed++) {
    const { text, name } = generateGame(`dawdling-${seed}`, { receptacles: 5, objects: 5 });
    const random = Random.from(name);
    const options = { protocol: protocols.terse, examples: 0, maxTurns: 60, dawdle: 0.3 } as const;
    if (demonstrate(new Game(text, name), { ...options, random })?.won) won++;
  }
  assert.ok(won >= 28, `${won} of 30`);
});

Deno.test("the habit of checking twice costs a turn a visit and nothing else", () => {
  for (let seed = 0; seed < 10; seed++) {
    const { text, name } = generateGame(`checking-${seed}`, { receptacles: 4, objects: 4 });
    const game = new Game(text, name);
    const commands = (doubleCheck: number) => {
      const options = { protocol: protocols.terse, examples: 0, maxTurns: 60 } as const;
      const { messages, won } = demonstrate(game, { ...options, doubleCheck })!;
      assert.ok(won, name);
      return messages.filter(({ role }) => role === "assistant").map(({ content }) => content);
    };
    const checked = commands(0).flatMap((command) => {
      const place = /^go to (.*)$/.exec(command)?.[1];
      return place === undefined ? [command] : [command, `examine ${place}`];
    });
    assert.deepEqual(commands(1), checked);
  }
});

Deno.test("a text without a known goal is refused", () => {
  assert.throws(() => new Expert("You are in a room.\n\nYour task is to: rest."), RangeError);
});
