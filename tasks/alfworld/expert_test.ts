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

Deno.test("the expert wins generated games of every type by what it is told", () => {
  for (const type of taskTypes) {
    for (let seed = 0; seed < 20; seed++) {
      const { text, name } = generateGame(`expert-${seed}`, {}, type);
      const shown = demonstrate(new Game(text, name), {
        protocol: protocols.oreo,
        examples: 0,
        maxTurns: 40,
        dawdle: 0,
        random: Random.from("none"),
      });
      assert.equal(shown?.won, true, name);
    }
  }
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

Deno.test("a text without a known goal is refused", () => {
  assert.throws(() => new Expert("You are in a room.\n\nYour task is to: rest."), RangeError);
});
