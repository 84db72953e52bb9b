/** The sample stage with a generator of its own and with a server in its place. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { charTokenizer, saveModel, serveModel } from "../lm/mod.ts";
import { files, readJsonLines, SampleRecord } from "./artifacts.ts";
import { startEngine } from "./engine.ts";
import { modelFields, newModel } from "./new_model.ts";
import { sample } from "./sample.ts";

await startEngine(() => {});

const shape = {
  hidden: 16,
  layers: 1,
  heads: 2,
  keyValueHeads: 1,
  feedForward: 24,
  maxLength: 256,
};

async function sampled(folder: string, name: string, given: object): Promise<SampleRecord[]> {
  const [out, scratch] = [join(folder, name), join(folder, `${name}.scratch`)];
  for (const path of [out, scratch]) await Deno.mkdir(path);
  await sample.run(
    {
      params: sample.params.parse({
        task: "arithmetic",
        queries: 3,
        perQuery: 2,
        maxNewTokens: 12,
        slots: 4,
        ...given,
      }),
      inputs: { policy: { path: join(folder, "policy"), id: "p" } },
      outputs: { samples: { path: out } },
      scratch,
      seed: 5,
      signal: new AbortController().signal,
      progress: () => {},
      log: () => {},
      metric: () => {},
    } as unknown as Parameters<typeof sample.run>[0],
  );
  return await readJsonLines(SampleRecord, out, files.samples);
}

Deno.test("a server that serves the policy samples what the stage samples itself", async () => {
  const folder = await Deno.makeTempDir();
  const alphabet = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)).join("") +
    "\n";
  const model = newModel(modelFields.shape.parse(shape), charTokenizer(alphabet), 1);
  using served = serveModel(model, { name: "policy", slots: 2 });
  const http = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, served.fetch);
  try {
    await saveModel(join(folder, "policy"), model);
    const here = await sampled(folder, "here", {});
    const server = `http://127.0.0.1:${http.addr.port}/v1`;
    const there = await sampled(folder, "there", { server, serverModel: "policy" });
    const texts = (records: SampleRecord[]) => records.map(({ query, text }) => ({ query, text }));
    assert.equal(here.length, 6);
    assert.deepEqual(texts(there), texts(here));
    await assert.rejects(
      sampled(folder, "other", { server, serverModel: "other" }),
      /no model 'other'; it has policy/,
    );
    assert.equal(sample.params.safeParse({ task: "arithmetic", server: "ftp://x" }).success, false);
  } finally {
    await http.shutdown();
    await Deno.remove(folder, { recursive: true });
  }
});
