import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import * as path from "node:path";
import { UserError } from "../errors.ts";
import { cacheFolder, cpuPlugin, pluginAt } from "./plugin.ts";

const linux = Deno.build.os === "linux" && Deno.build.arch === "x86_64";

/** Runs `fn` with other environment variables. */
async function withEnv(values: Record<string, string>, fn: () => Promise<void> | void) {
  const before = Object.keys(values).map((name) => [name, Deno.env.get(name)] as const);
  for (const [name, value] of Object.entries(values)) Deno.env.set(name, value);
  try {
    await fn();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) Deno.env.delete(name);
      else Deno.env.set(name, value);
    }
  }
}

/** A folder with a `python3` that is the given shell script. */
function fakePython(folder: string, script: string): string {
  const bin = path.join(folder, "bin");
  Deno.mkdirSync(bin, { recursive: true });
  Deno.writeTextFileSync(path.join(bin, "python3"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return bin;
}

/** What `cpuPlugin` announced when it last failed. */
const said: string[] = [];

async function failsWith(script: string | undefined, message: RegExp): Promise<void> {
  const folder = Deno.makeTempDirSync();
  try {
    const bin = script === undefined ? folder : fakePython(folder, script);
    const search = script === undefined ? bin : `${bin}:${Deno.env.get("PATH")}`;
    await withEnv({ OREO_CACHE: folder, PATH: search }, async () => {
      said.length = 0;
      await assert.rejects(() => cpuPlugin((line) => said.push(line)), (error: Error) => {
        assert.ok(error instanceof UserError);
        assert.match(error.message, message);
        assert.ok(!error.message.includes("\n"), "one line");
        return true;
      });
    });
    const plugins = path.join(folder, "plugins");
    assert.deepEqual(existsSync(plugins) ? [...Deno.readDirSync(plugins)] : [], []);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

Deno.test({
  name: "without python3 the reason is one line and nothing is left behind",
  ignore: !linux,
  fn: async () => {
    await failsWith(undefined, /fetched with pip, and there is no python3/);
    assert.deepEqual(said, []);
  },
});

Deno.test({
  name: "without pip nothing is announced that cannot be",
  ignore: !linux,
  fn: async () => {
    await failsWith(`echo "No module named pip" >&2; exit 1`, /this python3 has no pip/);
    assert.deepEqual(said, []);
  },
});

Deno.test({
  name: "pip's own error is passed on in one line",
  ignore: !linux,
  fn: () =>
    failsWith(
      `[ "$1" = -c ] && exit 0; echo "WARNING: retrying" >&2; echo "ERROR: No matching distribution" >&2; exit 1`,
      /pip could not fetch the XLA CPU plugin: ERROR: No matching distribution/,
    ),
});

Deno.test({
  name: "a wheel of another content is refused by its hash",
  ignore: !linux,
  fn: () =>
    failsWith(
      `[ "$1" = -c ] && exit 0; while [ "$1" != --dest ]; do shift; done; echo fake > "$2/plugin.whl"`,
      /file with SHA-256 [0-9a-f]{64} for xla-cpu-pjrt==0\.0\.1, expected 55837b6b/,
    ),
});

Deno.test({
  name: "a cache folder that cannot be made is named",
  ignore: !linux,
  fn: () =>
    withEnv({ OREO_CACHE: "/dev/null/cache" }, () =>
      assert.rejects(
        () => cpuPlugin(() => {}),
        (error: Error) =>
          error instanceof UserError && /in \/dev\/null\/cache\/.*OREO_CACHE/.test(error.message),
      )),
});

Deno.test("the cache folder is OREO_CACHE where set", async () => {
  await withEnv({ OREO_CACHE: "/some/where" }, () => assert.equal(cacheFolder(), "/some/where"));
  await withEnv({ OREO_CACHE: "", XDG_CACHE_HOME: "/x" }, () => {
    assert.equal(cacheFolder(), "/x/oreo");
  });
});

Deno.test("a plugin's identity changes with its file", () => {
  const file = Deno.makeTempFileSync();
  try {
    Deno.writeTextFileSync(file, "one");
    const first = pluginAt(file).identity;
    Deno.writeTextFileSync(file, "three");
    assert.notEqual(pluginAt(file).identity, first);
  } finally {
    Deno.removeSync(file);
  }
  assert.throws(
    () => pluginAt("/nowhere/plugin.so"),
    /'\/nowhere\/plugin.so': there is no such file/,
  );
});
