import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { sharedFiles } from "../../tests/shared.ts";
import { demonstrate } from "./conversations.ts";
import { Environment } from "./environment.ts";
import { loadGameSync } from "./game.ts";
import { plan } from "./planner.ts";
import { protocols } from "./protocol.ts";

const [manifest] = sharedFiles("oracles/alfworld", /^manifest\.json$/);

Deno.test({
  name: "the planner wins every public game within the paper's forty turns",
  ignore: manifest === undefined,
  fn: () => {
    const games = JSON.parse(readFileSync(manifest!, "utf8")) as { game_file: string }[];
    assert.ok(games.length > 20);
    for (const { game_file } of games) {
      const game = loadGameSync(join(dirname(manifest!), "games", game_file));
      const commands = plan(game);
      assert.ok(commands !== undefined && commands.length <= 40, game_file);
      const environment = new Environment(game, { maxSteps: 40 });
      environment.reset();
      const outcomes = commands.map((command) => environment.step(command));
      assert.equal(outcomes.at(-1)?.won, true, `${game_file}: ${commands.join(", ")}`);
    }
  },
});

Deno.test({
  name: "the expert, who knows what it is told, wins every public game of one agent in 40 turns",
  ignore: manifest === undefined,
  fn: () => {
    const games = JSON.parse(readFileSync(manifest!, "utf8")) as { game_file: string }[];
    const lost = games.map(({ game_file }) => game_file).filter((file) => {
      const game = loadGameSync(join(dirname(manifest!), "games", file));
      return !demonstrate(game, { protocol: protocols.oreo, examples: 0, maxTurns: 40 })?.won;
    });
    // Several agents are addressed by name, which nobody tells it.
    assert.deepEqual(lost.map((file) => file.split("/")[0]), ["multiagent14"]);
  },
});
