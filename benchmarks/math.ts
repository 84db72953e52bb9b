/** Gradings a second on typical answers: Math-Verify and this project on the same pairs, one thread each. */
import { closeAlgebra, equalAnswers } from "../tasks/mod.ts";
import { median, pythonEnvironment, startPeer } from "./peer.ts";
import { printTable } from "./table.ts";

const pairs: [gold: string, prediction: string][] = [];
for (let n = 2; n < 52; n++) {
  pairs.push(
    [`${n}`, `${n}`],
    [`\\frac{${n}}{${n + 1}}`, `\\dfrac{${2 * n}}{${2 * n + 2}}`],
    [`${n}\\sqrt{2}`, `\\sqrt{${2 * n * n}}`],
    [`(${n}, -1)`, `\\left(${n}, -1\\right)`],
    [`x^2 + ${n}x`, `x(x + ${n})`],
    [`${n}\\pi`, `${n + 1}\\pi`],
    [`[0, ${n})`, `0 \\le x < ${n}`],
    [`${n * 1000}`, `${n},000`],
  );
}

/** Takes turns with the peer and prints both. */
export async function benchMath(): Promise<void> {
  const folder = await pythonEnvironment("math-verify", ["math-verify[antlr4_13_2]==0.9.0"]);
  const peer = await startPeer(`${folder}/bin/python`, "math_verify_peer.py");
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 0; round < 3; round++) {
    theirs.push(await peer.seconds({ pairs }));
    const started = performance.now();
    for (const [gold, prediction] of pairs) await equalAnswers(gold, prediction);
    ours.push((performance.now() - started) / 1000);
  }
  await peer.close();
  await closeAlgebra();
  const [a, b] = [theirs, ours].map((seconds) => pairs.length / median(seconds)) as [
    number,
    number,
  ];
  printTable("mathematics answers, one thread", peer.name, [
    { name: `${pairs.length} pairs`, unit: "gradings/s", peer: a, ours: b, ratio: b / a },
  ]);
}
