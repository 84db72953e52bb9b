import assert from "node:assert/strict";
import { Environment } from "./environment.ts";
import { Game } from "./game.ts";
import { generateGame, taskTypes } from "./generate.ts";
import { plan } from "./planner.ts";

Deno.test("the planner wins every generated game of every type within the step limit", () => {
  for (const type of taskTypes) {
    for (let seed = 0; seed < 40; seed++) {
      const { name, text } = generateGame(`test-${seed}`, {}, type);
      const game = new Game(text, name);
      const commands = plan(game);
      assert.ok(commands !== undefined && commands.length > 0 && commands.length <= 40, name);
      const environment = new Environment(game, { maxSteps: 40 });
      assert.equal(environment.reset().won, false, name);
      const outcomes = commands.map((command) => environment.step(command));
      assert.equal(outcomes.at(-1)!.won, true, `${name}: ${commands.join(", ")}`);
    }
  }
});

Deno.test("a seed makes the same game again, another seed another one", () => {
  assert.equal(generateGame("a").text, generateGame("a").text);
  assert.notEqual(generateGame("a").text, generateGame("b").text);
});

Deno.test("generated games of the same kind share their domain and their rules of text", () => {
  const [one, other] = ["1", "2"].map((seed) => new Game(generateGame(seed).text, seed));
  assert.equal(one!.domain, other!.domain);
  assert.equal(one!.grammar.rules("intro"), other!.grammar.rules("intro"));
});

Deno.test("files with the same content share what they come to, and complain under their own names", () => {
  const { text } = generateGame("same");
  const [one, other] = ["one", "other"].map((name) => new Game(text, name));
  assert.equal(one!.prepared, other!.prepared);
  assert.notEqual(one!.prepared, new Game(generateGame("different").text, "one").prepared);
  const broken = JSON.stringify({
    ...JSON.parse(text),
    grammar: JSON.parse(text).grammar.replace("action look", "action lock"),
  });
  for (const name of ["first.tw-pddl", "second.tw-pddl"]) {
    const game = new Game(broken, name);
    assert.throws(() => game.prepared, (error: Error) => error.message.startsWith(`${name}: `));
  }
});
