import assert from "node:assert/strict";
import { UserError } from "../../errors.ts";
import { Random } from "../random.ts";
import { Environment } from "./environment.ts";
import { Game } from "./game.ts";
import { generateGame } from "./generate.ts";

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

Deno.test("2,000 damaged game files are played or refused with the file, the line and the reason", () => {
  const random = Random.from("fuzz");
  let refused = 0;
  for (let number = 0; number < 2000; number++) {
    const text = damagedFile(generateGame(`${number % 50}`).text, random);
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
  assert.ok(refused > 500, `only ${refused} were refused`);
});

Deno.test("a message tells the file, the part, the line, what was expected and what was found", () => {
  const fields = JSON.parse(generateGame("1").text) as Record<string, string>;
  const refuse = (changes: Record<string, unknown>, expected: RegExp) =>
    assert.throws(() => {
      const game = new Game(JSON.stringify({ ...fields, ...changes }), "g.tw-pddl");
      const environment = new Environment(game);
      environment.reset();
      environment.step("inventory");
    }, { name: "UserError", message: expected });
  const replaced = (part: string, from: string, to: string) => ({
    [part]: fields[part]!.replace(from, to),
  });
  refuse(
    replaced("pddl_domain", "(atLocation ?a ?l)", "(atLokation ?a ?l)"),
    /^cannot read g\.tw-pddl: pddl_domain, line 30: expected a declared predicate such as 'atlocation', found 'atlokation'$/,
  );
  refuse(
    replaced("pddl_problem", "(:goal", "(:gaol"),
    /pddl_problem, line \d+: expected :domain, /,
  );
  refuse(replaced("grammar", '"rhs"', '"rsh"'), /grammar, line \d+: expected rules with "rhs"/);
  const followed: [from: string, to: string, expected: RegExp][] = [
    [
      "#inventory.feedback#",
      "#inventry#",
      /grammar, line \d+: expected a rule 'inventry', found none$/,
    ],
    ["action inventory", "action invent", /line \d+: expected an action 'inventory', found none$/],
    [
      '"rhs": "You are not carrying anything."',
      '"rhs": "{x.name}"',
      /^g\.tw-pddl: grammar, line \d+: expected something called 'x', found nothing, in '\{x.name\}'$/,
    ],
    [
      '"rhs": "You are not carrying anything."',
      '"rhs": "#inventory.feedback#"',
      /line \d+: expected rules that come to an end, found none at 'inventory.feedback'$/,
    ],
  ];
  for (const [from, to, expected] of followed) {
    assert.ok(fields.grammar!.includes(from), from);
    refuse(replaced("grammar", from, to), expected);
  }
  refuse({ pddl_domain: 3 }, /g\.tw-pddl, line 1: expected a text "pddl_domain", found '3'/);
  assert.throws(() => new Game("{", "g.tw-pddl"), /g\.tw-pddl, line 1: expected JSON/);
});
