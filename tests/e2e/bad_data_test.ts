/**
 * Data, checkpoints and disks that fail a run: exit code 1, a message that names the user's own file,
 * no stack trace, and neither results nor half an artifact left behind. And data on which a model is
 * merely bad, which is no failure.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { commandLine, type Ended, filesBelow, inFolder, run, tiny, told } from "./program.ts";

const good = [
  { question: "Ann has 2 hens and buys 3. How many hens?", answer: "2 + 3 = <<2+3=5>>5\n#### 5" },
  { question: "Bo had 9 nuts and ate 4. How many left?", answer: "9 - 4 = <<9-4=5>>5\n#### 5" },
].map((row) => JSON.stringify(row));

/** GSM8K's two files with these lines. */
async function writeData(folder: string, train: string[], test = good): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(join(folder, "train.jsonl"), train.join("\n") + "\n");
  await Deno.writeTextFile(join(folder, "test.jsonl"), test.join("\n") + "\n");
}

/** Checks how a run failed: its last line is the error, or after it how to go on once it is mended. */
function failed({ code, stderr }: Ended, says: RegExp, begun = true): void {
  const lines = stderr.trimEnd().split("\n");
  if (begun) assert.match(lines.pop()!, /^go on with: pipeline resume \w/);
  assert.match(lines.at(-1)!, says);
  assert.equal(code, 1);
  assert.doesNotMatch(stderr, /^\s+at |--debug/m, "no stack trace");
}

/** Files of a store that say an artifact or a result is complete, or that are under way. */
const kept = /^\.oreo\/store\/(?:artifacts|records|tmp|work)\/|^results/;

const lines: Readonly<Record<string, [line: string, says: RegExp]>> = {
  "a line cut off": ['{"question": "How', /data of mine\/train\.jsonl, line 3: not JSON/],
  "a line without its answer": [
    '{"question": "How many?"}',
    /data of mine\/train\.jsonl, line 3: field 'answer'/,
  ],
  "an answer without its number": [
    '{"question": "How many?", "answer": "Five."}',
    /data of mine\/train\.jsonl, line 3: the answer has no '#### n' line/,
  ],
};

for (const [name, [line, says]] of Object.entries(lines)) {
  Deno.test(`${name} is told by file and line`, () =>
    inFolder(async (folder) => {
      await writeData(join(folder, "data of mine"), [...good, line]);
      const args = ["pipeline", "gsm8k", "--set", "data.path=data of mine", "--out", "results"];
      failed(await run(args, { cwd: folder }), says);
      // The data came into the store as they are; nothing was made of them.
      const left = (await filesBelow(folder)).filter((file) => kept.test(file));
      assert.equal(left.length, 1, left.join(" "));
      assert.match(left[0]!, /artifacts/);
    }));
}

Deno.test("a folder without one of the two files is told by its name", () =>
  inFolder(async (folder) => {
    await writeData(join(folder, "data"), good);
    await Deno.remove(join(folder, "data", "test.jsonl"));
    const ended = await run(["pipeline", "gsm8k", "--set", "data.path=data"], { cwd: folder });
    failed(ended, /no test file in 'data': looked for test\.jsonl/);
  }));

/** A safetensors file of zeros. */
function safetensors(shapes: Readonly<Record<string, number[]>>): Uint8Array {
  let end = 0;
  const entries = Object.entries(shapes).map(([name, shape]) => {
    const begin = end;
    end += 4 * shape.reduce((size, n) => size * n, 1);
    return [name, { dtype: "F32", shape, data_offsets: [begin, end] }];
  });
  const header = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const file = new Uint8Array(8 + header.length + end);
  new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true);
  file.set(header, 8);
  return file;
}

Deno.test("a checkpoint whose shapes do not fit its config is told by tensor and shapes", () =>
  inFolder(async (folder) => {
    const model = join(folder, "model");
    await Deno.mkdir(model);
    const config = {
      model_type: "qwen2",
      architectures: ["Qwen2ForCausalLM"],
      vocab_size: 16,
      hidden_size: 8,
      intermediate_size: 16,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      num_key_value_heads: 1,
      max_position_embeddings: 64,
      rms_norm_eps: 1e-6,
      rope_theta: 10000,
      tie_word_embeddings: true,
    };
    await Deno.writeTextFile(join(model, "config.json"), JSON.stringify(config));
    const weights = safetensors({ "model.embed_tokens.weight": [16, 4] });
    await Deno.writeFile(join(model, "model.safetensors"), weights);
    const args = ["pipeline", "demo", ...tiny, "--set", "model.path=model", "--out", "results"];
    const ended = await run(args, { cwd: folder });
    failed(
      ended,
      /model\/model\.safetensors: tensor 'model\.embed_tokens\.weight' has shape \[16,4\], expected \[16,8\]/,
    );
    const left = await filesBelow(folder);
    assert.deepEqual(left.filter((file) => file.startsWith("results")), []);
  }));

