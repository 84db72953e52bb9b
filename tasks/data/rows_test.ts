import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { parquetWriteBuffer } from "hyparquet-writer";
import { gsm8k, math } from "../mod.ts";
import { chooseFiles } from "./rows.ts";

const problem = (n: number) => ({
  problem: `What is ${n}?`,
  level: "Level 1",
  type: "Algebra",
  solution: `It is $\\boxed{\\frac{${n}}{1}}$.`,
});
const jsonl = (rows: unknown[]) => rows.map((row) => JSON.stringify(row)).join("\n");

function parquet(rows: Record<string, string>[]): Uint8Array {
  const names = Object.keys(rows[0]!);
  const columnData = names.map((name) => ({
    name,
    data: rows.map((row) => row[name]!),
    type: "STRING" as const,
  }));
  return new Uint8Array(parquetWriteBuffer({ columnData }));
}

async function withFolder(
  files: Record<string, string | Uint8Array>,
  run: (path: string) => Promise<void>,
) {
  const path = await mkdtemp(join(tmpdir(), "rows-"));
  try {
    for (const [name, content] of Object.entries(files)) {
      await mkdir(dirname(join(path, name)), { recursive: true });
      await writeFile(join(path, name), content);
    }
    await run(path);
  } finally {
    await rm(path, { recursive: true });
  }
}

const rows = [problem(1), problem(2)];

const forms: Record<string, Record<string, string | Uint8Array>> = {
  "JSON lines": { "test.jsonl": jsonl(rows) },
  "gzipped JSON lines": { "math_test.jsonl.gz": gzipSync(jsonl(rows)) },
  "a JSON file for each problem": {
    "MATH/test/algebra/2.json": JSON.stringify(problem(1)),
    "MATH/test/algebra/10.json": JSON.stringify(problem(2)),
  },
  "parquet": { "test.parquet": parquet(rows) },
  "the hub's shards": {
    "algebra/test-00000-of-00001.parquet": parquet([problem(1)]),
    "geometry/test-00000-of-00001.parquet": parquet([problem(2)]),
  },
};

for (const [name, files] of Object.entries(forms)) {
  Deno.test(`MATH is read from ${name}`, async () => {
    await withFolder(files, async (path) => {
      const queries = await math.queries("test", { path });
      assert.deepEqual(queries.map(({ question, gold }) => [question, gold]), [
        ["What is 1?", "\\frac{1}{1}"],
        ["What is 2?", "\\frac{2}{1}"],
      ]);
      assert.equal((await math.grade(queries[1]!, "so \\boxed{2}")).correct, true);
    });
  });
}

Deno.test("a problem without a boxed answer stops the reading with file and line", async () => {
  await withFolder(
    { "train.jsonl": jsonl([problem(1), { problem: "?", solution: "It is 3." }]) },
    async (path) => {
      await assert.rejects(
        math.queries("train", { path }),
        /math: .*train\.jsonl, line 2: the solution has no \\boxed/,
      );
    },
  );
});

Deno.test("worked examples stand before a question and are asked of nobody", async () => {
  await withFolder({
    "train.jsonl": jsonl([problem(1), problem(2), problem(3)]),
    "test.jsonl": jsonl([problem(4)]),
  }, async (path) => {
    const [query] = await math.queries("test", { path, shots: 1 });
    assert.equal(math.prompt(query!), `What is 1?\n${problem(1).solution}\n\nWhat is 4?\n`);
    const learned = await math.queries("train", { path, shots: 1, validationShare: 0 });
    assert.deepEqual(learned.map(({ question }) => question), ["What is 2?", "What is 3?"]);
  });
});

/** A server on this machine, with the hub's paths; what was asked for is counted. */
async function withServer(run: (url: string, asked: string[]) => Promise<void>) {
  const shard = (n: string) =>
    parquet([{ question: "How many?", answer: `It is ${n}.\n#### ${n}` }]);
  const answers: Record<string, string | Uint8Array> = {
    "/files/test.jsonl": jsonl(rows),
    "/api/datasets/openai/gsm8k/tree/main": JSON.stringify([
      { type: "directory", path: "main" },
      { type: "file", path: "README.md" },
      { type: "file", path: "main/test-00000-of-00001.parquet" },
      { type: "file", path: "socratic/test-00000-of-00001.parquet" },
    ]),
    "/datasets/openai/gsm8k/resolve/main/main/test-00000-of-00001.parquet": shard("7"),
    "/datasets/openai/gsm8k/resolve/main/socratic/test-00000-of-00001.parquet": shard("8"),
  };
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const path = request.url!.replace(/\?.*/, "");
    asked.push(path);
    const status = path === "/broken.jsonl" ? 500 : answers[path] === undefined ? 404 : 200;
    response.writeHead(status).end(answers[path] ?? "");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const cache = await mkdtemp(join(tmpdir(), "cache-"));
  const before = {
    OREO_CACHE: Deno.env.get("OREO_CACHE"),
    HF_ENDPOINT: Deno.env.get("HF_ENDPOINT"),
  };
  Deno.env.set("OREO_CACHE", cache);
  Deno.env.set("HF_ENDPOINT", url);
  try {
    await run(url, asked);
  } finally {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) Deno.env.delete(name);
      else Deno.env.set(name, value);
    }
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await rm(cache, { recursive: true });
  }
}

Deno.test("data is read by URL, a file or a folder, and fetched once", async () => {
  await withServer(async (url, asked) => {
    for (const path of [`${url}/files`, `${url}/files/test.jsonl`, `${url}/files/{split}.jsonl`]) {
      assert.equal((await math.queries("test", { path })).length, 2);
    }
    assert.deepEqual(asked, ["/files/test.jsonl"]);
    await assert.rejects(
      math.queries("train", { path: `${url}/files` }),
      /math: no train file in 'http.*looked for train\.jsonl/,
    );
    await assert.rejects(
      math.queries("test", { path: `${url}/broken.jsonl` }),
      /cannot fetch 'http.*broken\.jsonl': the server answered 500/,
    );
  });
});

Deno.test("data is read by its name on the hub, of the configuration that counts", async () => {
  await withServer(async () => {
    const queries = await gsm8k.queries("test", { path: "openai/gsm8k" });
    assert.deepEqual(queries, [{ id: "gsm8k/test/1", question: "How many?", gold: "7" }]);
    await assert.rejects(
      gsm8k.queries("test", { path: "openai/gsm9k" }),
      /the hub has no data set 'openai\/gsm9k'/,
    );
  });
});

Deno.test("files directly in a folder come before those of its sub-folders", () => {
  const layout = { task: "t", form: "", stems: ["train", "t_train"] };
  assert.deepEqual(chooseFiles(["a/train.jsonl", "t_train.jsonl"], layout), ["t_train.jsonl"]);
  assert.deepEqual(chooseFiles(["a/train.jsonl", "b/train.jsonl.gz"], layout), [
    "a/train.jsonl",
    "b/train.jsonl.gz",
  ]);
  assert.deepEqual(chooseFiles(["test.jsonl"], layout), []);
});
