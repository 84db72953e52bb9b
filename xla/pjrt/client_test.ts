import assert from "node:assert/strict";
import { PjrtError, Plugin } from "./api.ts";
import { Client } from "./client.ts";
import { encodeCompileOptions } from "./options.ts";
import { useBackend } from "../mod.ts";
import { xlaBackend } from "../use_backend.ts";

await useBackend();
const backend = xlaBackend();
const clientTest = (name: string, fn: (client: Client) => void | Promise<void>) =>
  Deno.test({
    name: backend === undefined ? `${name} (no plugin here)` : name,
    ignore: backend === undefined,
    fn: () => fn(backend!.client),
  });

const ADD = `module @m { func.func public @main(
  %a: tensor<2x2xf32> {tf.aliasing_output = 0 : i32}, %b: tensor<2x2xf32>) -> tensor<2x2xf32> {
  %0 = stablehlo.add %a, %b : tensor<2x2xf32>
  return %0 : tensor<2x2xf32> } }`;

clientTest("a client knows its platform and devices", (client) => {
  assert.equal(client.platform, "cpu");
  assert.equal(client.devices.length, 1);
  assert.equal(client.devices[0]!.kind, "cpu");
});

clientTest("buffers go to the device and come back, empty and scalar ones too", async (client) => {
  for (const shape of [[2, 3], [], [0, 4], [1]]) {
    const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i + 0.5);
    const buffer = client.bufferFromHost(data, "f32", shape);
    const [sync, async] = [new Float32Array(data.length), new Float32Array(data.length)];
    client.readSync(buffer, sync);
    await client.read(buffer, async);
    assert.deepEqual(sync, data);
    assert.deepEqual(async, data);
    client.destroyBuffer(buffer);
  }
});

clientTest("a donated input is gone unless the call keeps it", (client) => {
  const executable = client.compile(ADD, "add");
  const one = client.bufferFromHost(new Float32Array(4).fill(1), "f32", [2, 2]);
  const two = client.bufferFromHost(new Float32Array(4).fill(2), "f32", [2, 2]);
  const out = new Float32Array(4);
  executable.inputs(2).set([one, two]);
  executable.run([0]);
  const kept = executable.outputs[0]!;
  client.readSync(one, out);
  assert.deepEqual([...out], [1, 1, 1, 1]);
  const [donated] = executable.call([one, two]);
  client.readSync(donated!, out);
  assert.deepEqual([...out], [3, 3, 3, 3]);
  assert.throws(() => client.readSync(one, out), (error: Error) => {
    assert.ok(error instanceof PjrtError);
    assert.equal(error.code, "INVALID_ARGUMENT");
    assert.match(error.message, /^reading a tensor from the device: INVALID_ARGUMENT: .*donated/);
    return true;
  });
  for (const buffer of [one, two, kept, donated!]) client.destroyBuffer(buffer);
  assert.equal(executable.memoryPlan().aliased, 16);
  executable.destroy();
});

clientTest("a serialised program runs after it is loaded", (client) => {
  const executable = client.compile(ADD, "add");
  const loaded = client.deserialize(executable.serialize(), "add");
  const one = client.bufferFromHost(new Float32Array(4).fill(1), "f32", [2, 2]);
  const [sum] = loaded.call([one, client.bufferFromHost(Float32Array.of(1, 2, 3, 4), "f32", [4])]);
  const out = new Float32Array(4);
  client.readSync(sum!, out);
  assert.deepEqual([...out], [2, 3, 4, 5]);
});

clientTest("a program that is not StableHLO is refused with the compiler's words", (client) => {
  assert.throws(() => client.compile("module {", "broken"), /compiling broken: .*expected/);
  assert.throws(
    () => client.deserialize(new Uint8Array(100), "nonsense"),
    (error: Error) =>
      error instanceof PjrtError && /loading the compiled nonsense/.test(error.message),
  );
});

clientTest("wrong arguments are an error of the call, not a crash", (client) => {
  const executable = client.compile(ADD, "add");
  const one = client.bufferFromHost(new Float32Array(4), "f32", [2, 2]);
  assert.throws(() => executable.call([one]), /running add: INVALID_ARGUMENT/);
  const small = client.bufferFromHost(new Float32Array(2), "f32", [2]);
  assert.throws(() => {
    const [out] = executable.call([small, one]);
    client.readSync(out!, new Float32Array(4));
  }, PjrtError);
});

