import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { generateGame } from "./generate.ts";
import { alfworld } from "./task.ts";

Deno.test("a folder's splits are its folders, without what the original leaves out", async () => {
  const root = await Deno.makeTempDir();
  try {
    const { text } = generateGame("folder");
    const put = async (path: string, content = text) => {
      await Deno.mkdir(dirname(join(root, path)), { recursive: true });
      await Deno.writeTextFile(join(root, path), content);
    };
    await put("valid_seen/pick_and_place_simple-Mug-None-Desk-1/trial_1/game.tw-pddl");
    await put("valid_unseen/pick_two_obj_and_place-Mug-None-Desk-2/trial_1/game.tw-pddl");
    await put("valid_unseen/pick_and_place_simple-AppleSliced-None-Desk-2/trial_1/game.tw-pddl");
    await put("valid_unseen/pick_and_place_with_movable_recep-Mug-Pan-Desk-2/t/game.tw-pddl");
    await put(
      "valid_unseen/look_at_obj_in_light-Mug-None-DeskLamp-2/t/game.tw-pddl",
      JSON.stringify({ ...JSON.parse(text), solvable: false }),
    );
    const { solvable: _, ...unmarked } = JSON.parse(text);
    await put(
      "valid_unseen/look_at_obj_in_light-Mug-None-DeskLamp-3/t/game.tw-pddl",
      JSON.stringify(unmarked),
    );
    for (let n = 0; n < 100; n++) {
      await put(`train/pick_and_place_simple-Mug-None-Desk-${n}/trial_1/game.tw-pddl`);
    }
    const seen = await alfworld.queries("test", { path: root, rooms: "seen" });
    assert.deepEqual(seen.map(({ group }) => group), ["pick_and_place_simple"]);
    const unseen = await alfworld.queries("test", { path: root });
    assert.deepEqual(unseen.map(({ group }) => group), ["pick_two_obj_and_place"]);
    const ids = async (split: "train" | "validation") =>
      (await alfworld.queries(split, { path: root })).map(({ id }) => id);
    const [train, validation] = [await ids("train"), await ids("validation")];
    assert.equal(new Set([...train, ...validation]).size, 100);
    assert.ok(validation.length >= 1 && validation.length <= 10, `${validation.length}`);
    const episode = await alfworld.agent!.begin(unseen[0]!, { path: root });
    assert.match(episode.messages.at(-1)!.content, /Your task is to/);
    await put("valid_seen/pick_and_place_simple-Mug-None-Desk-2/t/game.tw-pddl", "{\n]");
    await assert.rejects(
      () => alfworld.queries("test", { path: root, rooms: "seen" }),
      /Desk-2\/t\/game\.tw-pddl, line 2: expected JSON/,
    );
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("generated splits have no game in common and every type alike", async () => {
  const params = { world: { train: 12, validation: 12, test: 12 } };
  const all = await Promise.all(
    (["train", "validation", "test"] as const).map((split) => alfworld.queries(split, params)),
  );
  assert.equal(new Set(all.flat().map(({ id }) => id)).size, 36);
  assert.equal(all[0]!.filter(({ group }) => group === "pick_two_obj_and_place").length, 2);
});

Deno.test("a missing folder is named", async () => {
  await assert.rejects(() => alfworld.queries("train", { path: "/nowhere" }), /nowhere.*train/);
});
