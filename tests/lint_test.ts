/**
 * The workflows, the container file and the shell script under their own linters, where these are
 * installed (`.ci/run` installs them); a linter that is not there is named and its test is ignored.
 */
import assert from "node:assert/strict";
import { listFiles, root } from "../tools/repository.ts";

function installed(command: string): boolean {
  try {
    return new Deno.Command(command, { args: ["--version"], stdout: "null", stderr: "null" })
      .outputSync().success;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    console.log(`skipped: ${command} is not installed`);
    return false;
  }
}

const linters: Readonly<Record<string, (path: string) => boolean>> = {
  actionlint: (path) => /^\.github\/workflows\/[^/]+\.ya?ml$/.test(path),
  hadolint: (path) => /(?:^|\/)Containerfile/.test(path),
  shellcheck: (path) => path === ".ci/run" || path.endsWith(".sh"),
};

for (const [linter, concerns] of Object.entries(linters)) {
  Deno.test({
    name: `${linter} finds nothing`,
    ignore: !installed(linter),
    fn: async () => {
      const files = listFiles(concerns);
      assert.ok(files.length > 0, `no files for ${linter}`);
      const { code, stdout, stderr } = await new Deno.Command(linter, { args: files, cwd: root })
        .output();
      const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
      assert.equal(code, 0, text);
    },
  });
}

Deno.test("every action of the workflows is pinned to a commit", async () => {
  for (const file of listFiles(linters["actionlint"]!)) {
    for (
      const [, action] of (await Deno.readTextFile(`${root}/${file}`)).matchAll(/uses: (\S+)/g)
    ) {
      assert.match(action!, /^\.\/|@[0-9a-f]{40}$/, `${file}: ${action}`);
    }
  }
});
