import assert from "node:assert/strict";
import { examinationText, examineBackends, requireUsable, useBackend } from "./mod.ts";
import { hasNvidiaDriver } from "./cuda.ts";
import { BACKENDS } from "./use_backend.ts";

const { name } = await useBackend();

Deno.test("every backend is found, or has a reason and a way to get it", async () => {
  const examination = await examineBackends();
  const names = examination.findings.map(({ backend }) => backend);
  assert.deepEqual([...names, "xla"].sort(), [...BACKENDS].sort());
  for (const { usable, found, get } of examination.findings) {
    assert.ok(found.length > 0);
    assert.equal(usable, get === undefined);
  }
  const text = examinationText(examination);
  assert.match(text, /^(used|found) +cpu +tfjs's reference/m);
  assert.match(text, /get it: deno add npm:@tensorflow\/tfjs-node@4\.22\.0/);
  if (name === "xla" && !hasNvidiaDriver()) {
    assert.equal(examination.used, "xla:cpu");
    assert.match(
      text,
      /^used +xla:cpu .*: PJRT 0\.81 \(the same as this program's 0\.81\), cpu, 1 × cpu/m,
    );
    assert.match(text, /\nxla:cpu is used by default$/);
  }
});

Deno.test("a backend that is asked for and cannot be used is an error with the reason", async () => {
  const spec = "/nowhere/plugin.so";
  const examination = await examineBackends(spec);
  assert.equal(examination.used, undefined);
  assert.match(examinationText(examination, spec), /nothing can be used for --backend \/nowhere/);
  assert.throws(
    () => requireUsable(examination, spec),
    /plugin\.so' cannot be used here: .*no such file/,
  );
});

Deno.test("packages and drivers that are missing are named by useBackend with the way to get them", async () => {
  const { findings } = await examineBackends();
  for (const { backend, usable } of findings) {
    if (usable) continue;
    await assert.rejects(
      () => useBackend(backend),
      /not installed: deno add|no NVIDIA driver|jax\[cuda|WebGPU|already runs|package/,
    );
  }
});
