/** Loading by name, from a server on this machine that answers as the hub does. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Hono } from "hono";
import { UserError } from "../errors.ts";
import { tf, useBackend } from "../xla/mod.ts";
import { parseConfig } from "./config.ts";
import { type HubOptions, modelPath } from "./hub.ts";
import { loadModel, saveModel } from "./model.ts";
import { charTokenizer } from "./small_tokenizers.ts";
import { initParams } from "./transformer.ts";

await useBackend();

const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const config = parseConfig({
  model_type: "qwen2",
  vocab_size: 16,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  tie_word_embeddings: true,
});

/** A hub with one model, what it was asked for, and what it does wrong. */
class Hub {
  readonly files = new Map<string, Uint8Array<ArrayBuffer>>();
  readonly asked: { path: string; range: string | undefined; token: string | undefined }[] = [];
  token: string | undefined;
  /** Bytes after which a download of weights breaks off, once. */
  breakAt: number | undefined;
  corrupt = false;
  /** Before it answers, as if it could not be reached. */
  down = false;

  readonly app = new Hono();

  constructor() {
    this.app.use(async (c, next) => {
      const header = c.req.header("authorization");
      const range = c.req.header("range");
      this.asked.push({ path: c.req.path, range, token: header?.replace("Bearer ", "") });
      if (this.token !== undefined && header !== `Bearer ${this.token}`) {
        return c.json({ error: "Invalid credentials" }, 401);
      }
      await next();
    });
    this.app.get(
      "/api/models/acme/tiny/revision/:revision",
      (c) =>
        ["main", "v1", COMMIT].includes(c.req.param("revision"))
          ? c.json({ _id: "1", id: "acme/tiny", sha: COMMIT, lastModified: "2026-01-01" })
          : c.json({ error: "Revision not found" }, 404),
    );
    this.app.get(
      "/api/models/acme/tiny/tree/:revision",
      (c) =>
        c.json([...this.files].map(([path, bytes]) => {
          const sha1 = createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest(
            "hex",
          );
          const oid = createHash("sha256").update(bytes).digest("hex");
          const lfs = { oid, size: bytes.length, pointerSize: 130 };
          const large = path.endsWith(".safetensors");
          return { type: "file", path, size: bytes.length, oid: sha1, ...(large ? { lfs } : {}) };
        })),
    );
    this.app.get("/acme/tiny/resolve/:revision/:path", (c) => {
      let bytes = this.files.get(c.req.param("path"));
      if (bytes === undefined) return c.json({ error: "none" }, 404);
      const match = /^bytes=(\d+)-(\d+)$/.exec(c.req.header("range") ?? "");
      const [from, to] = match === null
        ? [0, bytes.length]
        : [Number(match[1]), Math.min(bytes.length, Number(match[2]) + 1)];
      const headers: Record<string, string> = {
        etag: '"x"',
        "content-range": `bytes ${from}-${to - 1}/${bytes.length}`,
        "content-length": String(to - from),
      };
      if (this.corrupt && c.req.path.endsWith(".safetensors")) bytes = bytes.map((b) => b ^ 1);
      const part = bytes.slice(from, to);
      if (this.breakAt === undefined || part.length <= this.breakAt) {
        return new Response(part, { status: 206, headers });
      }
      const cut = part.slice(0, this.breakAt);
      this.breakAt = undefined;
      let sent = false;
      const body = new ReadableStream({
        pull(controller) {
          if (sent) controller.error(new Error("gone"));
          else controller.enqueue(cut);
          sent = true;
        },
      });
      return new Response(body, { status: 206, headers });
    });
  }
}

async function withHub(
  body: (
    hub: Hub,
    options: HubOptions & { cacheDir: string },
    stop: () => Promise<void>,
  ) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "oreo-hub-"));
  const hub = new Hub();
  const params = initParams(config, 1);
  await saveModel(join(folder, "made"), { config, params, tokenizer: charTokenizer("0123456789") });
  tf.dispose(params);
  for (const name of await readdir(join(folder, "made"))) {
    hub.files.set(name, new Uint8Array(await readFile(join(folder, "made", name))));
  }
  hub.files.set("README.md", new TextEncoder().encode("# tiny"));
  hub.files.set("pytorch_model.bin", new Uint8Array(100));
  const server = Deno.serve(
    {
      hostname: "127.0.0.1",
      port: 0,
      onListen() {},
      onError: () => new Response(null, { status: 500 }),
    },
    hub.app.fetch,
  );
  const options = {
    url: `http://127.0.0.1:${server.addr.port}`,
    cacheDir: join(folder, "cache"),
    log: () => {},
  };
  try {
    await body(hub, options, () => server.shutdown());
  } finally {
    await server.shutdown().catch(() => {});
    await rm(folder, { recursive: true });
  }
}