Deno.test("a model that solves nothing is reported as it is", () =>
  inFolder(async (folder) => {
    await writeData(join(folder, "data"), Array.from({ length: 64 }, (_, i) => good[i % 2]!));
    const options = tiny.filter((word) => !word.startsWith("task.") && word !== "--set")
      .concat(
        "data.path=data",
        "sft.epochs=1",
        "sample.queries=4",
        "search.queries=2",
        "search.beams=1",
      )
      .flatMap((setting) => ["--set", setting]);
    const args = ["pipeline", "gsm8k", ...options, "--out", "results", "--executor", "inline"];
    const { code, stdout, stderr } = await run(args, { cwd: folder });
    assert.equal(code, 0, stderr);
    assert.match(stderr, /none of \d+ solutions is right: the policy stays as it is/);
    assert.match(stdout, /^Rejection sampling +1 +greedy +0\.0 %/m);
    const report = await Deno.readTextFile(join(folder, "results", "report.json"));
    for (const { accuracy, n } of JSON.parse(report).methods) {
      assert.equal(accuracy, 0);
      assert.equal(n, 2);
    }
  }));

/**
 * A disk of this size that only the commands run on it see, and that goes with them: a file system in
 * memory, mounted in a namespace of their own.
 */
function onSmallDisk(disk: string, size: string, words: readonly string[], cwd: string) {
  const script = 'mount -t tmpfs -o "size=$1" tmpfs "$2" || exit 77; shift 2; "$@"; code=$?; ' +
    'cd / && find "$DISK" -type f >&2; exit $code';
  return new Deno.Command("unshare", {
    args: [...namespaces, "sh", "-c", script, "sh", size, disk, ...words],
    cwd,
    env: { NO_COLOR: "1", DISK: disk },
    stdin: "null",
  });
}

const namespaces = Deno.uid() === 0 ? ["--mount"] : ["--map-root-user", "--mount"];

function canMount(): boolean {
  if (Deno.build.os !== "linux") return false;
  try {
    const args = [...namespaces, "sh", "-c", "mount -t tmpfs tmpfs /mnt"];
    const { success } = new Deno.Command("unshare", { args, stderr: "null" }).outputSync();
    return success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

const mountable = canMount();
if (!mountable) console.log("skipped: no small disk can be mounted here, so none can be filled");

const disks: Readonly<Record<string, [size: string, place: (disk: string) => string[]]>> = {
  "a store on a full disk": ["96k", (disk) => ["--store", `${disk}/store`]],
  "a journal on a full disk": ["64k", (disk) => ["--journal", `${disk}/journal.sqlite`]],
};

for (const [name, [size, place]] of Object.entries(disks)) {
  Deno.test({
    name: `${name} ends the run with the way out and nothing half-written`,
    ignore: !mountable,
    fn: () =>
      inFolder(async (folder) => {
        const disk = join(folder, "disk");
        await Deno.mkdir(disk);
        const words = commandLine([
          "pipeline",
          "demo",
          ...tiny,
          "--out",
          "results",
          ...place(disk),
        ]);
        const output = await onSmallDisk(disk, size, words, folder).output();
        const { code, stderr } = told(output);
        const all = stderr.trimEnd().split("\n");
        const onDisk = all.filter((line) => line.startsWith(disk));
        failed(
          { code, stdout: "", stderr: all.filter((line) => !line.startsWith(disk)).join("\n") },
          /disk.*: the disk is full\. Make room and start again/,
          // Where there is no room for a journal, no run begins.
          name !== "a journal on a full disk",
        );
        assert.deepEqual(
          onDisk.filter((file) => /store\/(?:artifacts|records|tmp|work|blobs)\//.test(file)),
          [],
        );
        assert.deepEqual((await filesBelow(folder)).filter((f) => f.startsWith("results")), []);
      }),
  });
}
