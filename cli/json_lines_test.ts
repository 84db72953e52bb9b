import assert from "node:assert/strict";
import { z } from "zod";
import { jsonLine, lineId, readJsonLines } from "./json_lines.ts";

async function read(text: string): Promise<{ number: number; id: string | undefined }[]> {
  const lines = [];
  const input = new Blob([text]).stream();
  for await (const { number, value } of readJsonLines(z.strictObject({ id: lineId }), input)) {
    lines.push({ number, id: JSON.stringify(value.id) });
  }
  return lines;
}

Deno.test("an id comes back as it was, whatever JSON it is", async () => {
  const ids = [
    '"é"',
    "-3",
    "1.5",
    "null",
    "true",
    '{"a":[1,{"b":null}]}',
    "[]",
    "12345678901234567890",
    "-9007199254740993",
    "1e+300",
  ];
  const lines = await read(ids.map((id) => `{"id": ${id}}\n`).join(""));
  assert.deepEqual(lines.map(({ id }) => id), ids);
  assert.deepEqual(await read("{}"), [{ number: 1, id: undefined }]);
});

Deno.test("lines may be empty, end as on Windows, and the last without an end", async () => {
  const lines = await read('\ufeff{"id":1}\r\n\r\n  \n{"id":2}');
  assert.deepEqual(lines, [{ number: 1, id: "1" }, { number: 4, id: "2" }]);
});

Deno.test("a line that cannot be used is named by its number", async () => {
  const good = '{"id":1}\n\n';
  await assert.rejects(read(good + '{"id":'), /^UserError: line 3 of the input is not JSON/);
  await assert.rejects(read(good + "[1]"), /line 3 of the input: .*expected object/);
  await assert.rejects(read(good + "null"), /line 3 of the input: .*expected object/);
  await assert.rejects(read(good + '{"idd":1}'), /line 3 of the input: .*"idd"/);
});

Deno.test("what some readers take for the end of a line is escaped in a line", () => {
  const text = "a\u2028b\u2029c\u0085d\ne\u00e9";
  assert.equal(jsonLine({ text }), '{"text":"a\\u2028b\\u2029c\\u0085d\\ne\u00e9"}');
  assert.deepEqual(JSON.parse(jsonLine({ text })), { text });
});
