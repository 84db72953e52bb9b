import assert from "node:assert/strict";
import { checkContent, checkLength, longFile } from "./hygiene.ts";

Deno.test("registry addresses and machine paths are found, and the line told", () => {
  const registry = ["registry", "npmjs", "org"].join(".");
  const path = ["", "home", "someone", "model"].join("/");
  assert.match(
    checkContent("a.ts", `one\nfetch("https://${registry}/x")`)[0]!,
    /^a\.ts:2: a package/,
  );
  assert.match(checkContent("a.ts", path)[0]!, /^a\.ts:1: a path of one machine/);
  assert.deepEqual(checkContent("a.ts", "npm:zod, ./home/page.ts and /tmp/x"), []);
});

Deno.test("a file is long above its limit, not at it", () => {
  assert.equal(checkLength("a.ts", "x\n".repeat(longFile)), undefined);
  assert.match(checkLength("a.ts", "x\n".repeat(longFile + 1))!, /has 451 lines/);
});
