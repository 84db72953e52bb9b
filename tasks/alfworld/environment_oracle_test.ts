import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { sharedFiles } from "../../tests/shared.ts";
import { Environment } from "./environment.ts";
import { loadGameSync } from "./game.ts";

interface Recorded {
  observation: string;
  won: boolean;
  admissible_commands: string[];
  facts_sha1?: string;
}

interface Step extends Recorded {
  command: string;
  reward: number;
  done: boolean;
}

interface Run {
  max_episode_steps?: number;
  initial: Recorded;
  steps: Step[];
  initial_facts?: string[];
  final_facts?: string[];
}

const transcripts = sharedFiles("oracles/alfworld/transcripts", /\.json\.gz$/);

for (const path of transcripts) {
  const { game_file, runs } = JSON.parse(gunzipSync(readFileSync(path)).toString()) as {
    game_file: string;
    runs: Record<string, Run>;
  };
  Deno.test(`${basename(path, ".json.gz")} plays as recorded from the original`, () => {
    const game = loadGameSync(join(dirname(path), "..", "games", game_file));
    for (const [name, run] of Object.entries(runs)) {
      const maxSteps = run.max_episode_steps;
      const environment = new Environment(game, maxSteps === undefined ? {} : { maxSteps });
      const compare = (recorded: Recorded, outcome: Recorded, place: string) => {
        assert.deepEqual(outcome, { ...recorded, facts_sha1: outcome.facts_sha1 }, place);
        if (recorded.facts_sha1 === undefined) return;
        assert.equal(outcome.facts_sha1, recorded.facts_sha1, `${place}: facts`);
      };
      const facts_sha1 = () =>
        createHash("sha1").update(environment.facts().join("\n")).digest("hex");
      const { observation, won, admissibleCommands } = environment.reset();
      const admissible_commands = [...admissibleCommands];
      const start = { observation, won, admissible_commands, facts_sha1: facts_sha1() };
      compare(run.initial, start, `${name}, start`);
      if (run.initial_facts) assert.deepEqual(environment.facts(), run.initial_facts, name);
      for (const [index, step] of run.steps.entries()) {
        const { admissibleCommands, ...rest } = environment.step(step.command);
        const admissible_commands = [...admissibleCommands];
        const { command } = step;
        const outcome = { command, ...rest, admissible_commands, facts_sha1: facts_sha1() };
        compare(step, outcome, `${name}, step ${index + 1}: '${step.command}'`);
      }
      if (run.final_facts) assert.deepEqual(environment.facts(), run.final_facts, name);
    }
  });
}
