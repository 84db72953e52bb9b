import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UserError } from "../../errors.ts";
import { loadTask, verifiable } from "../mod.ts";

async function withFolder(files: Record<string, string>, run: (path: string) => Promise<void>) {
  const path = await mkdtemp(join(tmpdir(), "own-"));
  try {
    for (const [name, content] of Object.entries(files)) await writeFile(join(path, name), content);
    await run(path);
  } finally {
    await rm(path, { recursive: true });
  }
}

const lines = (...rows: unknown[]) => rows.map((row) => JSON.stringify(row) + "\n").join("");

Deno.test("rows with a question and an answer are a task, graded as its parameter says", async () => {
  const files = {
    "train.jsonl": lines({ question: "1+1?", gold: 2, solution: "1+1 is\n2" }),
    "test.jsonl": lines({ question: "2+2?", gold: 4 }, { question: "3+3?", gold: "6" }),
  };
  await withFolder(files, async (path) => {
    const queries = await verifiable.queries("test", { path, validationShare: 0 });
    assert.deepEqual(queries[0], { id: "verifiable/test/1", question: "2+2?", gold: "4" });
    const [shown] = await verifiable.demonstrations("train", { path, validationShare: 0 });
    assert.equal(shown!.solution, "1+1 is\n2");
    const messages = verifiable.messages(queries[0]!, { path, instruction: "Answer." });
    assert.deepEqual(messages.map(({ role }) => role), ["system", "user"]);
    await assert.rejects(verifiable.demonstrations("test", { path }), /has no field 'solution'/);
  });
});

const graded: [grader: string, gold: string, right: string[], wrong: string[]][] = [
  ["exact", "Paris", ["Paris", "I think:\nParis "], ["paris", "Paris!", "Not Paris"]],
  ["number", "1200", ["#### 1,200", "The answer is 1200.0."], ["1200 or 1300 or 7", "none", "120"]],
  ["math", "\\frac{1}{2}", ["so \\boxed{0.5}", "$\\dfrac12$"], ["\\boxed{2}", ""]],
  ["regex", "(?i)^yes\\b", ["Yes, it does"], ["no", "oh yes"]],
  ["choice", "B", ["\\boxed{B}", "The answer is (B).", "B) blue"], ["A", "blue", "\\boxed{C}"]],
];

for (const [grader, gold, right, wrong] of graded) {
  Deno.test(`grader '${grader}' calls right what is right and wrong what is wrong`, async () => {
    const query = { id: "q", question: "?", gold };
    for (const [texts, correct] of [[right, true], [wrong, false]] as const) {
      for (const text of texts) {
        const grade = await verifiable.grade(query, text, { path: "unused", grader });
        assert.equal(grade.correct, correct, `${text}: ${grade.reason}`);
      }
    }
  });
}

Deno.test("a command grades by JSON lines, and one that fails is an error that names it", async () => {
  const program = `const [line] = (await new Response(Deno.stdin.readable).text()).split("\\n");
    const { gold, completion } = JSON.parse(line);
    console.log(JSON.stringify({ correct: completion.length === Number(gold), reason: "length" }));`;
  await withFolder(
    { "length.js": program, "silent.js": "", "chatty.js": "console.log('hm')" },
    async (path) => {
      const query = { id: "q", question: "?", gold: "3" };
      const grade = (file: string, text: string) =>
        verifiable.grade(query, text, {
          path,
          grader: "command",
          command: [Deno.execPath(), "run", "--no-config", join(path, file)],
        });
      assert.deepEqual(await grade("length.js", "abc"), {
        correct: true,
        extracted: null,
        reason: "length",
      });
      assert.equal((await grade("length.js", "abcd")).correct, false);
      await assert.rejects(
        grade("silent.js", "abc"),
        /silent\.js' answered nothing and ended with code 0/,
      );
      await assert.rejects(grade("chatty.js", "abc"), /answered 'hm'; expected/);
      const none = { path, grader: "command", command: ["no-such-program-here"] };
      await assert.rejects(
        verifiable.grade(query, "x", none),
        /'no-such-program-here' cannot be run/,
      );
      await assert.rejects(
        verifiable.grade(query, "x", { path, grader: "command" }),
        /needs parameter 'command'/,
      );
    },
  );
});

Deno.test("a bad row and a bad pattern are errors that say where and what", async () => {
  await withFolder({ "train.jsonl": lines({ question: "?" }) }, async (path) => {
    await assert.rejects(verifiable.queries("train", { path }), (error) => {
      assert.ok(error instanceof UserError);
      assert.match(error.message, /train\.jsonl, line 1: field 'gold': .*expected \{"question"/);
      return true;
    });
  });
  const query = { id: "q", question: "?", gold: "(" };
  await assert.rejects(
    verifiable.grade(query, "x", { path: "unused", grader: "regex" }),
    /'\(' is no pattern/,
  );
});

Deno.test("the task file of the guide loads and does what the guide says", async () => {
  const guide = await Deno.readTextFile(new URL("../../docs/tasks.md", import.meta.url));
  const example = /```ts\n([\s\S]*?)```/.exec(guide)![1]!;
  const here = (path: string) => new URL(path, import.meta.url).href;
  const code = example.replace(/"\.\/tasks\/mod\.ts"/, JSON.stringify(here("../mod.ts")))
    .replace('"zod"', JSON.stringify(import.meta.resolve("zod")));
  await withFolder({ "capitals.ts": code, "nothing.ts": "export default 5;" }, async (path) => {
    const task = await loadTask(join(path, "capitals.ts"));
    const [query] = await task.queries("train", { count: 1 });
    assert.equal(query!.gold, "Paris");
    assert.equal((await task.grade(query!, " Paris\n")).correct, true);
    assert.equal((await task.grade(query!, "Rome")).correct, false);
    await assert.rejects(loadTask(join(path, "nothing.ts")), /exports no task/);
    await assert.rejects(loadTask(join(path, "absent.ts")), /cannot load task file/);
  });
});
