import assert from "node:assert/strict";
import { UserError } from "../../errors.ts";
import { formatConversations, parseConversations } from "./conversations.ts";

Deno.test("both published forms are read", () => {
  const text = JSON.stringify([
    { id: 7, conversations: [{ from: "human", value: "a" }, { from: "gpt", value: "b" }] },
    {
      conversations: [{ role: "user", content: "a" }, { role: "assistant", content: "b" }],
      reward: 1,
    },
  ]);
  const messages = [{ role: "user", content: "a" }, { role: "assistant", content: "b" }];
  assert.deepEqual(parseConversations(text, "x.json"), [
    { id: "7", messages, reward: undefined },
    { id: "1", messages, reward: 1 },
  ]);
});

Deno.test("trajectories as the authors' programs save them are read, one a file, won or not", () => {
  const conversations = [{ role: "user", content: "a" }, { role: "assistant", content: "b" }];
  for (const [given, reward] of [[true, 1], [false, 0], [1, 1], [null, undefined]] as const) {
    const text = JSON.stringify({ meta: { reward: given, invalid: false }, conversations });
    assert.deepEqual(parseConversations(text, "0_1.json"), [
      { id: "0", messages: conversations, reward },
    ]);
  }
});

Deno.test("what is written is read again", () => {
  const one = {
    id: "game",
    messages: [{ role: "user", content: "a" }, { role: "assistant", content: "b" }] as const,
    reward: 0,
  };
  assert.deepEqual(parseConversations(formatConversations([one]), "x.json"), [
    { ...one, messages: [...one.messages] },
  ]);
});

Deno.test("a malformed file is refused with its name and the place", () => {
  const bad = [["[", /x\.json: not JSON/], [
    '[{"conversations": 3}]',
    /x\.json: 0\.conversations/,
  ]] as const;
  for (const [text, message] of bad) {
    assert.throws(() => parseConversations(text, "x.json"), (error: Error) => {
      assert.ok(error instanceof UserError);
      assert.match(error.message, message);
      return true;
    });
  }
});
