import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { playDamaged } from "./damaged_games.ts";
import { noPublicGames, publicGames } from "../test_support.ts";

Deno.test({
  name: "damaged public games are played or refused with the file, the line and the reason",
  ignore: noPublicGames,
  fn: () => {
    const games = publicGames().map(({ path }) => readFileSync(path, "utf8"));
    const refused = playDamaged("public", 400, (number) => games[number % games.length]!);
    assert.ok(refused > 100, `only ${refused} were refused`);
  },
});
