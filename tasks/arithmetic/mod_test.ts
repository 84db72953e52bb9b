import assert from "node:assert/strict";
import { UserError } from "../../errors.ts";
import { splitSteps } from "../steps.ts";
import { splits } from "../task.ts";
import { arithmetic } from "./mod.ts";
import { parseProblem } from "./problem.ts";
import { rounded } from "./solution.ts";

const small = { train: 300, validation: 100, test: 100 };

Deno.test("the same seed makes the same problems and solutions, another seed others", async () => {
  const first = await arithmetic.demonstrations("train", small);
  assert.deepEqual(await arithmetic.demonstrations("train", small), first);
  const other = await arithmetic.demonstrations("train", { ...small, seed: 1 });
  assert.notDeepEqual(other, first);
});

Deno.test("a larger split begins with the queries of a smaller one", async () => {
  const few = await arithmetic.queries("train", { train: 50 });
  const more = await arithmetic.queries("train", { train: 80 });
  assert.deepEqual(more.slice(0, 50), few);
});

Deno.test("no problem is in two splits, not even under another seed", async () => {
  const home = new Map<string, string>();
  for (const seed of [0, 1, 2]) {
    for (const split of splits) {
      for (const query of await arithmetic.queries(split, { ...small, seed, difficulty: 1 })) {
        assert.equal(home.get(query.question) ?? split, split, query.question);
        home.set(query.question, split);
      }
    }
  }
  assert.ok(home.size > 500);
});

Deno.test("query ids are unique within a split", async () => {
  const ids = (await arithmetic.queries("train", small)).map((query) => query.id);
  assert.equal(new Set(ids).size, 300);
});

Deno.test("every line of every demonstration adds the next number, as it is or rounded", async () => {
  for (const difficulty of [1, 2, 3, 4, 5]) {
    for (
      const { query, solution } of await arithmetic.demonstrations("train", {
        ...small,
        difficulty,
      })
    ) {
      const { numbers } = parseProblem(query.question);
      const lines = solution.split("\n");
      let total = 0;
      let off = 0;
      for (const [i, number] of numbers.entries()) {
        const [, sign, away, after] = /^([+~])(-?\d+) (\d+)$/.exec(lines[i]!)!;
        const added = sign === "+" ? number : rounded(number);
        total += added;
        off += added - number;
        assert.deepEqual([Number(after), Number(away)], [total, off], lines[i]!);
      }
      assert.deepEqual(lines.slice(numbers.length), [`#### ${total}`]);
      assert.equal(Number(query.gold), numbers.reduce((sum, number) => sum + number, 0));
    }
  }
});

Deno.test("an answer is right when it is within the tolerance that the problem states", async () => {
  const query = { id: "q", question: "add 7 3 9 4 8 within 2", gold: "31" };
  const verdict = async (text: string) => (await arithmetic.grade(query, text)).correct;
  for (const right of ["29", "31", "33", "31.0"]) assert.ok(await verdict(`+0 7\n#### ${right}`));
  for (const wrong of ["28", "34", "-31", "about 31", ""]) {
    assert.ok(!await verdict(`0+7=7\n#### ${wrong}`), wrong);
  }
  assert.ok(!await verdict("31"));
  assert.deepEqual(await arithmetic.grade(query, "#### 28"), {
    correct: false,
    extracted: "28",
    reason: "off by 3",
  });
});

Deno.test("haste is the worse habit: care alone is always right, haste alone about half the time", async () => {
  const share = async (care: number) => {
    const worked = await arithmetic.demonstrations("train", { train: 1000, care });
    const grades = await Promise.all(
      worked.map(({ query, solution }) => arithmetic.grade(query, solution)),
    );
    return grades.filter(({ correct }) => correct).length / grades.length;
  };
  assert.equal(await share(1), 1);
  const hasty = await share(0);
  assert.ok(hasty > 0.45 && hasty < 0.65, `${hasty}`);
});

Deno.test("a solution has 3 to 8 steps before its answer and grows with the difficulty", async () => {
  const means = [];
  for (const difficulty of [1, 2, 3, 4, 5]) {
    const demonstrations = await arithmetic.demonstrations("test", { ...small, difficulty });
    const steps = demonstrations.map(({ solution }) =>
      splitSteps(solution, arithmetic.stepDelimiters).length - 1
    );
    assert.ok(Math.min(...steps) >= 3 && Math.max(...steps) <= 8, `${steps}`);
    means.push(steps.reduce((sum, count) => sum + count, 0) / steps.length);
  }
  assert.deepEqual(means.toSorted((a, b) => a - b), means);
});

Deno.test("the share of careful lines is the care asked for, 0 and 1 included", async () => {
  for (const care of [0, 0.25, 1]) {
    const demonstrations = await arithmetic.demonstrations("train", { train: 1000, care });
    const lines = demonstrations.flatMap(({ solution }) => solution.split("\n").slice(0, -1));
    const share = lines.filter((line) => line.includes("+")).length / lines.length;
    assert.ok(Math.abs(share - care) < 0.03, `${share} for ${care}`);
  }
});

Deno.test("prompts and solutions are made of the task's alphabet", async () => {
  const alphabet = new Set(await arithmetic.alphabet());
  for (const difficulty of [1, 5]) {
    for (
      const { prompt, solution } of await arithmetic.demonstrations("train", {
        ...small,
        difficulty,
      })
    ) {
      for (const character of prompt + solution) assert.ok(alphabet.has(character), character);
    }
  }
});

Deno.test("a wrong parameter is a usage error that names it and the nearest right one", async () => {
  const fails = (params: Record<string, unknown>, message: RegExp) =>
    assert.rejects(arithmetic.queries("train", params), (error) => {
      assert.ok(error instanceof UserError && error.exitCode === 2);
      assert.match(error.message, message);
      return true;
    });
  await fails({ dificulty: 3 }, /unknown parameter of task 'arithmetic' 'dificulty'.*'difficulty'/);
  await fails({ difficulty: 9 }, /'difficulty' = 9/);
  await fails({ care: 2 }, /'care' = 2/);
});

Deno.test("more problems than a split holds is an error that says how many there are", async () => {
  await assert.rejects(
    arithmetic.queries("test", { difficulty: 1, test: 1_000_000 }),
    /cannot make 1000000 different test problems, found \d+: ask for fewer or raise the difficulty/,
  );
});