Deno.test("a file that is not a plugin is refused by name", () => {
  const folder = Deno.makeTempDirSync();
  try {
    const file = `${folder}/plugin.so`;
    assert.throws(
      () => Plugin.open(file),
      /opening the PJRT plugin '.*plugin.so': there is no such/,
    );
    Deno.writeTextFileSync(file, "hello");
    assert.throws(() => Plugin.open(file), /does not load as a library/);
    const library = ["libm.so.6", "libc.so.6"].map((name) => `/lib/x86_64-linux-gnu/${name}`)
      .find((name) => {
        try {
          return Deno.statSync(name).isFile;
        } catch {
          return false;
        }
      });
    if (library === undefined) return console.log("no other library here to try");
    assert.throws(
      () => Plugin.open(library),
      /not a PJRT plugin \(it has no function GetPjrtApi\)/,
    );
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

/** Compiles a C file that is a plugin of the given PJRT version without any function. */
function fakePlugin(folder: string, major: number, minor: number): string | undefined {
  const source = `${folder}/fake${major}_${minor}.c`;
  Deno.writeTextFileSync(
    source,
    `#include <stddef.h>
     struct { size_t size; void *ext; size_t vsize; void *vext; int major, minor; void *fns[3]; }
       api = { 64, 0, 24, 0, ${major}, ${minor} };
     void *GetPjrtApi(void) { return &api; }`,
  );
  const library = source.replace(/c$/, "so");
  try {
    const args = ["-shared", "-fPIC", "-o", library, source];
    assert.ok(new Deno.Command("cc", { args }).outputSync().success);
    return library;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

Deno.test("a plugin of another PJRT version, or without a function, is refused by version", () => {
  const folder = Deno.makeTempDirSync();
  try {
    const cases = [
      [1, 3, /speaks PJRT 1\.3, this program 0\.81/],
      [0, 2, /speaks PJRT 0\.2, older than/],
      [0, 99, /version 0\.99\) does not have PJRT_Plugin_Initialize/],
    ] as const;
    for (const [major, minor, message] of cases) {
      const library = fakePlugin(folder, major, minor);
      if (library === undefined) return console.log("no C compiler here: fake plugins not tried");
      assert.throws(() => Plugin.open(library), message);
    }
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("a newer plugin that refuses our structs is named with both versions", () => {
  const folder = Deno.makeTempDirSync();
  try {
    const source = `${folder}/newer.c`;
    Deno.writeTextFileSync(
      source,
      `#include <stddef.h>
       #include <string.h>
       static const char *text = "Unexpected PJRT_Plugin_Initialize_Args size: expected 24, got 16.";
       static void destroy(void *args) {}
       static void message(void *args) { ((const char **)args)[3] = text; ((size_t *)args)[4] = strlen(text); }
       static void *code(void *args) { ((int *)args)[6] = 3; return 0; }
       static void *initialize(void *args) { static int error; return &error; }
       struct { size_t size; void *ext; size_t vsize; void *vext; int major, minor; void *fns[4]; }
         api = { 72, 0, 24, 0, 0, 99, { destroy, message, code, initialize } };
       void *GetPjrtApi(void) { return &api; }`,
    );
    const args = ["-shared", "-fPIC", "-o", `${folder}/newer.so`, source];
    try {
      assert.ok(new Deno.Command("cc", { args }).outputSync().success);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) {
        return console.log("no C compiler here: not tried");
      }
      throw error;
    }
    assert.throws(
      () => Plugin.open(`${folder}/newer.so`),
      /speaks PJRT 0\.99, newer than this program's 0\.81, and no longer understands it \(Unexpected/,
    );
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("compile options are the smallest proto that works", () => {
  assert.deepEqual([...encodeCompileOptions({ numPartitions: 1 })], [0x1a, 4, 0x20, 1, 0x28, 1]);
  const four = [...encodeCompileOptions({ numPartitions: 4 })];
  assert.deepEqual(four.slice(0, 8), [0x1a, four.length - 2, 0x20, 1, 0x28, 4, 0x30, 1]);
  assert.deepEqual(four.slice(-3), [0x98, 0x01, 1], "Shardy partitions it");
});
