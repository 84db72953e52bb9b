import assert from "node:assert/strict";
import { demonstrate } from "./conversations.ts";
import { Environment } from "./environment.ts";
import { loadGameSync } from "./game.ts";
import { plan } from "./planner.ts";
import { protocols } from "./protocol.ts";
import { noPublicGames, publicGames } from "../test_support.ts";

Deno.test({
  name: "the planner wins every public game within the paper's forty turns",
  ignore: noPublicGames,
  fn: () => {
    const games = publicGames();
    assert.ok(games.length > 20);
    for (const { file, path } of games) {
      const game = loadGameSync(path);
      const commands = plan(game);
      assert.ok(commands !== undefined && commands.length <= 40, file);
      const environment = new Environment(game, { maxSteps: 40 });
      environment.reset();
      const outcomes = commands.map((command) => environment.step(command));
      assert.equal(outcomes.at(-1)?.won, true, `${file}: ${commands.join(", ")}`);
    }
  },
});

Deno.test({
  name: "the expert, who knows what it is told, wins every public game of one agent in 40 turns",
  ignore: noPublicGames,
  fn: () => {
    const lost = publicGames().filter(({ path }) => {
      const game = loadGameSync(path);
      return !demonstrate(game, { protocol: protocols.oreo, examples: 0, maxTurns: 40 })?.won;
    });
    // Several agents are addressed by name, which nobody tells it.
    assert.deepEqual(lost.map(({ file }) => file.split("/")[0]), ["multiagent14"]);
  },
});
