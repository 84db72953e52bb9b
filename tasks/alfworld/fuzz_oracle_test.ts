import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { sharedFiles } from "../../tests/shared.ts";
import { playDamaged } from "./damaged_games.ts";

const [manifest] = sharedFiles("oracles/alfworld", /^manifest\.json$/);

Deno.test({
  name: "damaged public games are played or refused with the file, the line and the reason",
  ignore: manifest === undefined,
  fn: () => {
    const rows = JSON.parse(readFileSync(manifest!, "utf8")) as { game_file: string }[];
    const games = rows.map(({ game_file }) =>
      readFileSync(join(dirname(manifest!), "games", game_file), "utf8")
    );
    const refused = playDamaged("public", 400, (number) => games[number % games.length]!);
    assert.ok(refused > 100, `only ${refused} were refused`);
  },
});
