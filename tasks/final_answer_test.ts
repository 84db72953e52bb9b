import assert from "node:assert/strict";
import { canonicalNumber, extractFinalAnswer, gradeFinalNumber } from "./final_answer.ts";

Deno.test("the answer is the rest of the line after the first ####", () => {
  assert.equal(extractFinalAnswer("2+2=4\n#### 4"), "4");
  assert.equal(extractFinalAnswer("####4\nand more"), "4");
  assert.equal(extractFinalAnswer("#### 12\n\nQ: another\n#### 17"), "12");
});

Deno.test("a completion without ####, or with nothing behind it, has no answer", () => {
  for (const text of ["", "the answer is 4", "####", "####   \n4"]) {
    assert.equal(extractFinalAnswer(text), null, JSON.stringify(text));
  }
});

Deno.test("numbers written differently are one number", () => {
  const same: [string, string[]][] = [
    ["1200", [
      "1200",
      "1,200",
      "$1,200",
      "$ 1200.",
      "1200.00",
      "+1200",
      "01200",
      "\\$1200",
      "**1200**",
    ]],
    ["-3.5", ["-3.5", "−3.50", "-$3.50", "$-3.5"]],
    ["0.2", [".2", "0.20", "0.2 dollars"]],
    ["0", ["0", "-0", "0.0", "000"]],
    ["66", ["66 dollars", "66%", "66 miles per hour", "66."]],
    ["12345678901234567890", ["12,345,678,901,234,567,890"]],
  ];
  for (const [canonical, texts] of same) {
    for (const text of texts) assert.equal(canonicalNumber(text), canonical, text);
  }
});

Deno.test("what is not one number is refused rather than guessed", () => {
  const none = [
    "",
    ".",
    "-",
    "$",
    "3/4",
    "1,20",
    "12,34,567",
    "5 or 6",
    "5 million",
    "2 dozen",
    "x",
  ];
  for (const text of [...none, "12+5", "60*5=300", "1.2.3", "--5", "5 half"]) {
    assert.equal(canonicalNumber(text), null, text);
  }
});

Deno.test("the grade says what was found and why it does not count", () => {
  assert.deepEqual(gradeFinalNumber("483", "a\n#### 483"), {
    correct: true,
    extracted: "483",
    reason: "equal",
  });
  assert.deepEqual(gradeFinalNumber("483", "a\n#### 484"), {
    correct: false,
    extracted: "484",
    reason: "not 483",
  });
  assert.equal(gradeFinalNumber("483", "483").reason, "no answer after ####");
  assert.equal(gradeFinalNumber("483", "#### lots").reason, "the answer is not a number");
});
