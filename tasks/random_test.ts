import assert from "node:assert/strict";
import { fractionOf, Random } from "./random.ts";

Deno.test("the sequence is that of the authors' C code from the state 1, 2, 3, 4", () => {
  const random = new Random(Uint32Array.of(1, 2, 3, 4));
  assert.deepEqual(
    Array.from({ length: 6 }, () => random.next()),
    [11520, 0, 5927040, 70819200, 2031721883, 1637235492],
  );
});

Deno.test("a seed gives the same stream, another seed another", () => {
  const draw = (seed: string) => {
    const random = Random.from(seed);
    return Array.from({ length: 4 }, () => random.next());
  };
  assert.deepEqual(draw("a"), draw("a"));
  assert.notDeepEqual(draw("a"), draw("b"));
});

Deno.test("integers cover both ends of their range evenly", () => {
  const random = Random.from("integers");
  const counts = new Map<number, number>();
  for (let i = 0; i < 6000; i++) {
    const value = random.integer(2, 7);
    counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  assert.deepEqual([...counts.keys()].sort(), [2, 3, 4, 5, 6, 7]);
  // 1000 expected each, standard deviation 29.
  for (const count of counts.values()) assert.ok(Math.abs(count - 1000) < 130, `${count}`);
});

Deno.test("a sample has no item twice", () => {
  const random = Random.from("sample");
  for (let i = 0; i < 50; i++) {
    assert.equal(new Set(random.sample(["a", "b", "c", "d"], 3)).size, 3);
  }
});

Deno.test("a text's fraction is fixed and lies in [0, 1)", () => {
  const fractions = Array.from({ length: 1000 }, (_, i) => fractionOf(`text ${i}`));
  assert.deepEqual(fractions[7], fractionOf("text 7"));
  assert.ok(fractions.every((fraction) => fraction >= 0 && fraction < 1));
  const mean = fractions.reduce((sum, fraction) => sum + fraction, 0) / fractions.length;
  assert.ok(Math.abs(mean - 0.5) < 0.05, `${mean}`);
});
