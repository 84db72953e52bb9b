/**
 * ALFWorld's games: steps with their admissible commands, and loading with reset, against the original
 * environment in one run, in which both also have to say the same. The games are generated; no download
 * is needed but the peer's package.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Environment, Game, generateGame, loadGame, taskTypes } from "../tasks/alfworld/mod.ts";
import { median, type Peer, pythonEnvironment, startPeer } from "./peer.ts";
import { printTable, type Row } from "./table.ts";

/** Games that the original is timed on; it takes about a second each. */
const games = 6;
/** Games that loading is timed on here: each is read once, for a game's content is kept. */
const loaded = 60;
/** Commands a game in which both are compared. */
const compared = 40;
const large = { receptacles: 30, objects: 40 };

export async function benchAlfworld(): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "bench-alfworld-" });
  const venv = await pythonEnvironment("alfworld", ["alfworld==0.4.2", "textworld==1.7.0"]);
  const peer = await startPeer(join(venv, "bin", "python"), "alfworld_peer.py");
  try {
    const paths = await Promise.all(
      Array.from({ length: loaded }, async (_, seed) => {
        const path = join(folder, `${seed}.tw-pddl`);
        await Deno.writeTextFile(path, generateGame(`bench-${seed}`, large).text);
        return path;
      }),
    );
    const few = paths.slice(0, games);
    const theirs = {
      load: await peer.seconds({ work: "load", games: few }),
      step: await peer.seconds({ work: "step", games: few, steps: 60 }),
    };
    const ours = { load: await loadSeconds(paths), step: await stepSeconds(few) };
    const rows: Row[] = [
      {
        name: "step, admissible commands included",
        unit: "steps/s",
        peer: 1 / theirs.step,
        ours: 1 / ours.step,
        ratio: theirs.step / ours.step,
      },
      {
        name: "load and reset",
        unit: "games/s",
        peer: 1 / theirs.load,
        ours: 1 / ours.load,
        ratio: theirs.load / ours.load,
      },
    ];
    printTable("ALFWorld games, generated: 30 receptacles and 40 objects", peer.name, rows);
    console.log(`\n${await compare(peer, folder)} states of generated games are the original's`);
    holdMany();
  } finally {
    await peer.close();
    await Deno.remove(folder, { recursive: true });
  }
}

/** Median seconds of a game, file to first observation, once the engine is warm. */
async function loadSeconds(paths: readonly string[]): Promise<number> {
  const times: number[] = [];
  for (const path of paths) {
    const start = performance.now();
    new Environment(await loadGame(path)).reset();
    times.push((performance.now() - start) / 1000);
  }
  return median(times.slice(paths.length / 4));
}

/** Mean seconds of a step of a random walk through all games. */
async function stepSeconds(paths: readonly string[]): Promise<number> {
  const environments = await Promise.all(
    paths.map(async (p) => new Environment(await loadGame(p))),
  );
  let steps = 0;
  let seconds = 0;
  for (let round = 0; round < 20; round++) {
    for (const environment of environments) {
      const walk = randomWalk(environment.reset().admissibleCommands);
      const start = performance.now();
      for (let step = 0; step < 200; step++) {
        walk.admissible = environment.step(walk.next()).admissibleCommands;
      }
      // The first rounds warm the engine up.
      if (round >= 5) {
        steps += 200;
        seconds += (performance.now() - start) / 1000;
      }
    }
  }
  return seconds / steps;
}

/** Plays a game of each type here and there, with commands that mean nothing among the others. */
async function compare(peer: Peer, folder: string): Promise<number> {
  let states = 0;
  for (const type of taskTypes) {
    const { text, name } = generateGame("compare", {}, type);
    const path = join(folder, `${name}.tw-pddl`);
    await Deno.writeTextFile(path, text);
    const environment = new Environment(new Game(text, name));
    const told = (outcome: object) => ({ ...outcome, facts: environment.facts() });
    const { observation, won, admissibleCommands } = environment.reset();
    const ours: object[] = [told({ observation, won, admissibleCommands })];
    const commands: string[] = [];
    const walk = randomWalk(admissibleCommands);
    for (let step = 0; step < compared; step++) {
      const next = walk.next();
      const command = step % 5 < 4 ? next : strange[step % strange.length]!(next);
      commands.push(command);
      const outcome = environment.step(command);
      walk.admissible = outcome.admissibleCommands;
      ours.push(told(outcome));
    }
    const { states: theirs } = await peer.ask({ work: "play", game: path, commands });
    assert.deepEqual(ours, theirs, `${name}: ${commands.join(", ")}`);
    states += ours.length;
  }
  return states;
}

/** What becomes of a command so that it means nothing, or just looks odd. */
const strange: readonly ((command: string) => string)[] = [
  (command) => ` ${command}\t`,
  () => "",
  (command) => command.toUpperCase(),
  (command) => `\ufeff${command}`,
  (command) => `${command} now`,
  (command) => `\u3000${command}\u2003`,
  (command) => command.replace(" ", "  "),
];

/** Picks commands as at random, the same ones every time. */
function randomWalk(admissible: readonly string[]) {
  let number = 1;
  return {
    admissible,
    next() {
      number = (Math.imul(number, 1103515245) + 12345) & 0x7fffffff;
      return this.admissible[(number >> 8) % this.admissible.length]!;
    },
  };
}

/** How much memory 10,000 games take, no two of them alike, after some steps in each. */
function holdMany(): void {
  const held: Environment[] = [];
  for (let seed = 0; seed < 10_000; seed++) {
    const { text, name } = generateGame(`held-${seed}`, large);
    const environment = new Environment(new Game(text, name));
    const walk = randomWalk(environment.reset().admissibleCommands);
    for (let step = 0; step < 5; step++) {
      walk.admissible = environment.step(walk.next()).admissibleCommands;
    }
    held.push(environment);
  }
  const mebibytes = Deno.memoryUsage().rss / 2 ** 20;
  console.log(`${held.length} different games in play at once: ${mebibytes.toFixed(0)} MiB`);
}
