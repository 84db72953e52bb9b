import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { alfworld, generateGame } from "../tasks/alfworld/mod.ts";

const main = fileURLToPath(new URL("../main.ts", import.meta.url));

async function play(...args: string[]) {
  const command = new Deno.Command(Deno.execPath(), { args: ["run", "-A", main, "play", ...args] });
  const { code, stdout, stderr } = await command.output();
  return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
}

Deno.test("play answers every line of a command file with a line of JSON, blanks and all", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const game = join(folder, "game.tw-pddl");
    const commands = join(folder, "commands.txt");
    await Deno.writeTextFile(game, generateGame("play").text);
    await Deno.writeTextFile(commands, "  inventory \n\nInventory\nlook");
    const { code, out } = await play(game, "--commands", commands);
    assert.equal(code, 0);
    const lines = out.trimEnd().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(
      lines.map(({ command }) => command),
      [null, "  inventory ", "", "Inventory", "look"],
    );
    assert.deepEqual(lines.slice(1, 4).map(({ observation }) => observation), [
      "You are not carrying anything.",
      "Nothing happens.",
      "Nothing happens.",
    ]);
    for (const line of lines) {
      assert.deepEqual(Object.keys(line), [
        "command",
        "observation",
        "reward",
        "done",
        "won",
        "admissible_commands",
      ]);
      assert.deepEqual(line.admissible_commands, [...new Set(line.admissible_commands)].sort());
    }
    const missing = await play(join(folder, "none"), "--commands", commands);
    assert.equal(missing.code, 1);
    assert.match(missing.err, /^cannot read the game .*none: there is no such file\n$/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a command file's line ends, strange bytes and the step limit", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const game = join(folder, "game.tw-pddl");
    const commands = join(folder, "commands.txt");
    await Deno.writeTextFile(game, generateGame("play").text);
    const bytes = [...new TextEncoder().encode("look\r\ninventory\r\n"), 0xff, 0xfe, 10, 10];
    await Deno.writeFile(commands, Uint8Array.from(bytes));
    const { code, out } = await play(game, "--commands", commands, "--max-steps", "3");
    assert.equal(code, 0);
    const lines = out.trimEnd().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(
      lines.map(({ command }) => command),
      [null, "look\r", "inventory\r", "\ufffd\ufffd", ""],
    );
    assert.deepEqual(lines.map(({ done }) => done), [false, false, false, true, true]);
    assert.equal(lines[2].observation, "You are not carrying anything.");
    assert.equal(lines[3].observation, "Nothing happens.");
    assert.deepEqual({ ...lines[4], command: null }, { ...lines[3], command: null });
    await Deno.writeTextFile(commands, "");
    assert.equal((await play(game, "--commands", commands)).out.trimEnd().split("\n").length, 1);
    const wrong = await play(game, "--commands", commands, "--max-steps", "0");
    assert.equal(wrong.code, 2);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("the expert's games are printed as conversations that the task reads", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const paths = await Promise.all(["1", "2"].map(async (seed) => {
      const { text, name } = generateGame(seed, { receptacles: 4, objects: 4 });
      const path = join(folder, `${name}.tw-pddl`);
      await Deno.writeTextFile(path, text);
      return path;
    }));
    const { code, out } = await play(...paths, "--expert", "eto");
    assert.equal(code, 0);
    await Deno.writeTextFile(join(folder, "shown.json"), out);
    const read = await alfworld.agent!.conversations("train", {
      path: folder,
      demonstrations: { file: "shown.json" },
    });
    assert.deepEqual(read.map(({ query }) => query.id), paths);
    for (const { messages, given } of read) {
      assert.equal(given, 13);
      assert.match(messages[given]!.content, /^Thought: .*\nAction: /);
      assert.equal(messages.at(-1)!.role, "assistant");
    }
    assert.equal((await play(...paths)).code, 2);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
