/**
 * ALFWorld's games: steps with their admissible commands, and loading with reset, against the original
 * environment in one run. The games are generated; no download is needed but the peer's package.
 */
import { join } from "node:path";
import { Environment, Game, generateGame, loadGame, plan } from "../tasks/alfworld/mod.ts";
import { pythonEnvironment, startPeer } from "./peer.ts";
import { printTable, type Row } from "./table.ts";

/** Games that the original is timed on; it takes about a second each. */
const games = 6;

export async function benchAlfworld(): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "bench-alfworld-" });
  const venv = await pythonEnvironment("alfworld", ["alfworld==0.4.2", "textworld==1.7.0"]);
  const peer = await startPeer(join(venv, "bin", "python"), "alfworld_peer.py");
  try {
    const paths = await Promise.all(
      Array.from({ length: games }, async (_, seed) => {
        const path = join(folder, `${seed}.tw-pddl`);
        const settings = { receptacles: 30, objects: 40 };
        await Deno.writeTextFile(path, generateGame(`bench-${seed}`, settings).text);
        return path;
      }),
    );
    const theirs = {
      load: await peer.seconds({ work: "load", games: paths }),
      step: await peer.seconds({ work: "step", games: paths, steps: 60 }),
    };
    const ours = { load: await loadSeconds(paths), step: await stepSeconds(paths) };
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
    holdMany();
  } finally {
    await peer.close();
    await Deno.remove(folder, { recursive: true });
  }
}

/** Median seconds of a game, file to first observation. */
async function loadSeconds(paths: readonly string[]): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < 10; round++) {
    for (const path of paths) {
      const start = performance.now();
      new Environment(await loadGame(path)).reset();
      times.push((performance.now() - start) / 1000);
    }
  }
  return times.sort((a, b) => a - b)[times.length >> 1]!;
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
      let { admissibleCommands } = environment.reset();
      let number = 1;
      const start = performance.now();
      for (let step = 0; step < 200; step++) {
        number = (Math.imul(number, 1103515245) + 12345) & 0x7fffffff;
        const command = admissibleCommands[number % admissibleCommands.length]!;
        ({ admissibleCommands } = environment.step(command));
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

/** How much memory 10,000 games in play take. */
function holdMany(): void {
  const held: Environment[] = [];
  for (let seed = 0; seed < 10_000; seed++) {
    const { text, name } = generateGame(`held-${seed % 100}`, { receptacles: 30, objects: 40 });
    const environment = new Environment(new Game(text, name));
    environment.reset();
    held.push(environment);
  }
  const mebibytes = Deno.memoryUsage().rss / 2 ** 20;
  console.log(`\n${held.length} games in play at once: ${mebibytes.toFixed(0)} MiB`);
  const solved = held.slice(0, 100).filter(({ game }) => plan(game) !== undefined).length;
  console.log(`the planner solves ${solved} of 100`);
}
