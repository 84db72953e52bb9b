import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import {
  actionStarts,
  readTrajectories,
  type Trajectory,
  writeTrajectories,
} from "./trajectory.ts";

const trajectory: Trajectory = {
  version: 1,
  query: "q1",
  prompt: "1+1=",
  promptIds: [3, 4],
  responseIds: [5, 6, 7, 8, 9],
  stepEnds: [1, 4],
  reward: 1,
  refLogProbs: [-1, -0.5, -0.25, -2, -0.125],
  source: "test",
};

async function withFile(text: string, body: (path: string) => Promise<void>) {
  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "data.jsonl");
    await Deno.writeTextFile(path, text);
    await body(path);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("what is written is read back", () =>
  withFile("", async (path) => {
    const many = Array.from({ length: 3000 }, (_, i) => ({ ...trajectory, query: `q${i}` }));
    await writeTrajectories(path, many);
    assert.deepEqual(await readTrajectories(path), many);
  }));

Deno.test("writing where no file can be is an error, not a hang", async () => {
  await assert.rejects(writeTrajectories("/no/such/folder/data.jsonl", [trajectory]), /ENOENT/);
});

for (
  const [name, line, message] of [
    ["text that is not JSON", "{", /data\.jsonl:2: not JSON/],
    ["a missing field", '{"query":"a"}', /data\.jsonl:2: not a trajectory: prompt: /],
    ["an unknown field", JSON.stringify({ ...trajectory, rewrad: 1 }), /rewrad/],
    ["a reward of 2", JSON.stringify({ ...trajectory, reward: 2 }), /reward/],
    [
      "log-probabilities of another length",
      JSON.stringify({ ...trajectory, refLogProbs: [0] }),
      /refLogProbs: has 1 entries for a response of 5 tokens/,
    ],
    ["a step that ends outside", JSON.stringify({ ...trajectory, stepEnds: [5] }), /stepEnds\.0/],
    [
      "a response without an action",
      JSON.stringify({ ...trajectory, actionMask: [0, 0, 0, 0, 0] }),
      /actionMask: has no action/,
    ],
    [
      "a record of a newer version",
      JSON.stringify({ ...trajectory, version: 2 }),
      /data\.jsonl:2: a trajectory of version 2; this release reads up to 1/,
    ],
  ] as const
) {
  Deno.test(`${name} is refused with file and line`, () =>
    withFile(`${JSON.stringify(trajectory)}\n${line}\n`, async (path) => {
      await assert.rejects(readTrajectories(path), (error) => {
        assert.ok(error instanceof UserError);
        assert.match(error.message, message);
        return true;
      });
    }));
}

Deno.test("a missing file and an empty file are errors that name the path", async () => {
  await assert.rejects(readTrajectories("/no/such/file.jsonl"), /no\/such\/file\.jsonl/);
  await withFile("\n", (path) => assert.rejects(readTrajectories(path), /holds no trajectory/));
});

Deno.test("tokens start actions where the mask says, steps at their first action", () => {
  assert.deepEqual(actionStarts(trajectory, "token"), [0, 1, 2, 3, 4]);
  assert.deepEqual(actionStarts(trajectory, "step"), [0, 2]);
  const turns = { ...trajectory, actionMask: [1, 1, 0, 0, 1] as (0 | 1)[], stepEnds: [1, 2, 4] };
  assert.deepEqual(actionStarts(turns, "token"), [0, 1, 4]);
  assert.deepEqual(actionStarts(turns, "step"), [0, 4]);
});
