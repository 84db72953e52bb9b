import assert from "node:assert/strict";
import { useBackend } from "./mod.ts";
import { Programs } from "./programs.ts";
import { xlaBackend } from "./use_backend.ts";

await useBackend();
const client = xlaBackend()?.client;
const TEXT = `module @m { func.func public @main(%a: tensor<f32>) -> tensor<f32> {
  %0 = stablehlo.add %a, %a : tensor<f32>
  return %0 : tensor<f32> } }`;

const cacheTest = (name: string, fn: (folder: string) => void) =>
  Deno.test({
    name: client === undefined ? `${name} (no plugin here)` : name,
    ignore: client === undefined,
    fn: () => {
      const folder = Deno.makeTempDirSync();
      try {
        fn(folder);
      } finally {
        Deno.removeSync(folder, { recursive: true });
      }
    },
  });

function double(programs: Programs, value: number): number {
  const x = client!.bufferFromHost(Float32Array.of(value), "f32", []);
  const [y] = programs.get(TEXT, "double").call([x]);
  const out = new Float32Array(1);
  client!.readSync(y!, out);
  return out[0]!;
}

function files(folder: string): string[] {
  return [...Deno.readDirSync(folder)].flatMap((entry) =>
    entry.isDirectory ? files(`${folder}/${entry.name}`) : [`${folder}/${entry.name}`]
  );
}

cacheTest("a second process compiles nothing", (folder) => {
  const first = new Programs(client!, "plugin 1", folder);
  assert.equal(double(first, 3), 6);
  assert.equal(double(first, 4), 8);
  assert.deepEqual(first.stats, { compiled: 1, loaded: 0 });
  const second = new Programs(client!, "plugin 1", folder);
  assert.equal(double(second, 5), 10);
  assert.deepEqual(second.stats, { compiled: 0, loaded: 1 });
});

cacheTest("another build of the plugin does not take over compiled code", (folder) => {
  double(new Programs(client!, "plugin 1", folder), 1);
  const other = new Programs(client!, "plugin 2", folder);
  double(other, 1);
  assert.deepEqual(other.stats, { compiled: 1, loaded: 0 });
});

cacheTest("a corrupt or cut-off entry is dropped with a warning and made anew", (folder) => {
  double(new Programs(client!, "plugin", folder), 1);
  const [file] = files(folder);
  const whole = Deno.readFileSync(file!);
  const flipped = whole.slice();
  flipped[whole.length >> 1]! ^= 1;
  const warn = console.warn;
  for (const bad of [flipped, whole.slice(0, 100), whole.slice(0, 5), new Uint8Array()]) {
    Deno.writeFileSync(file!, bad);
    const warnings: string[] = [];
    console.warn = (text) => warnings.push(text);
    try {
      const programs = new Programs(client!, "plugin", folder);
      assert.equal(double(programs, 2), 4);
      assert.deepEqual(programs.stats, { compiled: 1, loaded: 0 });
    } finally {
      console.warn = warn;
    }
    assert.equal(warnings.length, 1);
    assert.match(warnings[0]!, /dropping the cached program '.*': its checksum does not match/);
    // Compiled code is not the same bytes twice; that it loads is what counts.
    const again = new Programs(client!, "plugin", folder);
    assert.equal(double(again, 2), 4);
    assert.deepEqual(again.stats, { compiled: 0, loaded: 1 });
  }
});

cacheTest("a folder that cannot be written costs a warning, not the result", (folder) => {
  Deno.writeTextFileSync(`${folder}/file`, "");
  const warnings: string[] = [];
  const warn = console.warn;
  console.warn = (text) => warnings.push(text);
  try {
    assert.equal(double(new Programs(client!, "plugin", `${folder}/file/cache`), 2), 4);
  } finally {
    console.warn = warn;
  }
  assert.equal(warnings.length, 1);
});

cacheTest(
  "XLA_DUMP writes the traced kernels, the StableHLO, the optimised program and its memory plan",
  (folder) => {
    Deno.env.set("XLA_DUMP", folder);
    try {
      new Programs(client!, "plugin", undefined).get(TEXT, "my step", {
        ops: ["Add float32[] -> float32[]"],
      });
    } finally {
      Deno.env.delete("XLA_DUMP");
    }
    assert.deepEqual(files(folder).map((file) => file.slice(folder.length + 1)).sort(), [
      "0000-my_step.memory.txt",
      "0000-my_step.mlir",
      "0000-my_step.ops.txt",
      "0000-my_step.optimized.hlo",
    ]);
    const read = (ending: string) => Deno.readTextFileSync(`${folder}/0000-my_step.${ending}`);
    assert.equal(read("mlir"), TEXT);
    assert.equal(read("ops.txt"), "Add float32[] -> float32[]\n");
    assert.match(read("optimized.hlo"), /^HloModule m.*is_scheduled=true/);
    assert.match(read("memory.txt"), /\(arguments 4 bytes, results 4 bytes, .*\narguments 4\n/);
  },
);