const weights = (hub: Hub) => hub.asked.filter(({ path }) => path.endsWith("model.safetensors"));

Deno.test("a model loads by its name, with a token; the second time no file is asked for", async () => {
  await withHub(async (hub, options) => {
    hub.token = "hf_secret";
    await assert.rejects(loadModel("acme/tiny", { hub: options }), (error) => {
      assert.ok(error instanceof UserError);
      assert.match(error.message, /cannot get acme\/tiny@main.*401.*HF_TOKEN/);
      return true;
    });
    const hubOptions = { ...options, token: "hf_secret" };
    const model = await loadModel("acme/tiny", { hub: hubOptions });
    assert.equal(model.config.hiddenSize, 32);
    assert.deepEqual(model.tokenizer!.encode("12"), charTokenizer("0123456789").encode("12"));
    const names = hub.asked.map(({ path }) => path);
    assert.ok(!names.some((path) => /README|pytorch_model/.test(path)), "only what is needed");
    const before = names.length;
    const again = await loadModel("acme/tiny@v1", { hub: hubOptions });
    const later = hub.asked.slice(before).map(({ path }) => path);
    assert.ok(later.every((path) => path.startsWith("/api/")), later.join());
    tf.dispose([model.params, again.params]);
  });
});

Deno.test("a download that breaks off goes on at the byte where it ended", async () => {
  await withHub(async (hub, options) => {
    hub.breakAt = 5000;
    const folder = await modelPath("acme/tiny", options);
    const got = await readFile(join(folder, "model.safetensors"));
    assert.deepEqual(new Uint8Array(got), hub.files.get("model.safetensors"));
    const ranges = weights(hub).map(({ range }) => range);
    const resumed = ranges.some((range) => /^bytes=[1-9]\d*-/.test(range ?? ""));
    assert.ok(resumed, ranges.join("; "));
  });
});

Deno.test("what a killed process left of a file is kept and completed", async () => {
  await withHub(async (hub, options) => {
    const whole = hub.files.get("model.safetensors")!;
    await modelPath("acme/tiny", options);
    const oid = createHash("sha256").update(whole).digest("hex");
    const blobs = join(options.cacheDir, "models--acme--tiny", "blobs");
    await rm(join(options.cacheDir, "models--acme--tiny", "snapshots"), { recursive: true });
    await rm(join(blobs, oid));
    await writeFile(join(blobs, `${oid}.incomplete`), whole.slice(0, 777));
    hub.asked.length = 0;
    const folder = await modelPath("acme/tiny", options);
    assert.deepEqual(new Uint8Array(await readFile(join(folder, "model.safetensors"))), whole);
    assert.ok(weights(hub).some(({ range }) => range?.startsWith("bytes=777-")));
  });
});

Deno.test("a file with another hash than the hub names is dropped and refused", async () => {
  await withHub(async (hub, options) => {
    hub.corrupt = true;
    await assert.rejects(
      modelPath("acme/tiny", options),
      /model.safetensors came with hash .*expected/,
    );
    hub.corrupt = false;
    await modelPath("acme/tiny", options);
  });
});

Deno.test("without the hub, what was downloaded before serves; what was not is refused", async () => {
  await withHub(async (_hub, options, stop) => {
    const folder = await modelPath("acme/tiny", options);
    await assert.rejects(
      modelPath("acme/tiny@v9", options),
      /acme\/tiny@v9.*no such model or revision/,
    );
    await stop();
    const said: string[] = [];
    const log = (text: string) => said.push(text);
    assert.equal(await modelPath("acme/tiny", { ...options, log }), folder);
    assert.match(said.join(), /cannot be reached: using acme\/tiny@main/);
    await assert.rejects(modelPath("acme/other", options), UserError);
  });
});

Deno.test("a path that exists is that path, and one that is no name is left to the loader", async () => {
  assert.equal(await modelPath("lm"), "lm");
  assert.equal(await modelPath("./none/such"), "./none/such");
  await assert.rejects(loadModel("/no/such/folder"), /cannot open the model \/no\/such\/folder/);
});
