import assert from "node:assert/strict";
import { Environment } from "./environment.ts";
import { Game } from "./game.ts";
import { generateGame } from "./generate.ts";
import { plan } from "./planner.ts";

const { text } = generateGame("environment", { receptacles: 5, objects: 5 });
const game = new Game(text, "environment");

Deno.test("around a command the blanks that Python strips do not matter, and no others", () => {
  const environment = new Environment(game);
  const { observation } = environment.reset();
  const look = environment.step("look").observation;
  assert.notEqual(look, "Nothing happens.");
  assert.notEqual(look, observation);
  const blanks = [
    " ",
    "\t",
    "\r",
    "\x0b",
    "\x1c",
    "\x1f",
    "\x85",
    "\xa0",
    "\u2003",
    "\u2028",
    "\u3000",
  ];
  for (const blank of blanks) {
    assert.equal(environment.step(`${blank}look${blank}${blank}`).observation, look, escape(blank));
  }
  for (const other of ["\ufeff", "\u200b", "\u180e", "\0", "\x1b", "."]) {
    for (const command of [`${other}look`, `look${other}`]) {
      assert.equal(environment.step(command).observation, "Nothing happens.", escape(other));
    }
  }
  for (const command of ["", "   ", "Look", "LOOK", "look look", "look\tlook", "lo ok"]) {
    assert.equal(environment.step(command).observation, "Nothing happens.", command);
  }
});

Deno.test("a long command takes no longer than it is long", () => {
  const environment = new Environment(game);
  environment.reset();
  const command = `look${" ".repeat(2_000_000)}x`;
  assert.equal(environment.step(command).observation, "Nothing happens.");
});

Deno.test("without a limit play goes on after winning, with one the last outcome is given again", () => {
  const commands = plan(game)!;
  const free = new Environment(game);
  free.reset();
  for (const command of commands) free.step(command);
  assert.notEqual(free.step("inventory").observation, "Nothing happens.");
  assert.equal(free.steps, commands.length + 1);

  const limited = new Environment(game, { maxSteps: 40 });
  limited.reset();
  const won = commands.map((command) => limited.step(command)).at(-1)!;
  assert.deepEqual([won.reward, won.done, won.won], [1, true, true]);
  assert.equal(limited.step("inventory"), won);

  const short = new Environment(game, { maxSteps: 2 });
  assert.equal(short.reset().done, false);
  assert.equal(short.step("junk").done, false);
  const over = short.step("");
  assert.deepEqual([over.reward, over.done, over.won], [0, true, false]);
  assert.equal(short.step(commands[0]!), over);
  assert.equal(short.reset().done, false);
});
