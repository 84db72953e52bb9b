/** For tests: game files with faults, which must be played or refused with the file, the line and why. */
import assert from "node:assert/strict";
import { UserError } from "../../errors.ts";
import { Random } from "../random.ts";
import { Environment } from "./environment.ts";
import { Game } from "./game.ts";

/** One fault somewhere in a text: a piece lost, doubled, moved, or something strange put in. */
function damaged(text: string, random: Random): string {
  const at = random.integer(0, text.length - 1);
  const length = random.pick([1, 1, 2, 5, 40]);
  const strange = random.pick([
    "(",
    ")",
    '"',
    "{",
    "}",
    "[",
    "#",
    ":",
    ";",
    "?x",
    "-",
    "é",
    "\0",
    "not",
  ]);
  switch (random.integer(0, 4)) {
    case 0:
      return text.slice(0, at) + text.slice(at + length);
    case 1:
      return text.slice(0, at) + strange + text.slice(at);
    case 2:
      return text.slice(0, at);
    case 3:
      return text.slice(0, at) + text.slice(at, at + length) + text.slice(at);
    default: {
      const lines = text.split("\n");
      const [one, other] = [0, 0].map(() => random.integer(0, lines.length - 1));
      lines.splice(one!, 1, lines[other!]!);
      return lines.join("\n");
    }
  }
}

/** The file with a fault in one of its parts, or in its JSON. */
function damagedFile(text: string, random: Random): string {
  const part = random.pick(["file", "pddl_domain", "pddl_problem", "grammar", "type"] as const);
  if (part === "file") return damaged(text, random);
  const fields = JSON.parse(text) as Record<string, unknown>;
  if (part === "type") {
    fields[random.pick(Object.keys(fields))] = random.pick([null, 1, [], {}, ""]);
  } else fields[part] = damaged(fields[part] as string, random);
  return JSON.stringify(fields);
}

/**
 * Damages `count` files and plays those that are accepted.
 * @param file the text of a sound file, by number
 * @returns how many were refused
 */
export function playDamaged(seed: string, count: number, file: (number: number) => string): number {
  const random = Random.from(seed);
  let refused = 0;
  for (let number = 0; number < count; number++) {
    const text = damagedFile(file(number), random);
    const name = `damaged-${number}/game.tw-pddl`;
    const start = performance.now();
    try {
      const environment = new Environment(new Game(text, name), { maxSteps: 40 });
      let { admissibleCommands } = environment.reset();
      for (let step = 0; step < 10 && admissibleCommands.length > 0; step++) {
        ({ admissibleCommands } = environment.step(random.pick(admissibleCommands)));
      }
    } catch (error) {
      assert.ok(
        error instanceof UserError,
        `${name}: ${error instanceof Error ? error.stack : error}`,
      );
      assert.match(
        error.message,
        /damaged-\d+\/game\.tw-pddl.*line \d+: expected /s,
        text.slice(0, 300),
      );
      refused++;
    }
    assert.ok(performance.now() - start < 30_000, `${name} took too long`);
  }
  return refused;
}
