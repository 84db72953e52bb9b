import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { type Disk, filesBelow, localDisk } from "./files.ts";
import { CorruptArtifactError, type PublishOptions } from "./store.ts";
import { FolderStore } from "./store_folder.ts";
import { contents, withFixture, workflowOf } from "./testing/fixture.ts";
import { mix } from "./testing/stages.ts";

const options: PublishOptions = {
  kind: "text",
  version: 1,
  lineage: {
    stage: "s",
    stageVersion: 1,
    key: "k",
    params: {},
    seed: 0,
    parents: {},
    code: "",
  },
  values: {},
  consume: true,
};

async function withStore(body: (store: FolderStore, folder: string) => Promise<void>) {
  const folder = await Deno.makeTempDir();
  try {
    await body(new FolderStore(join(folder, "store")), folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function fill(folder: string, files: Record<string, string>): Promise<Map<string, string>> {
  for (const [path, text] of Object.entries(files)) {
    await Deno.mkdir(join(folder, path, ".."), { recursive: true });
    await Deno.writeTextFile(join(folder, path), text);
  }
  return await filesBelow(folder);
}

Deno.test("an artifact comes back as it was, with its manifest", async () => {
  await withStore(async (store, folder) => {
    const files = { "a": "1", "deep/er/b": "2", "empty": "" };
    const id = await store.publish(await fill(join(folder, "in"), files), options);
    await store.materialise(id, join(folder, "out"));
    assert.deepEqual(await contents(join(folder, "out")), files);
    const manifest = await store.manifest(id);
    assert.deepEqual(manifest.files["deep/er/b"]?.size, 1);
    assert.equal(manifest.lineage.stage, "s");
    assert.equal((await Deno.stat(join(folder, "out", "a"))).mode! & 0o222, 0);
    assert.equal(await store.has(id), true);
  });
});

Deno.test("ids tell content and kind apart, and nothing else; equal files are kept once", async () => {
  await withStore(async (store, folder) => {
    const put = async (name: string, files: Record<string, string>, more = {}) =>
      await store.publish(await fill(join(folder, name), files), { ...options, ...more });
    const first = await put("1", { a: "x", b: "x" });
    assert.equal(await put("2", { b: "x", a: "x" }, { values: { n: 1 } }), first);
    assert.notEqual(await put("3", { a: "x", b: "y" }), first);
    assert.notEqual(await put("4", { a: "x", c: "x" }), first);
    assert.notEqual(await put("5", { a: "x", b: "x" }, { kind: "other" }), first);
    assert.notEqual(await put("6", { a: "x", b: "x" }, { version: 2 }), first);
    assert.equal(Object.keys(await contents(join(store.location, "blobs"))).length, 2);
  });
});

Deno.test("files that are not taken away are copied", async () => {
  await withStore(async (store, folder) => {
    const files = await fill(join(folder, "in"), { a: "1" });
    const id = await store.publish(files, { ...options, consume: false });
    await Deno.writeTextFile(join(folder, "in", "a"), "changed");
    await store.materialise(id, join(folder, "out"));
    assert.deepEqual(await contents(join(folder, "out")), { a: "1" });
  });
});

Deno.test("a damaged file is set aside by whoever meets it, and mended when made again", async () => {
  await withStore(async (store, folder) => {
    const id = await store.publish(await fill(join(folder, "in"), { a: "12345" }), options);
    const blobs = join(store.location, "blobs");
    const blob = join(blobs, Object.keys(await contents(blobs))[0]!);
    await Deno.chmod(blob, 0o644);
    await Deno.writeTextFile(blob, "12346");
    assert.equal(await store.has(id), true); // only a hash can tell
    await assert.rejects(store.materialise(id, join(folder, "out")), (error) => {
      assert(error instanceof CorruptArtifactError);
      assert.equal(error.artifact, id);
      assert.match(error.message, /file a of artifact .* was damaged and is set aside/);
      return true;
    });
    assert.equal(await store.has(id), false);
    assert.equal(await store.publish(await fill(join(folder, "in"), { a: "12345" }), options), id);
    await store.materialise(id, join(folder, "out2"));
    // Damage that nobody has met is mended as well by the same content coming again.
    await Deno.chmod(blob, 0o644);
    await Deno.writeTextFile(blob, "xxxxx");
    await store.publish(await fill(join(folder, "in"), { a: "12345" }), options);
    await store.materialise(id, join(folder, "out3"));
  });
});

Deno.test("links in an output are refused by name", async () => {
  await withStore(async (_, folder) => {
    await Deno.symlink("/etc/hosts", join(folder, "link"));
    await assert.rejects(filesBelow(folder), /link is a link or a special file/);
  });
});

/** A disk that takes only so many bytes in all and then is full, after a short write. */
function smallDisk(bytes: number): Disk {
  let left = bytes;
  const take = async (path: string, size: number) => {
    if (size > left) {
      await Deno.writeFile(path, new Uint8Array(left), { createNew: true });
      left = 0;
      throw Object.assign(new Error("No space left on device (os error 28)"), { code: "ENOSPC" });
    }
    left -= size;
  };
  return {
    ...localDisk,
    async writeNew(path, data) {
      await take(path, data.length);
      await localDisk.writeNew(path, data);
    },
    async copyNew(from, to) {
      await take(to, (await Deno.stat(from)).size);
      return await localDisk.copyNew(from, to);
    },
  };
}

Deno.test("a disk that fills up at any byte leaves nothing half-written", async () => {
  await withStore(async (_, folder) => {
    const files = await fill(join(folder, "in"), { a: "1".repeat(400), b: "2".repeat(100) });
    const keep = { ...options, consume: false };
    let full = 0;
    for (let bytes = 0; bytes < 1_500; bytes += 50) {
      const store = new FolderStore(join(folder, `store${bytes}`), smallDisk(bytes));
      try {
        const id = await store.publish(files, keep);
        await store.materialise(id, join(folder, `out${bytes}`));
      } catch (error) {
        assert(error instanceof UserError);
        assert.match(error.message, /the disk is full\. Make room and start again/);
        full++;
        const there = await contents(join(folder, `store${bytes}`));
        const sizes = Object.entries(there).map((
          [path, text],
        ) => [path.split("/")[0], text.length]);
        for (const [place, size] of sizes) {
          assert.equal(place, "blobs");
          assert(size === 400 || size === 100);
        }
      }
    }
    assert(full >= 10 && full < 30);
  });
});

Deno.test("a run on a full disk fails clearly and goes on when there is room", async () => {
  await withFixture(async ({ run, store, journal, folder }) => {
    const chain = workflowOf((w) => {
      const a = w.stage("a", mix, { inputs: { rest: [] } });
      const b = w.stage("b", mix, { inputs: { rest: [a.outputs.text] } });
      w.output("b", b.outputs.text);
    });
    let failures = 0;
    for (;; failures++) {
      const small = new FolderStore(store.location, smallDisk(failures * 100));
      try {
        await run(chain, { store: small });
        break;
      } catch (error) {
        assert(error instanceof UserError);
        assert.match(error.message, /the disk is full/);
        assert.equal((await journal.runs())[0]?.state, "failed");
        await assert.rejects(Deno.stat(join(folder, "out")));
      }
    }
    assert(failures > 5);
    assert.equal((await journal.runs()).length, 1);
  });
});

Deno.test({
  name: "a real file system that is full is told as such",
  ignore: Deno.build.os !== "linux" || Deno.uid() !== 0,
  fn: async () => {
    await withStore(async (_, folder) => {
      const mount = join(folder, "mount");
      await Deno.mkdir(mount);
      const mounted = await new Deno.Command("mount", {
        args: ["-t", "tmpfs", "-o", "size=256k", "tmpfs", mount],
      }).output();
      if (!mounted.success) {
        console.log("skipped: this machine lets nobody mount a tmpfs");
        return;
      }
      try {
        const files = await fill(join(folder, "in"), { a: "1".repeat(1_000_000) });
        const store = new FolderStore(join(mount, "store"));
        await assert.rejects(
          store.publish(files, { ...options, consume: false }),
          /storing .* the disk is full/,
        );
        assert.deepEqual(await contents(join(mount, "store")), {});
      } finally {
        await new Deno.Command("umount", { args: [mount] }).output();
      }
    });
  },
});
