import assert from "node:assert/strict";
import { checkDocument, type Surroundings, surroundings } from "./docs.ts";
import { listFiles, root } from "./repository.ts";

const house: Surroundings = {
  tasks: new Set(["test", "test:golden"]),
  exists: (path) => ["README.md", "docs/guide.md", "xla/mod.ts"].includes(path),
  read: () => "# The guide\n## Two `words`, (three)\n```\n# not a heading\n```\n",
};

const check = (text: string) => checkDocument("README.md", text, house);

Deno.test("the documents of this repository promise nothing that is not there", () => {
  const around = surroundings(root);
  const documents = listFiles((path) => path.endsWith(".md"));
  assert.ok(documents.includes("README.md"));
  assert.deepEqual(documents.flatMap((file) => checkDocument(file, around.read(file), around)), []);
});

Deno.test("links to files, headings and other sites pass; broken ones are named with their line", () => {
  const good = "[a](docs/guide.md) [b](docs/guide.md#two-words-three) [c](https://example.org/x)";
  assert.deepEqual(check(good), []);
  assert.deepEqual(check("one\n[a](docs/gone.md)"), [
    "README.md:2: link to 'docs/gone.md': there is no docs/gone.md",
  ]);
  assert.match(check("[a](docs/guide.md#not-a-heading)")[0]!, /has no heading '#not-a-heading'/);
});

Deno.test("a task that deno.json lacks is named, in code too", () => {
  assert.deepEqual(check("```sh\nnpx deno@2.9.6 task test\ndeno task test:golden\n```"), []);
  assert.deepEqual(check("run\n`deno task tset`"), [
    "README.md:2: 'deno task tset' is not in deno.json",
  ]);
});

Deno.test("a path in code marks must exist; the same in a code block is let be", () => {
  assert.deepEqual(check("`xla/mod.ts`\n```\n`xla/gone.ts`\n```"), []);
  assert.deepEqual(check("`xla/gone.ts`"), ["README.md:1: there is no 'xla/gone.ts'"]);
});
