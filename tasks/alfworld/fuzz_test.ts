import assert from "node:assert/strict";
import { playDamaged } from "./damaged_games.ts";
import { Environment } from "./environment.ts";
import { Game } from "./game.ts";
import { generateGame } from "./generate.ts";

Deno.test("2,000 damaged game files are played or refused with the file, the line and the reason", () => {
  const refused = playDamaged("fuzz", 2000, (number) => generateGame(`${number % 50}`).text);
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
