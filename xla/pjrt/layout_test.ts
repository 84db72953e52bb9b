import assert from "node:assert/strict";
import * as path from "node:path";
import {
  API,
  type FieldKind,
  layoutOf,
  PJRT_API_MAJOR,
  PJRT_API_MINOR,
  STRUCTS,
} from "./layout.ts";
import { BUFFER_TYPES, ERROR_CODES } from "./layout.ts";
import { cpuPlugin } from "../plugin.ts";

/** The header that the plugin was built from; undefined where there is no plugin. */
async function header(): Promise<string | undefined> {
  try {
    const { path: library } = await cpuPlugin();
    return Deno.readTextFileSync(path.join(path.dirname(library), "include/pjrt_c_api.h"));
  } catch (error) {
    console.log(`no header to compare with: ${(error as Error).message}`);
    return undefined;
  }
}

const original = await header();
const text = original?.replace(/\/\*[\s\S]*?\*\//g, "").replace(/\/\/[^\n]*/g, "");
const headerTest = (name: string, fn: (text: string) => void) =>
  Deno.test({
    name: text === undefined ? `${name} (no header here)` : name,
    ignore: text === undefined,
    fn: () => fn(text!),
  });

/** Fields of a C struct in order, with their kinds. */
function fieldsOf(text: string, name: string): [string, FieldKind][] {
  const body = new RegExp(`struct PJRT_${name} \\{([\\s\\S]*?)\\n\\};`).exec(text)?.[1];
  assert.ok(body !== undefined, `the header has no struct PJRT_${name}`);
  const flat = body
    .replace(/union \{[\s\S]*?\};/g, "int64_t value;")
    .replace(/\w+ \(\*(\w+)\)\([^)]*\)/g, "void* $1");
  return flat.split(";").map((line) => line.trim().replace(/\s+/g, " ")).filter(Boolean).map(
    (line) => {
      const [, type, field] = /^(.*?)(\w+)$/.exec(line)!;
      return [field!, kindOf(type!.replace("const", "").trim())];
    },
  );
}

function kindOf(type: string): FieldKind {
  if (type.includes("*") || type.includes("Callback")) return "ptr";
  switch (type) {
    case "size_t":
      return "size";
    case "int64_t":
      return "i64";
    case "bool":
      return "bool";
    case "int":
    case "PJRT_Buffer_Type":
    case "PJRT_HostBufferSemantics":
    case "PJRT_Error_Code":
    case "PJRT_NamedValue_Type":
      return "i32";
    default:
      throw new Error(`the header has a field of type '${type}', unknown here`);
  }
}

headerTest("the API's functions stand in the header's order", (text) => {
  const functions = [...text.matchAll(/_PJRT_API_STRUCT_FIELD\(PJRT_(\w+)\);/g)].map((m) => m[1]);
  assert.deepEqual([...API], functions);
});

headerTest("the version is the header's", (text) => {
  const defined = (name: string) => Number(new RegExp(`#define ${name} (\\d+)`).exec(text)?.[1]);
  assert.equal(defined("PJRT_API_MAJOR"), PJRT_API_MAJOR);
  assert.equal(defined("PJRT_API_MINOR"), PJRT_API_MINOR);
});

for (const [name, fields] of Object.entries(STRUCTS)) {
  headerTest(`the fields of ${name} are the header's`, (text) => {
    const [size, extension, ...rest] = fieldsOf(text, name);
    assert.deepEqual(size, ["struct_size", "size"]);
    assert.equal(extension?.[1], "ptr");
    assert.deepEqual(Object.entries(fields), rest);
  });
}

headerTest("error codes and element types have the header's numbers", (text) => {
  for (const [i, code] of ERROR_CODES.entries()) {
    assert.match(text, new RegExp(`PJRT_Error_Code_${code} = ${i}\\b`));
  }
  const types = /PJRT_Buffer_Type_INVALID[\s\S]*?\} PJRT_Buffer_Type;/.exec(text)![0];
  const order = [...types.matchAll(/PJRT_Buffer_Type_(\w+),/g)].map((m) => m[1]!);
  const names: Record<string, string> = { i1: "PRED", bf16: "BF16", c64: "C64" };
  for (const [ours, number] of Object.entries(BUFFER_TYPES)) {
    const theirs = names[ours] ?? ours.replace(/^ui/, "U").replace(/^i/, "S").replace(/^f/, "F");
    assert.equal(order.indexOf(theirs), number, `${ours} is ${theirs}`);
  }
});

Deno.test("fields are aligned to their size as C does", () => {
  const layout = layoutOf({ a: "i32", b: "ptr", c: "bool", d: "i64", e: "bool" });
  assert.deepEqual(layout.offsets, {
    struct_size: 0,
    extension_start: 8,
    a: 16,
    b: 24,
    c: 32,
    d: 40,
    e: 48,
  });
  assert.equal(layout.size, 49);
});

headerTest("a C compiler gives the same offsets and sizes", (_) => {
  const library = Deno.makeTempDirSync();
  try {
    const names = Object.keys(STRUCTS) as (keyof typeof STRUCTS)[];
    const prints = names.flatMap((name) => [
      ...Object.keys(STRUCTS[name]).filter((field) => name !== "NamedValue" || field !== "value")
        .map((field) =>
          `printf("${name}.${field} %zu\\n", offsetof(struct PJRT_${name}, ${field}));`
        ),
      `printf("${name} %zu\\n", (size_t)PJRT_${name}_STRUCT_SIZE);`,
    ]);
    Deno.writeTextFileSync(`${library}/pjrt.h`, original!);
    Deno.writeTextFileSync(
      `${library}/offsets.c`,
      `#include <stdio.h>\n#include "pjrt.h"\nint main(void) {\n${prints.join("\n")}\n}\n`,
    );
    const gcc = run("cc", ["-o", `${library}/offsets`, `${library}/offsets.c`]);
    if (gcc === undefined) return console.log("no C compiler here: offsets not compared");
    const lines = new Map(
      run(`${library}/offsets`, [])!.trim().split("\n").map((line) => {
        const [name, value] = line.split(" ");
        return [name!, Number(value)];
      }),
    );
    for (const name of names) {
      const { offsets, size } = layoutOf(STRUCTS[name]);
      assert.equal(size, lines.get(name), name);
      for (const [field, offset] of Object.entries(offsets)) {
        const expected = lines.get(`${name}.${field}`);
        if (expected !== undefined) assert.equal(offset, expected, `${name}.${field}`);
      }
    }
  } finally {
    Deno.removeSync(library, { recursive: true });
  }
});

function run(command: string, args: string[]): string | undefined {
  try {
    const output = new Deno.Command(command, { args, stderr: "inherit" }).outputSync();
    assert.ok(output.success, `${command} failed`);
    return new TextDecoder().decode(output.stdout);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
